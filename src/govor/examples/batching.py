"""Which clips, in which order, in which batches: a pure function of (seed, step, rank).

Nothing is remembered between steps, so resuming needs the step number and replays nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from govor.errors import GovorError
from govor.examples.spec import ExampleSpec

FRAMES_PER_SECOND = 100


class SpecSource(Protocol):
    """What the plan asks of the data."""

    def __len__(self) -> int: ...

    def spec(self, row: int, draw: int) -> ExampleSpec:
        """The example that draw number `draw` of the run makes of manifest row `row`."""
        ...

    def context_frames(self, spec: ExampleSpec) -> int:
        """Its context length."""
        ...


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples that go through the model together, with their context lengths in frames of 10 ms.

    `counts` is False for a repeat that only keeps this rank in step with the others: its loss weighs nothing.
    """

    specs: tuple[ExampleSpec, ...]
    frames: tuple[int, ...]
    counts: bool = True

    @property
    def context_seconds(self) -> float:
        """What it costs."""
        return sum(self.frames) / FRAMES_PER_SECOND

    def halves(self) -> tuple[MicroBatch, MicroBatch]:
        """Two micro-batches of half the examples."""
        at = len(self.specs) // 2
        return MicroBatch(self.specs[:at], self.frames[:at]), MicroBatch(self.specs[at:], self.frames[at:])


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole run's order of work.

    Attributes:
        source: rows and what to make of them.
        seed: which of the possible orders.
        clips_per_step: examples per optimiser step over all devices, whatever the micro-batches.
        max_batch_audio_seconds: context seconds that one device takes at once.
        world_size: devices.
    """

    source: SpecSource
    seed: int
    clips_per_step: int
    max_batch_audio_seconds: float
    world_size: int = 1

    def draws(self, step: int) -> list[tuple[int, int]]:
        """(draw number, manifest row) of the examples of `step` (counted from 0), the same for every rank.

        Draw d takes entry d mod N of the permutation of epoch d div N: each epoch sees every row once.
        """
        rows = len(self.source)
        first = step * self.clips_per_step
        return [
            (draw, int(permutation(self.seed, draw // rows, rows)[draw % rows]))
            for draw in range(first, first + self.clips_per_step)
        ]

    def step(self, step: int, rank: int = 0) -> list[MicroBatch]:
        """The micro-batches of one rank at one step; every rank gets the same number of them."""
        specs = [self.source.spec(row, draw) for draw, row in self.draws(step)]
        batches = pack([(spec, self.source.context_frames(spec)) for spec in specs], self.max_batch_audio_seconds)
        return deal(batches, self.world_size)[rank]


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, rows: int) -> npt.NDArray[np.int64]:
    """The order of one epoch."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def draw_seed(*parts: int | str) -> int:
    """A seed of its own for every random choice, the same on every machine."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def pack(examples: Sequence[tuple[ExampleSpec, int]], budget_seconds: float) -> list[MicroBatch]:
    """Examples in order of context length, each batch within the budget (a single example always fits)."""
    groups: list[list[tuple[ExampleSpec, int]]] = []
    held = 0
    for example in sorted(examples, key=lambda pair: pair[1]):
        held += example[1]
        if not groups or held > budget_seconds * FRAMES_PER_SECOND:
            groups.append([])
            held = example[1]
        groups[-1].append(example)
    return [MicroBatch(tuple(spec for spec, _ in group), tuple(frames for _, frames in group)) for group in groups]


def deal(batches: list[MicroBatch], world_size: int) -> list[list[MicroBatch]]:
    """Micro-batches to ranks, evenly by audio, the same number to each.

    The largest are halved until the number divides; where that cannot be, a repeat of weight zero fills the gap.
    """
    if world_size == 1:
        return [batches]
    pool = sorted(batches, key=lambda batch: -batch.context_seconds)
    while len(pool) % world_size:
        divisible = next((index for index, batch in enumerate(pool) if len(batch.specs) > 1), None)
        if divisible is None:
            break
        pool += pool.pop(divisible).halves()
        pool.sort(key=lambda batch: -batch.context_seconds)
    share = -(-len(pool) // world_size)
    ranks: list[list[MicroBatch]] = [[] for _ in range(world_size)]
    for batch in pool:
        open_ranks = [rank for rank in ranks if len(rank) < share]
        min(open_ranks, key=lambda rank: sum(item.context_seconds for item in rank)).append(batch)
    smallest = pool[-1]
    for rank in ranks:
        rank += [MicroBatch(smallest.specs[:1], smallest.frames[:1], counts=False)] * (share - len(rank))
    return ranks


def check_plan(rows: int, clips_per_step: int, world_size: int) -> None:
    """Refuse what cannot be planned."""
    if rows == 0:
        raise GovorError("The training manifest holds no clips.")
    if clips_per_step < world_size:
        raise GovorError(
            f"clips_per_step is {clips_per_step} and there are {world_size} devices; raise finetune.clips_per_step."
        )
