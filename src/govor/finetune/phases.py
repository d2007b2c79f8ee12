"""A recipe's phases as stretches of steps, each with its mixture, schedule and rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from govor.errors import GovorError
from govor.examples.batching import Stretch
from govor.examples.mixing import Mixture
from govor.finetune.optim import lr_factor
from govor.recipe import Phase, Recipe, Schedule

# A set seen this often within one phase is learned by heart rather than learned from.
_MANY_REPEATS = 4
_MOST_STEPS = 10**8


@dataclass(frozen=True, slots=True)
class Stage:
    """One phase with everything settled. Steps count from 0 through the whole run; `rates` are peaks by group."""

    name: str
    first_step: int
    steps: int
    schedule: Schedule
    warmup_steps: int
    rates: dict[str, float]
    mixture: Mixture

    @property
    def end(self) -> int:
        """The first step that is no longer in it."""
        return self.first_step + self.steps

    def factor(self, step: int) -> float:
        """The share of the peak rates at `step` of the run."""
        return lr_factor(step - self.first_step, self.steps, self.warmup_steps, self.schedule)

    def stretch(self) -> Stretch:
        """What is drawn in it."""
        return Stretch(self.first_step, self.mixture)


def stages(recipe: Recipe, rows: Sequence[int]) -> list[Stage]:
    """The phases of a recipe for sources of `rows` rows each, cut at `finetune.max_steps`.

    Raises:
        GovorError: a warm-up that is longer than its phase, or a phase that draws from a source without rows.
    """
    settings = recipe.finetune
    phases = settings.phases or (Phase(name="train", epochs=settings.epochs),)
    found: list[Stage] = []
    first = 0
    for number, phase in enumerate(phases):
        stage = _stage(recipe, phase, number, first, rows)
        if settings.max_steps is not None and stage.end > settings.max_steps:
            stage = replace(stage, steps=settings.max_steps - first)
        if stage.steps <= 0:
            break
        stage = replace(stage, warmup_steps=_warmup(recipe, phase, stage.steps))
        found.append(stage)
        first = stage.end
    return found


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage that a step (counted from 0) belongs to; the last one for what lies behind it."""
    return next((stage for stage in stages if step < stage.end), stages[-1])


def forecast(
    stage: Stage, names: Sequence[str], seconds: Sequence[float], clips_per_step: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """What a stage draws from each source: share, draws, repeats, hours; and warnings about small sources.

    Args:
        names: the sources'.
        seconds: audio in each.
    """
    draws = stage.mixture.counts(stage.steps * clips_per_step)
    largest = max(range(len(names)), key=lambda index: stage.mixture.rows[index] * (draws[index] > 0))
    usual = draws[largest] / stage.mixture.rows[largest]
    table, warnings = [], []
    for index, name in enumerate(names):
        rows = stage.mixture.rows[index]
        repeats = draws[index] / rows
        table.append(
            {
                "phase": stage.name,
                "source": name,
                "share": round(stage.mixture.shares[index], 6),
                "draws": draws[index],
                "rows": rows,
                "repeats": round(repeats, 3),
                "hours": round(repeats * seconds[index] / 3600, 3),
            }
        )
        if repeats > max(_MANY_REPEATS, 1.5 * usual):
            warnings.append(
                f"'{name}' has {rows} rows and is seen {repeats:.1f} times in phase '{stage.name}': it will be learned by "
                "heart. Lower its weight, or give it more data."
            )
    return table, warnings


def _stage(recipe: Recipe, phase: Phase, number: int, first: int, rows: Sequence[int]) -> Stage:
    settings, sources = recipe.finetune, recipe.data.by_name()
    names = list(sources)
    if phase.weights is not None:
        weights = [phase.weights.get(name, 0.0) for name in names]
    else:
        weights = [
            float(count) if source.weight is None else source.weight
            for source, count in zip(sources.values(), rows, strict=True)
        ]
    for name, count, weight in zip(names, rows, weights, strict=True):
        if weight > 0 and not count:
            raise GovorError(
                f"The source '{name}' has no rows left to draw from and the weight {weight:g}; set it to 0."
            )
    mixture = Mixture(tuple(rows), tuple(weights), number)
    rule = phase.epoch or recipe.data.epoch
    if rule != "rows" and not weights[names.index(rule)]:
        raise GovorError(
            f"Phase '{phase.name}' counts its epochs by '{rule}', of which it draws nothing; set its epoch."
        )
    draws = mixture.epoch_draws(None if rule == "rows" else names.index(rule))
    steps = max(1, round(phase.epochs * draws / settings.clips_per_step))
    if steps > _MOST_STEPS:
        raise GovorError(
            f"Phase '{phase.name}' would take {steps:.3g} steps; lower its epochs, or raise the share of the source that its "
            "epochs are counted by."
        )
    return Stage(
        phase.name,
        first,
        min(steps, phase.max_steps or steps),
        phase.schedule or settings.schedule,
        0,
        _rates(recipe, phase),
        mixture,
    )


def _rates(recipe: Recipe, phase: Phase) -> dict[str, float]:
    if phase.groups is not None:
        return phase.groups
    if phase.lr is not None:
        return {"all": phase.lr}
    return recipe.finetune.groups or {"all": recipe.finetune.lr}


def _warmup(recipe: Recipe, phase: Phase, steps: int) -> int:
    asked = recipe.finetune.warmup_steps if phase.warmup_steps is None else phase.warmup_steps
    if asked is None:
        return steps // 10
    if asked > steps:
        where = f"phase '{phase.name}' has" if recipe.finetune.phases else "the run has"
        whose = "finetune.warmup_steps" if phase.warmup_steps is None else "its warmup_steps"
        raise GovorError(
            f"{whose} is {asked} and {where} {steps} steps, so the rate would never reach its peak; "
            "lower warmup_steps, or leave it out for a tenth of the steps."
        )
    return asked


def even_steps(stages: Sequence[Stage], evaluations: int) -> set[int]:
    """Steps after which to evaluate: evenly spaced, at the end of every stage, the last one at the end of the run."""
    steps = stages[-1].end
    count = min(evaluations, steps)
    return {math.ceil(index * steps / count) for index in range(1, count + 1)} | {stage.end for stage in stages}
