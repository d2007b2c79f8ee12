"""From a recipe and its data to the plan: which clips, in which order, with which choices."""

from __future__ import annotations

from collections.abc import Sequence

from govor.examples.augment import Augmenter, load_settings
from govor.examples.batching import Plan
from govor.examples.dataset import Choices, TrainingSource
from govor.examples.features import ready
from govor.examples.phases import Phase
from govor.families.base import Renderer
from govor.finetune.survey import SourceData
from govor.recipe import Recipe
from govor.runs import Workspace

# Without a GPU nothing is probed: memory is shared with everything else, and running out of it is no exception there.
_UNPROBED_BUDGET_SECONDS = 120.0


def load_augmenter(workspace: Workspace, recipe: Recipe) -> Augmenter | None:
    """What the recipe's augmentation file says.

    Raises:
        GovorError: it is not there, or not what such a file must be.
    """
    file = recipe.examples.augment
    return None if file is None else Augmenter.of(load_settings(workspace.path(file)), workspace.root)


def build_plan(
    recipe: Recipe,
    sources: Sequence[SourceData],
    phases: Sequence[Phase],
    renderer: Renderer,
    augmenter: Augmenter | None = None,
    processes: int = 1,
) -> Plan:
    """The plan of a run, its phases with their chances."""
    settings, wanted = recipe.finetune, recipe.examples
    choices = Choices(
        wanted.language,
        ready(renderer.features, wanted, settings.seed, augmenter, renderer.longest_seconds),
        tuple(
            (
                phase.first_step * settings.clips_per_step,
                {name: chance.probability for name, chance in phase.chances.items()},
            )
            for phase in phases
        ),
    )
    budget = settings.max_batch_audio_seconds
    return Plan(
        TrainingSource([source.train for source in sources], renderer, settings.seed, choices),
        settings.seed,
        settings.clips_per_step,
        _UNPROBED_BUDGET_SECONDS if budget == "auto" else budget,
        processes,
        tuple(phases),
    )
