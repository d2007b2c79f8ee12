"""How far a score can be trusted: the bootstrap over speakers, sources or clips.

Clips of one speaker err together, so whole speakers are drawn. Source: Bisani and Ney, "Bootstrap estimates for
confidence intervals in ASR performance evaluation", ICASSP 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from govor.corpus.alike import name_key
from govor.runs import Json

ROUNDS = 10_000
MIN_CLUSTERS = 10
# Of fewer, all of the same opinion, no two-sided test is below 0.05: 5 coins fall alike every sixteenth time.
FEWEST_CLUSTERS = 6
_SEED = 20_040_517
# Draws are made in blocks of this many numbers, so that memory does not grow with the clips.
_BLOCK_NUMBERS = 4_000_000
# With so many clusters the quantiles of fewer rounds are as steady, and the rounds are what takes the time.
_MANY_CLUSTERS = 2_000
_ROUNDS_OF_MANY = 1_000


@dataclass(frozen=True, slots=True)
class Clusters:
    """Which clips are drawn together; `note` says why this unit was taken."""

    unit: str
    labels: tuple[str, ...]
    note: str

    @property
    def count(self) -> int:
        """How many there are."""
        return len(set(self.labels))


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def choose_clusters(clips: Sequence[Json]) -> Clusters:
    """By speaker; under ten speakers by source; under ten sources by clip. Unknown ones count as a group of their own."""
    notes: list[str] = []
    for unit in ("speaker", "source"):
        names = [name_key(str(clip.get(unit) or "")) for clip in clips]
        labels = tuple(name or f"clip {clip['id']}" for name, clip in zip(names, clips, strict=True))
        known = len(set(names) - {""})
        if known >= MIN_CLUSTERS:
            return Clusters(unit, labels, "; ".join([*notes, f"resampled over {len(set(labels))} {unit}s"]))
        notes.append(f"only {known} {unit}(s) known")
    labels = tuple(str(clip["id"]) for clip in clips)
    if len(labels) < FEWEST_CLUSTERS:
        notes.append(f"{len(labels)} clip(s) give no interval and no verdict, {FEWEST_CLUSTERS} would")
    else:
        notes.append(f"resampled over {len(labels)} clips, so the interval is too narrow where clips err together")
    return Clusters("clip", labels, "; ".join(notes))


def bootstrap_rates(
    errors: Sequence[float], lengths: Sequence[float], clusters: Clusters, rounds: int | None = None
) -> npt.NDArray[np.float64]:
    """Error rates [rounds] of resampled corpora. Draws where the reference is empty are left out."""
    return _resampled(np.column_stack([errors, lengths]).astype(np.float64), clusters, rounds)


def interval(errors: Sequence[float], lengths: Sequence[float], clusters: Clusters) -> Interval | None:
    """The 95 % percentile interval of the corpus error rate; None with fewer than six clusters."""
    if clusters.count < FEWEST_CLUSTERS or not sum(lengths):
        return None
    rates = bootstrap_rates(errors, lengths, clusters)
    low, high = np.quantile(rates, [0.025, 0.975])
    return Interval(float(low), float(high))


@dataclass(frozen=True, slots=True)
class Difference:
    """B's error rate minus A's on the same clips, its interval, and a two-sided p."""

    difference: float
    interval: Interval | None
    p_value: float | None


def paired_difference(
    errors_a: Sequence[float], errors_b: Sequence[float], lengths: Sequence[float], clusters: Clusters
) -> Difference:
    """The paired bootstrap: the same draws for both systems.

    p is twice the share of draws on the other side of zero, with one added to both counts so that it is never 0. It is no
    smaller than the p of a sign-flip test, 2^(1 - n) where n clusters differ: a draw of few clusters knows them alone. No
    interval comes of fewer than six clusters, and no p of fewer than two.
    """
    return paired_differences(errors_a, errors_b, lengths, clusters, [()])[0]


def paired_differences(
    errors_a: Sequence[float],
    errors_b: Sequence[float],
    lengths: Sequence[float],
    clusters: Clusters,
    without: Sequence[Sequence[int]],
) -> list[Difference]:
    """`paired_difference` without the clips at these places, once for each set of places; all by the same draws, in which
    such a clip has neither words nor errors."""
    base = np.column_stack([np.subtract(errors_b, errors_a), lengths]).astype(np.float64)
    tables = []
    for places in without:
        table = base.copy()
        table[list(places)] = 0.0
        tables.append(table)
    drawable = clusters.count >= 2 and base[:, 1].any()
    draws = _drawn(np.hstack(tables), clusters, None) if drawable else np.zeros((0, 2 * len(tables)))
    return [_difference(table, clusters, draws[:, 2 * place : 2 * place + 2]) for place, table in enumerate(tables)]


def _difference(table: npt.NDArray[np.float64], clusters: Clusters, draws: npt.NDArray[np.float64]) -> Difference:
    """Of (difference in errors, words) by clip, and the same [rounds] of resampled corpora."""
    errors, words = table.sum(axis=0)
    observed = float(errors / words) if words else 0.0
    values = _rates(draws)
    if not len(values):
        return Difference(observed, None, None)
    against = min(int((values <= 0).sum()), int((values >= 0).sum()))
    differing = int(np.count_nonzero(_cluster_sums(table, clusters)[:, 0]))
    p = min(1.0, max(2 * (against + 1) / (len(values) + 1), 2.0 ** (1 - differing)))
    if clusters.count < FEWEST_CLUSTERS:
        return Difference(observed, None, p)
    low, high = np.quantile(values, [0.025, 0.975])
    return Difference(observed, Interval(float(low), float(high)), p)


def _cluster_sums(table: npt.NDArray[np.float64], clusters: Clusters) -> npt.NDArray[np.float64]:
    _, index = np.unique(clusters.labels, return_inverse=True)
    sums = np.zeros((int(index.max()) + 1, table.shape[1]))
    np.add.at(sums, index, table)
    return sums


def _resampled(table: npt.NDArray[np.float64], clusters: Clusters, rounds: int | None) -> npt.NDArray[np.float64]:
    """First column over second [rounds] of corpora drawn by cluster."""
    return _rates(_drawn(table, clusters, rounds))


def _rates(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    some = draws[draws[:, 1] > 0]
    return np.asarray(some[:, 0] / some[:, 1])


def _drawn(table: npt.NDArray[np.float64], clusters: Clusters, rounds: int | None) -> npt.NDArray[np.float64]:
    """Sums of the columns [rounds, columns] of corpora drawn by cluster; the seed is fixed so that a score prints the same
    twice."""
    sums = _cluster_sums(table, clusters)
    count = len(sums)
    if rounds is None:
        rounds = ROUNDS if count < _MANY_CLUSTERS else _ROUNDS_OF_MANY
    generator = np.random.default_rng(_SEED)
    even = np.full(count, 1 / count)
    most = max(1, _BLOCK_NUMBERS // count)
    return np.concatenate(
        [generator.multinomial(count, even, size=min(most, rounds - done)) @ sums for done in range(0, rounds, most)]
    )
