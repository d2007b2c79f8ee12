"""What training would really see: the first examples of a run, decoded, and its shares over an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from govor.corpus.manifests import Manifest
from govor.errors import GovorError
from govor.examples.batching import Plan
from govor.families.opening import find_model, trainable_folder
from govor.families.registry import family_class
from govor.finetune.phases import stages
from govor.finetune.planning import build_plan, load_augmenter
from govor.finetune.survey import SourceData, odds, usable_rows
from govor.mel import FRAMES_PER_SECOND
from govor.recipe import Data, Recipe, Source

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
    shares: list[dict[str, Any]]


def look(recipe: Recipe, manifest: Path, count: int, say: Callable[[str], None]) -> Look:
    """What a run of `recipe` on `manifest` alone would see.

    Raises:
        GovorError: a row that cannot become an example, or a share that no row can carry.
    """
    base = trainable_folder(find_model(recipe.base_model, say), say)
    family = family_class(recipe.family)
    renderer = family.load_renderer(base)
    timed = "timestamps" in renderer.features
    rows = Manifest(manifest)
    if not len(rows):
        raise GovorError(f"{manifest} holds no clips, so there are no examples to show.")
    alone = recipe.model_copy(
        update={
            "data": Data(split=str(manifest.parent)),
            "finetune": recipe.finetune.model_copy(update={"phases": (), "warmup_steps": None}),
        }
    )
    data = usable_rows(manifest.stem, rows, rows, Source(split=str(manifest.parent)), recipe.examples, renderer, timed)
    planned = stages(alone, [len(data.train)])
    chances = [odds(alone, [data], stage) for stage in planned]
    plan = build_plan(alone, [data], planned, chances, renderer, timed, 1, load_augmenter(recipe))
    return Look(first_examples(plan, count), epoch_shares(alone, [data], plan))


def first_examples(plan: Plan, count: int) -> list[Shown]:
    """The examples of the first `count` draws."""
    source: Any = plan.source
    shown: list[Shown] = []
    step = 0
    while len(shown) < count:
        for draw, row in plan.draws(step):
            spec = source.spec(row, draw)
            features = {
                "timestamps": spec.with_timestamps,
                "previous text": spec.with_previous,
                "full length": spec.full_length,
                "augmented": spec.augment_draw is not None,
                "SpecAugment": spec.mask_draw is not None,
            }
            shown.append(
                Shown(
                    draw,
                    spec.clip.id,
                    spec.clip.audio,
                    round(spec.clip.duration, 3),
                    source.cost_frames(spec) / FRAMES_PER_SECOND,
                    tuple(name for name, there in features.items() if there),
                    tuple(source.renderer.spelled(spec)),
                )
            )
        step += 1
    return shown[:count]


def epoch_shares(recipe: Recipe, sources: list[SourceData], plan: Plan) -> list[dict[str, Any]]:
    """Asked, reachable and realised shares over the first epoch (or its first draws, where it is long)."""
    stage = stages(recipe, [len(source.train) for source in sources])[0]
    chances = odds(recipe, sources, stage)
    draws = min(stage.mixture.epoch_draws(), _MOST_DRAWS)
    source: Any = plan.source
    counts: Counter[str] = Counter()
    for draw in range(draws):
        spec = source.spec(stage.mixture.row(plan.seed, draw), draw)
        counts["timestamps"] += spec.with_timestamps
        counts["previous"] += spec.with_previous
        counts["full_length"] += spec.full_length
        counts["spec_augment"] += spec.mask_draw is not None
    full = 1.0 if recipe.examples.context == "padded" else recipe.examples.full_length_share
    stripes = recipe.examples.spec_augment.share
    asked = {
        **{name: (chance.asked, chance.reachable) for name, chance in chances.items()},
        "full_length": (full, full),
        "spec_augment": (stripes, stripes),
    }
    return [
        {
            "feature": name,
            "asked": wanted,
            "reachable": round(can, 4),
            "realised": round(counts[name] / draws, 4),
            "draws": draws,
        }
        for name, (wanted, can) in asked.items()
    ]
