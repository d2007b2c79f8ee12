"""A recipe's phases as stretches of steps, each with its mixture, schedule and rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from govor.errors import GovorError
from govor.examples.mixing import Mixture
from govor.examples.phases import Phase
from govor.progress import TableRow
from govor.recipe import PhaseSettings, Recipe

# A set seen this often within one phase is learned by heart rather than learned from.
_MANY_REPEATS = 4
_MOST_STEPS = 10**8


def phases_of(recipe: Recipe, rows: Sequence[int]) -> list[Phase]:
    """The phases of a recipe for sources of `rows` rows each, cut at `finetune.max_steps`.

    Raises:
        GovorError: a warm-up that is longer than its phase, or a phase that draws from a source without rows.
    """
    settings = recipe.finetune
    wanted = settings.phases or (PhaseSettings(name="train", epochs=settings.epochs),)
    phases: list[Phase] = []
    first = 0
    for number, stated in enumerate(wanted):
        phase = _phase(recipe, stated, number, first, rows)
        if settings.max_steps is not None and phase.end > settings.max_steps:
            phase = replace(phase, steps=settings.max_steps - first)
        if phase.steps <= 0:
            break
        phase = replace(phase, warmup_steps=_warmup(recipe, stated, phase.steps))
        phases.append(phase)
        first = phase.end
    return phases


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """The phase that a step (counted from 0) belongs to; the last one for what lies behind it."""
    return next((phase for phase in phases if step < phase.end), phases[-1])


def forecast(
    phase: Phase, names: Sequence[str], seconds: Sequence[float], clips_per_step: int
) -> tuple[list[TableRow], list[str]]:
    """What a phase draws from each source: share, draws, repeats, hours; and warnings about small sources.

    Args:
        names: the sources'.
        seconds: audio in each.
    """
    draws = phase.mixture.counts(phase.steps * clips_per_step)
    largest = max(range(len(names)), key=lambda index: phase.mixture.rows[index] * (draws[index] > 0))
    usual = draws[largest] / phase.mixture.rows[largest]
    table: list[TableRow] = []
    warnings: list[str] = []
    for index, name in enumerate(names):
        rows = phase.mixture.rows[index]
        repeats = draws[index] / rows
        table.append(
            {
                "phase": phase.name,
                "source": name,
                "share": round(phase.mixture.shares[index], 6),
                "draws": draws[index],
                "rows": rows,
                "repeats": round(repeats, 3),
                "hours": round(repeats * seconds[index] / 3600, 3),
            }
        )
        if repeats > max(_MANY_REPEATS, 1.5 * usual):
            warnings.append(
                f"'{name}' has {rows} rows and is seen {repeats:.1f} times in phase '{phase.name}': it will be learned by "
                "heart. Lower its weight, or give it more data."
            )
    return table, warnings


def _phase(recipe: Recipe, stated: PhaseSettings, number: int, first: int, rows: Sequence[int]) -> Phase:
    settings, sources = recipe.finetune, recipe.data.by_name()
    names = list(sources)
    if stated.weights is not None:
        weights = [stated.weights.get(name, 0.0) for name in names]
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
    rule = stated.epoch or recipe.data.epoch
    if rule != "rows" and not weights[names.index(rule)]:
        raise GovorError(
            f"Phase '{stated.name}' counts its epochs by '{rule}', of which it draws nothing; set its epoch."
        )
    draws = mixture.epoch_draws(None if rule == "rows" else names.index(rule))
    steps = max(1, round(stated.epochs * draws / settings.clips_per_step))
    if steps > _MOST_STEPS:
        raise GovorError(
            f"Phase '{stated.name}' would take {steps:.3g} steps; lower its epochs, or raise the share of the source that its "
            "epochs are counted by."
        )
    return Phase(
        stated.name,
        first,
        min(steps, stated.max_steps or steps),
        mixture,
        schedule=stated.schedule or settings.schedule,
        rates=_rates(recipe, stated),
    )


def _rates(recipe: Recipe, stated: PhaseSettings) -> dict[str, float]:
    if stated.groups is not None:
        return stated.groups
    if stated.lr is not None:
        return {"all": stated.lr}
    return recipe.finetune.groups or {"all": recipe.finetune.lr}


def _warmup(recipe: Recipe, phase: PhaseSettings, steps: int) -> int:
    warmup = recipe.finetune.warmup_steps if phase.warmup_steps is None else phase.warmup_steps
    if warmup is None:
        return steps // 10
    if warmup > steps:
        where = f"phase '{phase.name}' has" if recipe.finetune.phases else "the run has"
        whose = "finetune.warmup_steps" if phase.warmup_steps is None else "its warmup_steps"
        raise GovorError(
            f"{whose} is {warmup} and {where} {steps} steps, so the rate would never reach its peak; "
            "lower warmup_steps, or leave it out for a tenth of the steps."
        )
    return warmup


def even_steps(phases: Sequence[Phase], evaluations: int) -> set[int]:
    """Steps after which to evaluate: evenly spaced, at the end of every phase, the last one at the end of the run."""
    steps = phases[-1].end
    count = min(evaluations, steps)
    return {math.ceil(index * steps / count) for index in range(1, count + 1)} | {phase.end for phase in phases}
