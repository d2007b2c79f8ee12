"""A training run, written down: the schema of `recipes/*.yaml`.

A recipe may `extends:` another (a shipped name or a path relative to itself); `--set a.b=1` goes on top; the
resolved whole is saved in the run and can be run again.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field, create_model, field_validator, model_validator

from govor.config import Settings, apply_overrides, merge, no_truth, parse, read_yaml
from govor.errors import GovorError, nearest
from govor.examples.phases import Schedule
from govor.examples.settings import Examples
from govor.families.lora import Lora
from govor.families.registry import family_names, settings_of
from govor.families.settings import FamilySettings, Gates
from govor.files import check_ordinary, exists, shortened
from govor.metrics.metric import LOSS
from govor.runs import NAME, Json, Workspace

_MOST_PARENTS = 16
_HERE = Workspace()


Rate = Annotated[float, Field(gt=0, le=1), BeforeValidator(no_truth)]
Weight = Annotated[float, Field(ge=0), BeforeValidator(no_truth)]
Groups = Annotated[dict[str, Rate], Field(min_length=1)]


class Source(Settings):
    """One dataset of a run."""

    split: str = Field(description="folder with train.jsonl, validation.jsonl and test.jsonl, as `govor split` writes")
    weight: Weight | None = Field(None, description="share of the draws, before normalising; by its rows if unset")
    min_quality: float | None = Field(None, description="rows with a lower quality_score, or none, are left out")
    best_hours: float | None = Field(None, gt=0, description="only so many hours, those of the best quality_score")


class Data(Settings):
    """What is learned from: one split, or several sources that are mixed."""

    split: str | None = Field(None, description="folder with train.jsonl, validation.jsonl and test.jsonl")
    sources: dict[str, Source] = Field({}, description="several splits by name, mixed by their weights")
    epoch: str = Field(
        "rows", description="an epoch is as many draws as there are rows, or as see the named source once"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Data:
        if (self.split is None) == (not self.sources):
            given = "neither" if self.split is None else "both"
            raise ValueError(f"{given} of data.split and data.sources is set; give one (data.split=null takes it back)")
        for name in self.sources:
            if not NAME.fullmatch(name):
                raise ValueError(f"the source name '{name}' must begin with a plain letter or digit and hold no spaces")
        weights = [source.weight for source in self.sources.values()]
        if any(weight is None for weight in weights) and any(weight is not None for weight in weights):
            raise ValueError("some of data.sources have a weight and some have none; give all of them one, or none")
        if weights and not any(weight is None or weight > 0 for weight in weights):
            raise ValueError("every weight of data.sources is 0, so nothing would be drawn; raise one")
        if self.epoch != "rows" and self.epoch not in self.sources:
            raise ValueError(f"epoch is '{self.epoch}', and 'rows' or the name of a source was wanted")
        return self

    def by_name(self) -> dict[str, Source]:
        """The sources; a single split goes by its folder's name."""
        return self.sources if self.split is None else {Path(self.split).name: Source(split=self.split)}


class PhaseSettings(Settings):
    """A stretch of a run with data, schedule and trained parts of its own."""

    name: str = Field(description="what it is called in tables and logs")
    epochs: float = Field(gt=0, le=10_000, description="epochs of this phase's own mixture")
    epoch: str | None = Field(None, description="the epoch rule; data.epoch if unset")
    max_steps: int | None = Field(None, ge=1, description="end the phase here even if its epochs are not over")
    weights: dict[str, Weight] | None = Field(None, description="weights by source; unnamed ones are not drawn")
    groups: Groups | None = Field(None, description="peak rate by parameter group; finetune.groups if unset")
    lr: Rate | None = Field(None, description="peak rate of everything; finetune.lr if unset")
    schedule: Schedule | None = Field(None, description="finetune.schedule if unset")
    warmup_steps: int | None = Field(None, ge=0, description="finetune.warmup_steps if unset")

    @model_validator(mode="after")
    def _one_kind_of_rate(self) -> PhaseSettings:
        if self.lr is not None and self.groups is not None:
            raise ValueError(f"phase '{self.name}' has both lr and groups; the rates stand in groups, drop lr")
        return self


class Finetune(Settings):
    """The training loop."""

    method: Literal["full", "lora"] = Field("full", description="all weights, or adapters")
    lora: Lora = Lora()
    clips_per_step: int = Field(16, ge=1, description="effective batch: clips per optimiser step over all devices")
    max_batch_audio_seconds: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        120.0, description="context seconds one device takes at once; accumulation follows. auto: probed on a GPU"
    )
    epochs: float = Field(3.0, gt=0, le=10_000, description="passes over the data, where no phases are listed")
    phases: tuple[PhaseSettings, ...] = Field(
        (), description="phases in order, each with its own data, schedule and parts"
    )
    max_steps: int | None = Field(None, ge=1, description="end here even if the epochs are not over")
    lr: Rate = Field(1e-5, description="peak learning rate of AdamW")
    groups: Groups | None = Field(
        None, description="peak rate by parameter group, all others frozen (encoder.top8, projector, decoder, head, …)"
    )
    schedule: Schedule = Field("linear", description="decay after warm-up")
    warmup_steps: int | None = Field(
        None, ge=0, description="linear rise from 0 to lr; a tenth of the phase by default"
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW, on matrices only")
    beta2: float = Field(0.98, gt=0, lt=1, description="AdamW's second-moment decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in every layer of the model")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all tokens")
    activation_checkpointing: bool = Field(False, description="compute activations twice instead of keeping them")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where this hardware measures faster with it, fp16 on a GPU without bf16"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="orders the data and every random choice")
    loader_workers: int = Field(1, ge=0, description="processes that decode ahead")

    @model_validator(mode="after")
    def _phases_keep_groups(self) -> Finetune:
        for phase in self.phases:
            if phase.lr is not None and self.groups is not None:
                raise ValueError(
                    f"phase '{phase.name}' has an lr for everything and finetune.groups freezes what it does not name; "
                    "give the phase groups of its own"
                )
        return self


class Evaluation(Settings):
    """How the run is watched and which checkpoint is best."""

    evaluations: int = Field(20, ge=1, description="evaluations per run; each writes a checkpoint")
    metric: str = Field(LOSS.name, description="the best checkpoint has the best of this; the task's first if unset")
    decode_clips: int = Field(64, ge=0, description="validation clips of each source transcribed at each evaluation")
    loss_clips: int = Field(256, ge=1, description="validation clips of each source whose loss is taken each time")
    keep_best: int = Field(
        2, ge=1, description="checkpoints kept by the metric, beside the best 3 by loss and the last"
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many evaluations of the last phase without a gain; never if unset"
    )
    min_gain: float = Field(0.0, ge=0, description="what counts as a gain, in units of the metric")
    average: int = Field(0, ge=0, le=20, description="after the run, average so many best checkpoints; 0 is off")

    @model_validator(mode="after")
    def _metric_measured(self) -> Evaluation:
        if self.metric != "loss" and self.decode_clips == 0:
            raise ValueError(
                f"metric is '{self.metric}' and decode_clips is 0, so it would never be measured; "
                "set decode_clips, or metric: loss"
            )
        if self.average == 1:
            raise ValueError("average is 1, and an average needs at least 2 checkpoints; 0 is off")
        return self


class Acceptance(Gates):
    """What a run must reach before it is used; `govor accept` judges it, by stage where a team goes in stages.

    `of_stage` is the class of one stage's gates.
    """

    of_stage: ClassVar[type[Gates]] = Gates

    stages: dict[str, Gates] = Field(
        {},
        description="gates of each stage by its name, over those outside of stages; the first where none stand outside",
    )

    @field_validator("stages")
    @classmethod
    def _stages_ask(cls, stages: dict[str, Gates]) -> dict[str, Gates]:
        for name, gates in stages.items():
            if not NAME.fullmatch(name):
                raise ValueError(f"the stage '{name}' is no name of letters, digits, '.', '_' and '-'")
            if not gates.gates():
                raise ValueError(f"the stage '{name}' asks for nothing; give it a gate, such as wer: 0.2")
        return stages

    def at(self, stage: str | None) -> tuple[str | None, Gates]:
        """The stage that is judged, and its gates.

        Raises:
            GovorError: there is no such stage.
        """
        if stage is None and not self.gates():
            stage = next(iter(self.stages), None)
        if stage is not None and stage not in self.stages:
            known = (
                nearest(stage, list(self.stages)) if self.stages else "the recipe lists none under acceptance.stages"
            )
            raise GovorError(f"There is no stage '{stage}'; {known}")
        own = self.model_dump(exclude={"stages"})
        over = {} if stage is None else self.stages[stage].model_dump(exclude_none=True)
        return stage, self.of_stage(**{**own, **over})


class Tracking(Settings):
    """Who else is told how the run goes, beside metrics.jsonl and the log."""

    to: tuple[Literal["wandb", "tensorboard", "trackio"], ...] = Field((), description="experiment trackers")
    project: str = Field("govor", min_length=1, description="the project's name there")
    upload: str | None = Field(None, description="s3:// or gs:// address that gets a copy of each checkpoint")

    @field_validator("to", mode="before")
    @classmethod
    def _one(cls, to: object) -> object:
        return (to,) if isinstance(to, str) else to

    @field_validator("to")
    @classmethod
    def _each_once(cls, to: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(to)) < len(to):
            raise ValueError("a tracker is named twice")
        return to


class Recipe(Settings):
    """One run. What of it is the family's own stands in a subclass, which `recipe_of` makes."""

    name: str = Field(description="the run's name and folder")
    family: str = Field(family_names()[0], description="the model family")
    base_model: str = Field(description="a folder, a Hub id such as openai/whisper-base, or a ggml file")
    data: Data
    examples: Examples = Examples()
    finetune: Finetune = Finetune()
    evaluation: Evaluation = Evaluation()
    tracking: Tracking = Tracking()
    acceptance: Acceptance = Acceptance()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("a name of letters, digits, '.', '_' and '-' was wanted")
        return name

    @model_validator(mode="after")
    def _warmup_fits(self) -> Recipe:
        steps = self.finetune.max_steps
        warmup = self.finetune.warmup_steps
        if steps is not None and warmup is not None and warmup > steps:
            raise ValueError(
                f"finetune.warmup_steps is {warmup} and finetune.max_steps is {steps}: the rate "
                "would never reach its peak; lower warmup_steps"
            )
        return self

    @field_validator("family", mode="before")
    @classmethod
    def _known_family(cls, family: object) -> object:
        if not isinstance(family, bool) and family not in family_names():
            *others, last = (f"'{name}'" for name in family_names())
            raise ValueError(f"input should be {', '.join(others)} or {last}")
        return family

    @model_validator(mode="after")
    def _family_has_it(self) -> Recipe:
        settings_of(self.family).check_examples(self.examples)
        return self

    @model_validator(mode="after")
    def _adapters_where_needed(self) -> Recipe:
        lora = self.finetune.lora
        if self.finetune.method == "full" and lora != Lora():
            raise ValueError("finetune.lora is set and finetune.method is 'full'; set finetune.method=lora")
        return self

    @model_validator(mode="after")
    def _phases_name_sources(self) -> Recipe:
        known = self.data.by_name()
        names = [phase.name for phase in self.finetune.phases]
        if len(set(names)) < len(names):
            raise ValueError(f"two of finetune.phases are called the same ({', '.join(names)})")
        for phase in self.finetune.phases:
            for name in phase.weights or {}:
                if name not in known:
                    raise ValueError(f"phase '{phase.name}' weighs the source '{name}'; there are: {', '.join(known)}")
            if phase.weights is not None and not any(phase.weights.values()):
                raise ValueError(f"every weight of phase '{phase.name}' is 0, so nothing would be drawn; raise one")
            if phase.epoch not in (None, "rows", *known):
                raise ValueError(
                    f"phase '{phase.name}' counts epochs by '{phase.epoch}'; there are: rows, {', '.join(known)}"
                )
        return self

    def to_yaml(self) -> str:
        """The resolved recipe, which can be run again."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def recipe_of(family: str) -> type[Recipe]:
    """The recipe of a family: with its own section `examples`, and the metrics and gates of its task."""
    return _recipe_of(settings_of(family))


def acceptance_of(family: str) -> type[Acceptance]:
    """The section `acceptance` of a family's recipe."""
    return _acceptance_of(settings_of(family))


@cache
def _recipe_of(settings: FamilySettings) -> type[Recipe]:
    metrics = tuple(metric.name for metric in settings.task.metrics)
    about = Evaluation.model_fields["metric"].description
    metric = (Literal[(LOSS.name, *metrics)], Field(metrics[0], description=about))
    evaluation = _subclass((Evaluation,), metric=metric)
    acceptance = _acceptance_of(settings)
    return _subclass(
        (Recipe,),
        examples=(settings.examples, settings.examples()),
        evaluation=(evaluation, evaluation()),
        acceptance=(acceptance, acceptance()),
    )


@cache
def _acceptance_of(settings: FamilySettings) -> type[Acceptance]:
    about = Acceptance.model_fields["stages"].description
    of_stages = types.GenericAlias(dict, (str, settings.gates))
    made = _subclass((Acceptance, settings.gates), stages=(of_stages, Field({}, description=about)))
    made.of_stage = settings.gates
    return made


Section = TypeVar("Section", bound=Settings)


def _subclass(
    bases: tuple[type[Section], *tuple[type[Settings], ...]], **fields: tuple[object, object]
) -> type[Section]:
    """A class of settings with other fields (type, default) than its base's, which keep their places."""
    create: Callable[..., type[Section]] = create_model
    return create(bases[0].__name__, __base__=bases, **fields)


def family_in(values: Json) -> str:
    """The family that a recipe's plain values name; the first of all where they name none that there is."""
    named = values.get("family")
    return named if isinstance(named, str) and named in family_names() else family_names()[0]


def parse_recipe(values: Json, where: str) -> Recipe:
    """A recipe from plain values, by the family that it names; `where` begins the message of a GovorError."""
    return parse(recipe_of(family_in(values)), values, where)


def shipped() -> dict[str, Path]:
    """Recipes that come with govor, by name."""
    folder = Path(str(resources.files("govor") / "recipes"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find(name: str, workspace: Workspace = _HERE) -> Path:
    """A recipe by path or shipped name."""
    path = workspace.path(name)
    if path.suffix in (".yaml", ".yml"):
        check_ordinary(path)
        return path
    if name in shipped():
        return shipped()[name]
    raise GovorError(f"There is no recipe '{shortened(name)}'; {nearest(name, shipped())}")


def load(name: str, overrides: Sequence[str] = (), workspace: Workspace = _HERE) -> Recipe:
    """The resolved recipe: its `extends` chain, itself, then `overrides`."""
    path = find(name, workspace)
    values = apply_overrides(_merged(_layers(path, workspace)), list(overrides))
    return parse_recipe(values, path.name)


@dataclass(frozen=True, slots=True)
class Stated:
    """One setting of a resolved recipe, by its dotted name, and where its value comes from."""

    name: str
    value: object
    origin: str


def explain(name: str, overrides: Sequence[str] = (), workspace: Workspace = _HERE) -> list[Stated]:
    """Every setting of a resolved recipe: whether it is the default, set in it, inherited (from which file), or overridden."""
    path = find(name, workspace)
    layers = _layers(path, workspace)
    given = apply_overrides({}, list(overrides))
    resolved = parse_recipe(merge(_merged(layers), given), path.name)
    origins = [(f"inherited from {file.name}", values) for file, values in layers[:-1]]
    origins += [(f"set in {path.name}", layers[-1][1]), ("overridden by --set", given)]

    def origin(keys: tuple[str, ...]) -> str:
        return next((where for where, values in reversed(origins) if _says(values, keys)), "default")

    return [Stated(".".join(keys), value, origin(keys)) for keys, value in _leaves(resolved.model_dump(mode="json"))]


def extension_text(values: Json, path: Path, workspace: Workspace = _HERE) -> str:
    """A recipe that extends another, as YAML; what it makes of it is checked.

    Raises:
        GovorError: a value that a recipe may not have.
    """
    parent = _merged(_layers(find(str(values["extends"]), workspace), workspace))
    parse_recipe(merge(parent, {key: value for key, value in values.items() if key != "extends"}), path.name)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _layers(path: Path, workspace: Workspace, seen: tuple[Path, ...] = ()) -> list[tuple[Path, Json]]:
    """A recipe's file and those that it extends, with what each says, the farthest first."""
    if path.resolve() in seen:
        raise GovorError(f"{path}: the recipes extend each other in a circle.")
    if len(seen) >= _MOST_PARENTS:
        raise GovorError(f"{path}: more than {_MOST_PARENTS} recipes extend each other; put them together.")
    values = read_yaml(path)
    parent = values.pop("extends", None)
    if parent is None:
        return [(path, values)]
    if not isinstance(parent, str):
        raise GovorError(f"{path}: extends: a recipe's name or .yaml file was wanted, found {type(parent).__name__}.")
    beside = path.parent / parent
    inherited = beside if beside.suffix in (".yaml", ".yml") and exists(beside) else find(parent, workspace)
    return [*_layers(inherited, workspace, (*seen, path.resolve())), (path, values)]


def _merged(layers: Sequence[tuple[Path, Json]]) -> Json:
    values: Json = {}
    for _, own in layers:
        values = merge(values, own)
    return values


def _says(values: object, keys: tuple[str, ...]) -> bool:
    """Whether values state the setting of that name, or replace a section that it is in."""
    for key in keys:
        if not isinstance(values, Mapping):
            return True
        if key not in values:
            return False
        values = values[key]
    return True


def _leaves(values: Json, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*before, key))
        else:
            yield (*before, key), value
