"""Whether a difference between two scorings is one of many clips, or of three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from govor.metrics.intervals import FEWEST_CLUSTERS, Clusters, Difference, paired_differences

# A result that hangs on so many clips is theirs.
MOST_DECIDING = 3
SIGNIFICANT = 0.05
# The sign of a smaller difference than this (relative), which no test shows, is noise, and that it turns is no news.
_SMALL = 0.02


@dataclass(frozen=True, slots=True)
class Without:
    """The clips at these places left out, which changes what is to be said; `a` and `b` are the rates of the others."""

    places: tuple[int, ...]
    a: float
    b: float
    difference: Difference


def paired_and_decided(
    errors_a: Sequence[int], errors_b: Sequence[int], lengths: Sequence[int], clusters: Clusters
) -> tuple[Difference, Without | None]:
    """The paired difference, and the fewest clips, three at most, without which its sign or its significance is another.

    Left out are the clips that pull most towards B, or most towards A: by how much the difference of the rates changes
    without each. A sign counts where the difference is significant, or 2 % of A's rate or more.
    """
    a, b, words = (np.asarray(values, np.float64) for values in (errors_a, errors_b, lengths))
    sets = _candidates(b - a, words)
    base, *others = paired_differences(errors_a, errors_b, lengths, clusters, [(), *sets])
    if clusters.count < FEWEST_CLUSTERS or base.p_value is None:
        return base, None
    large = abs(base.difference) * words.sum() >= _SMALL * a.sum()
    for places, other in zip(sets, others, strict=True):
        turned = base.difference * other.difference < 0
        if _shown(base) != _shown(other) or (turned and large):
            rest = np.delete(np.arange(len(words)), places)
            length = float(words[rest].sum())
            return base, Without(places, float(a[rest].sum()) / length, float(b[rest].sum()) / length, other)
    return base, None


def fewest_that_turn(
    errors_a: Sequence[int], errors_b: Sequence[int], lengths: Sequence[int]
) -> tuple[int, ...] | None:
    """The fewest clips, three at most, without which the other of the two has fewer errors; None where it takes more, or where
    they have as many."""
    a, b, words = (np.asarray(values, np.float64) for values in (errors_a, errors_b, lengths))
    change = b - a
    for places in _candidates(change, words):
        if change.sum() * (change.sum() - change[list(places)].sum()) < 0:
            return places
    return None


def _candidates(change: npt.NDArray[np.float64], words: npt.NDArray[np.float64]) -> list[tuple[int, ...]]:
    """The clips to leave out, the fewest first; of equally many first those that make the difference what it is."""
    total, length = change.sum(), words.sum()
    if not length:
        return []
    # What the rate's difference loses without each clip; a clip that holds all words cannot be left out.
    effect = (change - total / length * words) / np.maximum(length - words, 1)
    towards = -1.0 if total < 0 else 1.0
    sides = []
    for sign in (towards, -towards):
        own = np.flatnonzero(sign * change > 0)
        sides.append(own[np.argsort(-sign * effect[own], kind="stable")][:MOST_DECIDING].tolist())
    most = min(MOST_DECIDING, len(words) - 1)
    return [tuple(side[:count]) for count in range(1, most + 1) for side in sides if len(side) >= count]


def _shown(difference: Difference) -> int:
    """-1 or 1 where a difference is significant, by its sign; else 0."""
    if difference.p_value is None or difference.p_value >= SIGNIFICANT:
        return 0
    return -1 if difference.difference < 0 else 1
