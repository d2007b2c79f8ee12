"""What training would really see: the first examples of a run, decoded, and its shares over an epoch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from govor.corpus.manifests import Manifest
from govor.errors import GovorError
from govor.examples.batching import Plan
from govor.examples.dataset import TrainingSource
from govor.examples.features import FEATURES
from govor.families.base import Renderer
from govor.families.opening import find_model, trainable_folder
from govor.families.registry import family_class
from govor.finetune.phases import phases_of
from govor.finetune.planning import build_plan, load_augmenter
from govor.finetune.prepare import with_chances
from govor.finetune.survey import Survey, usable_rows
from govor.mel import FRAMES_PER_SECOND
from govor.progress import SILENT, Progress, TableRow
from govor.recipe import Data, Recipe, Source
from govor.runs import Workspace

# Shares are counted draw by draw; more draws than this would not change their first three digits.
_MOST_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class Shown:
    """One example as the model gets it: pieces of (text, number of ids, taught)."""

    draw: int
    clip: str
    audio: str
    seconds: float
    context_seconds: float
    features: tuple[str, ...]
    pieces: tuple[tuple[str, int, bool], ...]


@dataclass(frozen=True, slots=True)
class Look:
    """The first examples and the shares over an epoch."""

    examples: list[Shown]
    shares: list[TableRow]


def look(workspace: Workspace, recipe: Recipe, manifest: Path, count: int, progress: Progress = SILENT) -> Look:
    """What a run of `recipe` on `manifest` alone would see.

    Raises:
        GovorError: a row that cannot become an example, or a share that no row can carry.
    """
    base = trainable_folder(find_model(workspace.model(recipe.base_model), progress.note), progress.note)
    family = family_class(recipe.family)
    renderer: Renderer = family.load_renderer(base, recipe.examples)
    rows = Manifest(manifest, workspace.root)
    if not len(rows):
        raise GovorError(f"{manifest} holds no clips, so there are no examples to show.")
    split = str(manifest.parent)
    alone = recipe.model_copy(
        update={
            "data": Data(split=split),
            "finetune": recipe.finetune.model_copy(update={"phases": (), "warmup_steps": None}),
        }
    )
    looking = Survey(renderer, family.task, recipe.examples)
    data = usable_rows(manifest.stem, rows, rows, Source(split=split), looking)
    phases = with_chances(alone, [data], phases_of(alone, [len(data.train)]))
    plan = build_plan(alone, [data], phases, renderer, load_augmenter(workspace, recipe))
    return Look(first_examples(plan, count), epoch_shares(plan))


def first_examples(plan: Plan, count: int) -> list[Shown]:
    """The examples of the first `count` draws."""
    source = _source(plan)
    shown: list[Shown] = []
    step = 0
    while len(shown) < count:
        for draw, row in plan.draws(step):
            spec = source.spec(row, draw)
            shown.append(
                Shown(
                    draw,
                    spec.clip.id,
                    spec.clip.audio,
                    round(spec.clip.duration, 3),
                    source.cost_frames(spec) / FRAMES_PER_SECOND,
                    tuple(feature.shown for feature in FEATURES if feature.present(spec)),
                    tuple(source.renderer.spelled(spec)),
                )
            )
        step += 1
    return shown[:count]


def epoch_shares(plan: Plan) -> list[TableRow]:
    """Asked, reachable and realised shares over the first epoch (or its first draws, where it is long)."""
    phase, source = plan.phases[0], _source(plan)
    draws = min(phase.mixture.epoch_draws(), _MOST_DRAWS)
    counts: Counter[str] = Counter()
    for draw in range(draws):
        spec = source.spec(phase.mixture.row(plan.seed, draw), draw)
        counts.update(feature.name for feature in FEATURES if feature.present(spec))
    return [
        {
            "feature": name,
            "asked": chance.asked,
            "reachable": round(chance.reachable, 4),
            "realised": round(counts[name] / draws, 4),
            "draws": draws,
        }
        for name, chance in phase.chances.items()
    ]


def _source(plan: Plan) -> TrainingSource:
    assert isinstance(plan.source, TrainingSource)
    return plan.source
