"""A training run, written down: the schema of `recipes/*.yaml`.

A recipe may `extends:` another (a shipped name or a path relative to itself); `--set a.b=1` goes on top; the
resolved whole is saved in the run and can be run again.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from govor.config import Settings, apply_overrides, merge, parse, read_yaml
from govor.errors import GovorError, nearest
from govor.files import check_ordinary, exists, shortened
from govor.runs import NAME

_MOST_PARENTS = 16


def _no_truth(value: Any) -> Any:
    """Python counts True as 1; inside of mappings nothing else would notice."""
    if isinstance(value, bool):
        raise ValueError("a number was wanted")
    return value


Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(_no_truth)]
Rate = Annotated[float, Field(gt=0, le=1), BeforeValidator(_no_truth)]
Weight = Annotated[float, Field(ge=0), BeforeValidator(_no_truth)]
Groups = Annotated[dict[str, Rate], Field(min_length=1)]
Schedule = Literal["linear", "cosine", "constant"]


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
            found = "neither" if self.split is None else "both"
            raise ValueError(f"{found} of data.split and data.sources is set; give one (data.split=null takes it back)")
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


class SpecAugment(Settings):
    """Stripes of the spectrogram hidden while training (Park et al. 2019), drawn anew at every pass."""

    share: Share = Field(0.0, description="share of examples with stripes; 0 is off")
    time_stripes: int = Field(2, ge=0, le=20, description="stripes over all bands")
    time_stripe_seconds: float = Field(0.5, gt=0, le=10, description="longest stripe; a tenth of a clip at most")
    frequency_stripes: int = Field(2, ge=0, le=20, description="stripes over the whole clip")
    frequency_stripe_bands: int = Field(20, ge=1, le=128, description="most mel bands of one")


class Examples(Settings):
    """How a manifest row becomes a training example."""

    context: Literal["speech", "padded"] = Field(
        "speech",
        description="what the encoder sees: the clip's bucket, or the full 30 s as stock training does",
    )
    full_length_share: Share = Field(0.0, description="share of examples padded to 30 s while context is speech")
    timestamps_share: Share = Field(
        0.0, description="share of all examples taught with times, as far as rows have them"
    )
    previous_share: Share = Field(
        0.0, description="share of all examples given the text before, as far as rows have it"
    )
    language: str | None = Field(None, description="one language token for all clips (BCS); each clip's own if unset")
    augment: str | None = Field(None, description="YAML file of augmentation (configs/augment.yaml); none by default")
    spec_augment: SpecAugment = SpecAugment()

    @model_validator(mode="after")
    def _one_way(self) -> Examples:
        if self.context == "padded" and self.full_length_share:
            raise ValueError(
                f"context is 'padded' (every example is full length) and full_length_share is {self.full_length_share}; "
                "drop one of the two"
            )
        return self


class Lora(Settings):
    """Low-rank adapters instead of all weights (Hu et al. 2021)."""

    rank: int = Field(16, ge=1, le=1024, description="width of the adapters")
    alpha: int = Field(32, ge=1, description="the update is scaled by alpha / rank")
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank) instead, for large ranks")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters")
    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None, description="parameter groups that get adapters (decoder, encoder.top8, …); the family's choice if unset"
    )
    quantize: Literal["none", "8bit", "4bit"] = Field("none", description="the frozen weights' format; needs a GPU")


class Phase(Settings):
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
    def _one_kind_of_rate(self) -> Phase:
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
    phases: tuple[Phase, ...] = Field((), description="phases in order, each with its own data, schedule and parts")
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
    metric: Literal["loss", "wer", "cer"] = Field("wer", description="the best checkpoint has the lowest of this")
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


class Gates(Settings):
    """What a run must reach. Unset gates are not asked."""

    measured_on: str | None = Field(
        None, description="SUITE/SET that the rates are of; the run's own test set if unset"
    )
    context: Literal["padded", "speech"] | None = Field(
        None, description="the audio context that is judged; the one that the run was trained for if unset"
    )
    wer: float | None = Field(None, gt=0, description="highest WER; of a suite's set with the suite's normaliser")
    wer_upper: float | None = Field(None, gt=0, description="highest upper bound of that WER's 95 % interval")
    cer: float | None = Field(None, gt=0, description="highest CER")
    timestamp_offset_seconds: float | None = Field(None, gt=0, description="highest mean offset of word times")
    timestamp_coverage: Share | None = Field(None, description="lowest share of words placed in their own line")
    hallucination_rate: Share | None = Field(None, description="highest share of speechless sounds that yield text")

    @model_validator(mode="after")
    def _names_a_set(self) -> Gates:
        if self.measured_on is not None and (self.measured_on.count("/") != 1 or not all(self.measured_on.split("/"))):
            raise ValueError(
                f"acceptance.measured_on is '{self.measured_on}', and SUITE/SET was wanted, such as hebrew/eval-d1"
            )
        return self

    def gates(self) -> dict[str, float]:
        """The gates that are asked, with their limits."""
        limits = self.model_dump(exclude={"measured_on", "context", "stages"})
        return {name: limit for name, limit in limits.items() if limit is not None}


class Acceptance(Gates):
    """What a run must reach before it is used; `govor accept` judges it, by stage where a team goes in stages."""

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
        return stage, Gates(**{**own, **over})


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
    """One run."""

    name: str = Field(description="the run's name and folder")
    family: Literal["whisper", "qwen3_asr"] = Field("whisper", description="the model family")
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

    @model_validator(mode="after")
    def _whispers_alone(self) -> Recipe:
        examples = self.examples
        if self.family == "whisper":
            return self
        if examples.timestamps_share:
            raise ValueError(
                f"examples.timestamps_share is {examples.timestamps_share} and the family is {self.family}, which "
                "has no time tokens; set it to 0, or train a whisper"
            )
        if examples.context == "padded" or examples.full_length_share:
            raise ValueError(
                f"the family {self.family} never pads a clip, and examples.context is '{examples.context}' with a "
                f"full_length_share of {examples.full_length_share}; leave both out"
            )
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


def shipped() -> dict[str, Path]:
    """Recipes that come with govor, by name."""
    folder = Path(str(resources.files("govor") / "recipes"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find(name: str) -> Path:
    """A recipe by path or shipped name."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        check_ordinary(path)
        return path
    if name in shipped():
        return shipped()[name]
    raise GovorError(f"There is no recipe '{shortened(name)}'; {nearest(name, shipped())}")


def load(name: str, overrides: list[str] | None = None) -> Recipe:
    """The resolved recipe: its `extends` chain, itself, then `overrides`."""
    path = find(name)
    values = apply_overrides(_with_parents(path, ()), overrides or [])
    return parse(Recipe, values, path.name)


def extension_text(values: dict[str, Any], path: Path) -> str:
    """A recipe that extends another, as YAML; what it makes of it is checked.

    Raises:
        GovorError: a value that a recipe may not have.
    """
    parent = _with_parents(find(str(values["extends"])), ())
    parse(Recipe, merge(parent, {key: value for key, value in values.items() if key != "extends"}), path.name)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise GovorError(f"{path}: the recipes extend each other in a circle.")
    if len(seen) >= _MOST_PARENTS:
        raise GovorError(f"{path}: more than {_MOST_PARENTS} recipes extend each other; put them together.")
    values = read_yaml(path)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise GovorError(f"{path}: extends: a recipe's name or .yaml file was wanted, found {type(parent).__name__}.")
    beside = path.parent / parent
    found = beside if beside.suffix in (".yaml", ".yml") and exists(beside) else find(parent)
    return merge(_with_parents(found, (*seen, path.resolve())), values)
