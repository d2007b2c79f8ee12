"""From a recipe and its data to the plan: which clips, in which order, with which choices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from govor.examples.augment import Augmenter, load_settings
from govor.examples.batching import Plan
from govor.examples.dataset import Choices, Odds, TrainingSource
from govor.examples.mixing import Chance
from govor.families.base import Renderer
from govor.finetune.phases import Stage
from govor.finetune.survey import SourceData
from govor.recipe import Recipe

# Without a GPU nothing is probed: memory is shared with everything else, and running out of it is no exception there.
_UNPROBED_BUDGET_SECONDS = 120.0


def load_augmenter(recipe: Recipe) -> Augmenter | None:
    """What the recipe's augmentation file says.

    Raises:
        GovorError: it is not there, or not what such a file must be.
    """
    file = recipe.examples.augment
    return None if file is None else Augmenter.of(load_settings(Path(file)))


def build_plan(
    recipe: Recipe,
    sources: Sequence[SourceData],
    planned: Sequence[Stage],
    chances: Sequence[dict[str, Chance]],
    renderer: Renderer,
    timed: bool,
    processes: int = 1,
    augmenter: Augmenter | None = None,
) -> Plan:
    """The plan of a run; `chances` are those of each stage, `timed` says that the model knows time tokens."""
    settings, wanted = recipe.finetune, recipe.examples
    odds = tuple(
        Odds(
            stage.first_step * settings.clips_per_step,
            chance["timestamps"].probability,
            chance["previous"].probability,
        )
        for stage, chance in zip(planned, chances, strict=True)
    )
    choices = Choices(
        full_length_share=1.0 if wanted.context == "padded" else wanted.full_length_share,
        timed=timed,
        odds=odds,
        language=wanted.language,
        spec_augment=wanted.spec_augment if wanted.spec_augment.share else None,
    )
    rows = [source.train for source in sources]
    budget = settings.max_batch_audio_seconds
    return Plan(
        TrainingSource(rows, renderer, settings.seed, choices, augmenter),
        settings.seed,
        settings.clips_per_step,
        _UNPROBED_BUDGET_SECONDS if budget == "auto" else budget,
        processes,
        tuple(stage.stretch() for stage in planned),
    )
