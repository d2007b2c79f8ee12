"""What is settled before a run trains: the base model, the data and their plan, told to whoever watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from govor.errors import GovorError
from govor.examples.augment import Augmenter
from govor.examples.batching import check_plan
from govor.examples.features import FEATURES
from govor.examples.phases import Phase
from govor.families import adapters
from govor.families.base import Family
from govor.families.opening import base_sha256, find_model, trainable_folder
from govor.families.registry import family_class, family_of
from govor.finetune import groups
from govor.finetune.optim import recomputing
from govor.finetune.phases import forecast, phases_of
from govor.finetune.planning import load_augmenter
from govor.finetune.survey import SourceData, chances, survey
from govor.progress import Progress, TableRow
from govor.recipe import Finetune, Recipe
from govor.runs import Json, Workspace


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything that is settled before a weight is loaded; the phases have their chances."""

    base: Path
    base_sha256: str
    sources: list[SourceData]
    phases: list[Phase]
    augmenter: Augmenter | None


def prepare(workspace: Workspace, recipe: Recipe, state: PartialState, device: str, progress: Progress) -> Ready:
    """Base model, data and phases, with everything refused that can be refused without weights."""
    settings = recipe.finetune
    if settings.lora.quantize != "none" and not device.startswith("cuda"):
        raise GovorError(
            f"finetune.lora.quantize is {settings.lora.quantize}, which needs an NVIDIA GPU (the arithmetic exists only "
            f"there) and this run is on {device}; leave it out."
        )
    with state.main_process_first():
        base = trainable_folder(find_model(workspace.model(recipe.base_model), progress.note), progress.note)
    kind = family_of(base, recipe.base_model)
    if kind != recipe.family:
        raise GovorError(f"{recipe.base_model} is a {kind} model and the recipe's family is {recipe.family}; set one.")
    family = family_class(recipe.family)
    sources = survey(workspace, recipe, family.load_renderer(base, recipe.examples), family.task)
    rows = [len(source.train) for source in sources]
    phases = phases_of(recipe, rows)
    check_plan(sum(rows), settings.clips_per_step, state.num_processes)
    phases = with_chances(recipe, sources, phases)
    augmenter = load_augmenter(workspace, recipe)
    return Ready(base, base_sha256(base), sources, phases, augmenter)


def with_chances(recipe: Recipe, sources: Sequence[SourceData], phases: Sequence[Phase]) -> list[Phase]:
    """Phases with the probability of each example feature."""
    return [replace(phase, chances=chances(recipe, sources, phase)) for phase in phases]


def tell(recipe: Recipe, ready: Ready, progress: Progress) -> None:
    """Draws, repeats and hours of each source, and shares that the rows do not allow, before training."""
    names, seconds = [source.name for source in ready.sources], [source.seconds for source in ready.sources]
    rows: list[TableRow] = []
    for phase in ready.phases:
        some, warnings = forecast(phase, names, seconds, recipe.finetune.clips_per_step)
        rows += some
        for warning in warnings:
            progress.note(f"warning: {warning}")
    rule = recipe.data.epoch
    epoch = "as many draws as there are rows" if rule == "rows" else f"as many draws as see '{rule}' once"
    progress.table(f"data (an epoch: {epoch})", rows)
    missed = [phase.name for phase in recipe.finetune.phases[len(ready.phases) :]]
    if missed:
        progress.note(f"warning: finetune.max_steps ends the run before phase {', '.join(missed)}")
    for source in ready.sources:
        for reason, count in source.left_out.items():
            progress.note(f"{source.name}: {count} rows left out ({reason})")
    for phase in ready.phases:
        _tell_shares(phase, progress)


def _tell_shares(phase: Phase, progress: Progress) -> None:
    """Where the rows of a phase allow less, or force more, than was asked for."""
    for name, chance in phase.chances.items():
        if chance.reachable > chance.asked + 1e-9:
            progress.note(
                f"warning: {name} asked for {chance.asked:.0%} of the examples, and {chance.reachable:.1%} of the rows of "
                f"phase '{phase.name}' were cut at the end of a slice and make no sense without"
            )
        if chance.reachable < chance.asked - 1e-9:
            progress.note(
                f"warning: {name} asked for {chance.asked:.0%} of the examples and {chance.reachable:.1%} is what the "
                f"rows of phase '{phase.name}' allow"
            )


def load(recipe: Recipe, ready: Ready, device: str) -> tuple[Family, list[str]]:
    """The model, with adapters if asked for, and the layers that have them; the phases' groups are checked."""
    settings = recipe.finetune
    options = _quantized(settings, device) if settings.lora.quantize != "none" else {}
    family: Family = family_class(recipe.family).load(ready.base, **options)
    family.prepare_training(recipe.examples)
    if settings.activation_checkpointing:
        recomputing(family)
    targets: list[str] = []
    parts = family.parts()
    if settings.method == "lora":
        lora = settings.lora
        targets = (
            family.lora_targets() if lora.targets is None else groups.linear_layers(family.module, parts, lora.targets)
        )
        adapters.inject(family.module, targets, lora, settings.seed)
        parts = groups.adapter_parts(family.parts())
    for phase in ready.phases:
        groups.assign(parts, phase.rates)
    return family, targets


def _quantized(settings: Finetune, device: str) -> dict[str, Any]:
    """Options that load the frozen weights in 8 or 4 bits."""
    try:
        import bitsandbytes  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        raise GovorError(
            f"finetune.lora.quantize={settings.lora.quantize} needs bitsandbytes; install it with: pip install bitsandbytes"
        ) from None
    from transformers import BitsAndBytesConfig

    wanted = settings.lora.quantize
    config = BitsAndBytesConfig(load_in_8bit=wanted == "8bit", load_in_4bit=wanted == "4bit")
    return {"quantization_config": config, "device_map": {"": device}}


def shares(phase: Phase) -> dict[str, dict[str, float]]:
    """What share of a phase's examples was asked to show each feature, and what the rows allow."""
    watched = [feature.name for feature in FEATURES if feature.watched]
    return {
        "asked": {name: phase.chances[name].asked for name in watched},
        "reachable": {name: round(phase.chances[name].reachable, 6) for name in watched},
    }


def about_source(source: SourceData) -> Json:
    """A source as the record keeps it."""
    return {
        "rows": len(source.train),
        "hours": round(source.seconds / 3600, 3),
        "validation_rows": len(source.validation),
        "left_out": source.left_out,
        **{feature.recorded: round(source.able[feature.name], 4) for feature in FEATURES if feature.recorded},
        "licenses": source.licenses,
    }
