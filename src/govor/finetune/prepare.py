"""What is settled before a run trains: the base model, the data and their plan, told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from govor.errors import GovorError
from govor.examples.augment import Augmenter
from govor.examples.batching import check_plan
from govor.examples.mixing import Chance
from govor.families import adapters
from govor.families.opening import find_model, trainable_folder
from govor.families.registry import family_class, family_of
from govor.finetune import groups
from govor.finetune.phases import Stage, forecast, stages
from govor.finetune.planning import load_augmenter
from govor.finetune.survey import SourceData, odds, survey
from govor.finetune.watch import Reporter
from govor.recipe import Finetune, Recipe


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything that is settled before a weight is loaded."""

    base: Path
    sources: list[SourceData]
    stages: list[Stage]
    chances: list[dict[str, Chance]]
    augmenter: Augmenter | None


def prepare(recipe: Recipe, state: PartialState, device: str, say: Callable[[str], None]) -> Ready:
    """Base model, data and phases, with everything refused that can be refused without weights."""
    settings = recipe.finetune
    if settings.lora.quantize != "none" and not device.startswith("cuda"):
        raise GovorError(
            f"finetune.lora.quantize is {settings.lora.quantize}, which needs an NVIDIA GPU (the arithmetic exists only "
            f"there) and this run is on {device}; leave it out."
        )
    with state.main_process_first():
        base = trainable_folder(find_model(recipe.base_model, say), say)
    found = family_of(base, recipe.base_model)
    if found != recipe.family:
        raise GovorError(f"{recipe.base_model} is a {found} model and the recipe's family is {recipe.family}; set one.")
    family = family_class(recipe.family)
    renderer = family.load_renderer(base)
    sources = survey(recipe, renderer, "timestamps" in renderer.features)
    rows = [len(source.train) for source in sources]
    planned = stages(recipe, rows)
    check_plan(sum(rows), settings.clips_per_step, state.num_processes)
    chances = [odds(recipe, sources, stage) for stage in planned]
    return Ready(base, sources, planned, chances, load_augmenter(recipe))


def tell(recipe: Recipe, ready: Ready, reporter: Reporter) -> None:
    """Draws, repeats and hours of each source, and shares that the rows do not allow, before training."""
    names, seconds = [source.name for source in ready.sources], [source.seconds for source in ready.sources]
    rows: list[dict[str, Any]] = []
    for stage in ready.stages:
        some, warnings = forecast(stage, names, seconds, recipe.finetune.clips_per_step)
        rows += some
        for warning in warnings:
            reporter.note(f"warning: {warning}")
    rule = recipe.data.epoch
    told = "as many draws as there are rows" if rule == "rows" else f"as many draws as see '{rule}' once"
    reporter.table(f"data (an epoch: {told})", rows)
    missed = [phase.name for phase in recipe.finetune.phases[len(ready.stages) :]]
    if missed:
        reporter.note(f"warning: finetune.max_steps ends the run before phase {', '.join(missed)}")
    for source in ready.sources:
        for reason, count in source.left_out.items():
            reporter.note(f"{source.name}: {count} rows left out ({reason})")
    for stage, chances in zip(ready.stages, ready.chances, strict=True):
        for name, chance in chances.items():
            if chance.reachable > chance.asked + 1e-9:
                reporter.note(
                    f"warning: {name} asked for {chance.asked:.0%} of the examples, and {chance.reachable:.1%} of the rows of "
                    f"phase '{stage.name}' were cut at the end of a slice and make no sense without"
                )
            if chance.reachable < chance.asked - 1e-9:
                reporter.note(
                    f"warning: {name} asked for {chance.asked:.0%} of the examples and {chance.reachable:.1%} is what the "
                    f"rows of phase '{stage.name}' allow"
                )


def load(recipe: Recipe, ready: Ready, device: str) -> tuple[Any, list[str]]:
    """The model, with adapters if asked for, and the layers that have them; the phases' groups are checked."""
    settings = recipe.finetune
    options = _quantized(settings, device) if settings.lora.quantize != "none" else {}
    family = family_class(recipe.family).load(ready.base, **options)
    family.prepare_training()
    targets: list[str] = []
    parts = family.parts()
    if settings.method == "lora":
        lora = settings.lora
        targets = (
            family.lora_targets() if lora.targets is None else groups.linear_layers(family.module, parts, lora.targets)
        )
        adapters.inject(family.module, targets, lora, settings.seed)
        parts = groups.adapter_parts(family.parts())
    for stage in ready.stages:
        groups.assign(parts, stage.rates)
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


def shares(recipe: Recipe, chances: dict[str, Chance]) -> dict[str, Any]:
    """What share of the examples each kind was asked for, and what the rows allow."""
    full = 1.0 if recipe.examples.context == "padded" else recipe.examples.full_length_share
    return {
        "asked": {**{name: chance.asked for name, chance in chances.items()}, "full_length": full},
        "reachable": {**{name: round(chance.reachable, 6) for name, chance in chances.items()}, "full_length": full},
    }


def about_source(source: SourceData) -> dict[str, Any]:
    """A source as the record keeps it."""
    return {
        "rows": len(source.train),
        "hours": round(source.seconds / 3600, 3),
        "validation_rows": len(source.validation),
        "left_out": source.left_out,
        "with_times": round(source.timed, 4),
        "with_previous": round(source.previous, 4),
        "licenses": source.licenses,
    }
