"""Which row a draw takes when several sources are mixed: a pure function, O(1) a draw, exact.

Drawing sources at random would need a memory of what has been drawn, or leave the shares to chance. Here the number of
draws that a source has had after n draws is a formula, so draw d knows its source and which draw of that source it is.
The sources interleave evenly, and each is seen whole before any of its rows comes again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_MOST_DRAWS = 10**15  # of an epoch; a share so small that more are needed is a slip, which the length of the run shows


@dataclass(frozen=True, slots=True)
class Mixture:
    """Sources of `rows` each, drawn in the proportion of `weights` (none below 0, one above).

    `number` tells the mixtures of one run apart, so that a later phase has an order of its own.
    """

    rows: tuple[int, ...]
    weights: tuple[float, ...]
    number: int = 0

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights, normalised; by the largest first, so that no sum overflows."""
        largest = max(self.weights)
        scaled = [weight / largest for weight in self.weights]
        return tuple(weight / sum(scaled) for weight in scaled)

    def counts(self, draws: int, seed: int = 0) -> tuple[int, ...]:
        """How many of the first `draws` draws each source gets: within 1 of its share, one by one never falling.

        The first source takes floor(n q + u) of n draws, the next its part of what is left, and so on, with an
        offset u per source from the seed. A floor of a line of slope at most 1 rises by 0 or 1 a draw, so every
        draw belongs to exactly one source.
        """
        left, counts = draws, []
        shares = self.shares
        for index, share in enumerate(shares):
            rest = sum(shares[index:])
            if share <= 0:
                taken = 0
            elif not any(shares[index + 1 :]):
                taken = left
            else:
                taken = min(math.floor(left * (share / rest) + _offset(seed, self.number, index)), left)
            counts.append(taken)
            left -= taken
        return tuple(counts)

    def place(self, seed: int, draw: int) -> tuple[int, int]:
        """(source, which draw of that source) of draw number `draw`, both counted from 0."""
        if len(self.rows) == 1:
            return 0, draw
        before, after = self.counts(draw, seed), self.counts(draw + 1, seed)
        source = next(index for index, (a, b) in enumerate(zip(before, after, strict=True)) if b > a)
        return source, before[source]

    def row(self, seed: int, draw: int) -> int:
        """The row of draw number `draw`, where the rows of the sources stand one after the other.

        Draw k of a source takes entry k mod N of the permutation of its pass k div N.
        """
        source, turn = self.place(seed, draw)
        rows = self.rows[source]
        order = permutation(seed, turn // rows, rows, source, self.number)
        return sum(self.rows[:source]) + int(order[turn % rows])

    def epoch_draws(self, epoch: int | None = None) -> int:
        """Draws in an epoch: as many as the drawn sources have rows, or as see source number `epoch` once."""
        if epoch is None:
            return sum(rows for rows, weight in zip(self.rows, self.weights, strict=True) if weight > 0)
        return math.ceil(min(self.rows[epoch] / self.shares[epoch], _MOST_DRAWS))


# The order of each source's present pass: one array a source, however many sources there are.
_orders: dict[tuple[int, int, int, int], tuple[int, npt.NDArray[np.int64]]] = {}


def permutation(seed: int, turn: int, rows: int, source: int = 0, number: int = 0) -> npt.NDArray[np.int64]:
    """The order of one pass over a source."""
    key = (seed, rows, source, number)
    order = _orders.get(key)
    if order is None or order[0] != turn:
        order = (turn, np.random.default_rng([seed, turn, source, number]).permutation(rows))
        _orders[key] = order
    return order[1]


def draw_seed(*parts: int | str) -> int:
    """A seed of its own for every random choice, the same on every machine."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def uniform(*parts: int | str) -> float:
    """A number in [0, 1) that belongs to `parts`."""
    return draw_seed(*parts) / 2**63


def chance(asked: float, able: Sequence[float], bound: Sequence[float], shares: Sequence[float]) -> Chance:
    """With which probability an able row must show a feature for `asked` of all draws to have it.

    Args:
        asked: wanted share of all draws.
        able: share of each source's rows that can carry the feature.
        bound: share of each source's rows that always do.
        shares: share of the draws that each source gets.
    """
    can = sum(share * part for share, part in zip(shares, able, strict=True))
    must = sum(share * part for share, part in zip(shares, bound, strict=True))
    free = can - must
    probability = 0.0 if free <= 0 else min(max((asked - must) / free, 0.0), 1.0)
    return Chance(asked, min(max(asked, must), can), probability)


@dataclass(frozen=True, slots=True)
class Chance:
    """The share that was asked for, the one that the rows allow, and the probability for a row that is free to choose."""

    asked: float
    reachable: float
    probability: float


@lru_cache(maxsize=256)
def _offset(seed: int, number: int, index: int) -> float:
    return uniform(seed, "mixture", number, index)
