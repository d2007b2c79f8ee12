"""How far a score can be trusted: the bootstrap over speakers, sources or clips.

Clips of one speaker err together, so whole speakers are drawn. Source: Bisani and Ney, "Bootstrap estimates for
confidence intervals in ASR performance evaluation", ICASSP 2004.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from govor.corpus.alike import name_key
from govor.runs import Json

Numbers = npt.NDArray[np.floating] | npt.NDArray[np.integer]

ROUNDS = 10_000
MIN_CLUSTERS = 10
# Of fewer, all of the same opinion, no two-sided test is below 0.05: 5 coins fall alike every sixteenth time.
FEWEST_CLUSTERS = 6
_SEED = 20_040_517
# Draws are made in blocks of this many numbers, so that memory does not grow with the clips.
_BLOCK_NUMBERS = 1_000_000
# With so many clusters the quantiles of fewer rounds are as steady, and the rounds are what takes the time.
_MANY_CLUSTERS = 2_000
_ROUNDS_OF_MANY = 1_000
_MOST_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Clusters:
    """Which clips are drawn together; `note` says why this unit was taken."""

    unit: str
    labels: tuple[str, ...]
    note: str

    @cached_property
    def count(self) -> int:
        """How many there are."""
        return len(set(self.labels))

    @cached_property
    def index(self) -> npt.NDArray[np.intp]:
        """The cluster of each clip [clips], counted in the order of their labels."""
        places = {label: place for place, label in enumerate(sorted(set(self.labels)))}
        return np.fromiter(map(places.__getitem__, self.labels), np.intp, len(self.labels))


@dataclass(frozen=True, slots=True)
class Corpus:
    """Errors and lengths [clips], and which of the clips are drawn together."""

    errors: Sequence[float] | Numbers
    lengths: Sequence[float] | Numbers
    clusters: Clusters

    def sums(self) -> npt.NDArray[np.float64]:
        """Errors and lengths by cluster [clusters, 2]."""
        columns = (np.asarray(column, np.float64) for column in (self.errors, self.lengths))
        return np.column_stack([np.bincount(self.clusters.index, column) for column in columns])


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def choose_clusters(clips: Sequence[Json]) -> Clusters:
    """By speaker; under ten speakers by source; under ten sources by clip. Unknown ones count as a group of their own."""
    notes: list[str] = []
    for unit in ("speaker", "source"):
        written = [str(clip.get(unit) or "") for clip in clips]
        keys = {name: name_key(name) for name in set(written)}
        names = [keys[name] for name in written]
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


def interval(errors: Sequence[float], lengths: Sequence[float], clusters: Clusters) -> Interval | None:
    """The 95 % percentile interval of the corpus error rate; None with fewer than six clusters."""
    return intervals([Corpus(errors, lengths, clusters)])[0]


def intervals(corpora: Sequence[Corpus]) -> list[Interval | None]:
    """`interval` of each. To draw takes the time: those of equally many clusters are drawn together, and others side by side
    where there are cores."""
    by_count: dict[int, list[int]] = {}
    for place, corpus in enumerate(corpora):
        if corpus.clusters.count >= FEWEST_CLUSTERS and np.sum(corpus.lengths):
            by_count.setdefault(corpus.clusters.count, []).append(place)
    groups = [places for _, places in sorted(by_count.items(), reverse=True)]
    spread: list[Interval | None] = [None] * len(corpora)
    with ThreadPoolExecutor(_MOST_THREADS) as pool:
        drawn = pool.map(_resampled, [[corpora[place].sums() for place in places] for places in groups])
        for places, rates in zip(groups, drawn, strict=True):
            for place, (low, high) in zip(places, (np.quantile(some, [0.025, 0.975]) for some in rates), strict=True):
                spread[place] = Interval(float(low), float(high))
    return spread


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
    sums = [Corpus(table[:, 0], table[:, 1], clusters).sums() for table in tables]
    if clusters.count < 2 or not base[:, 1].any():
        return [_difference(table, np.zeros(0)) for table in sums]
    return [_difference(*pair) for pair in zip(sums, _resampled(sums), strict=True)]


def _difference(sums: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> Difference:
    """Of (difference in errors, words) by cluster, and the rates [rounds] of resampled corpora."""
    errors, words = sums.sum(axis=0)
    observed = float(errors / words) if words else 0.0
    if not len(values):
        return Difference(observed, None, None)
    against = min(int((values <= 0).sum()), int((values >= 0).sum()))
    differing = int(np.count_nonzero(sums[:, 0]))
    p = min(1.0, max(2 * (against + 1) / (len(values) + 1), 2.0 ** (1 - differing)))
    if len(sums) < FEWEST_CLUSTERS:
        return Difference(observed, None, p)
    low, high = np.quantile(values, [0.025, 0.975])
    return Difference(observed, Interval(float(low), float(high)), p)


def _resampled(tables: Sequence[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
    """Of tables of sums by cluster [clusters, 2], as many in each: first column over second [rounds] of corpora drawn by
    cluster. Draws where the second is 0 are left out; the seed is fixed so that a score prints the same twice."""
    count = len(tables[0])
    rounds = ROUNDS if count < _MANY_CLUSTERS else _ROUNDS_OF_MANY
    generator = np.random.default_rng(_SEED)
    even = np.full(count, 1 / count)
    sums = np.concatenate(tables, axis=1)
    most = max(1, _BLOCK_NUMBERS // count)
    drawn = np.concatenate(
        [
            generator.multinomial(count, even, size=min(most, rounds - done)).astype(np.float64) @ sums
            for done in range(0, rounds, most)
        ]
    )
    pairs = (drawn[:, place : place + 2] for place in range(0, drawn.shape[1], 2))
    return [pair[:, 0] / pair[:, 1] for pair in (pair[pair[:, 1] > 0] for pair in pairs)]
