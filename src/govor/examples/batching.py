"""Which clips, in which order, in which batches: a pure function of (seed, step, rank).

Nothing is remembered between steps, so resuming needs the step number and replays nothing.

Where `mixing` says which source a draw takes, this file says which micro-batches a step's draws make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from govor.errors import GovorError
from govor.examples.mixing import Mixture
from govor.examples.phases import Phase
from govor.examples.spec import ExampleSpec
from govor.mel import FRAMES_PER_SECOND


class SpecSource(Protocol):
    """What the plan asks of the data."""

    def __len__(self) -> int: ...

    def spec(self, row: int, draw: int) -> ExampleSpec:
        """The example that draw number `draw` of the run makes of manifest row `row`."""
        ...

    def cost_frames(self, spec: ExampleSpec) -> int:
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
        source: rows and what to make of them; the rows of several datasets stand one after the other.
        seed: which of the possible orders.
        clips_per_step: examples per optimiser step over all devices, whatever the micro-batches.
        max_batch_audio_seconds: context seconds that one device takes at once.
        world_size: devices.
        phases: what is drawn from which step on; all rows equally where none is given.
    """

    source: SpecSource
    seed: int
    clips_per_step: int
    max_batch_audio_seconds: float
    world_size: int = 1
    phases: tuple[Phase, ...] = ()

    def draws(self, step: int) -> list[tuple[int, int]]:
        """(draw number, row) of the examples of `step` (counted from 0), the same for every rank.

        Draw numbers count through the whole run, so that every random choice of a run has a number of its own.
        """
        begun_at, mixture = self._drawn_at(step)
        first = step * self.clips_per_step
        begun = begun_at * self.clips_per_step
        return [(draw, mixture.row(self.seed, draw - begun)) for draw in range(first, first + self.clips_per_step)]

    def _drawn_at(self, step: int) -> tuple[int, Mixture]:
        """The mixture of a step, and the step that it is drawn from on."""
        begun = [phase for phase in self.phases if phase.first_step <= step]
        return (begun[-1].first_step, begun[-1].mixture) if begun else (0, Mixture((len(self.source),), (1.0,)))

    def step(self, step: int, rank: int = 0) -> list[MicroBatch]:
        """The micro-batches of one rank at one step; every rank gets the same number of them."""
        return self.deal_out([self.source.spec(row, draw) for draw, row in self.draws(step)])[rank]

    def deal_out(self, specs: Sequence[ExampleSpec]) -> list[list[MicroBatch]]:
        """The micro-batches of every rank for the examples of one step."""
        examples = [(spec, self.source.cost_frames(spec)) for spec in specs]
        return deal(examples, self.max_batch_audio_seconds, self.world_size)


def pack(examples: Sequence[tuple[ExampleSpec, int]], budget_seconds: float) -> list[MicroBatch]:
    """Examples in order of context length, each batch within the budget (a single example always fits)."""
    groups: list[list[tuple[ExampleSpec, int]]] = []
    frames = 0
    for example in sorted(examples, key=lambda pair: pair[1]):
        frames += example[1]
        if not groups or frames > budget_seconds * FRAMES_PER_SECOND:
            groups.append([])
            frames = example[1]
        groups[-1].append(example)
    return [MicroBatch(tuple(spec for spec, _ in group), tuple(frames for _, frames in group)) for group in groups]


def deal(examples: Sequence[tuple[ExampleSpec, int]], budget_seconds: float, world_size: int) -> list[list[MicroBatch]]:
    """Examples with their context lengths to ranks, evenly by audio, and the same number of micro-batches to each.

    The longest go first, each to the rank that has least. A rank with fewer micro-batches than another halves its largest;
    where that cannot be, a repeat of weight zero fills the gap.
    """
    shares: list[list[tuple[ExampleSpec, int]]] = [[] for _ in range(world_size)]
    frames = [0] * world_size
    for example in sorted(examples, key=lambda pair: -pair[1]) if world_size > 1 else examples:
        rank = frames.index(min(frames))
        shares[rank].append(example)
        frames[rank] += example[1]
    ranks = [pack(share, budget_seconds) for share in shares]
    spec, least = min(examples, key=lambda pair: pair[1])
    most = max(map(len, ranks))
    for batches in ranks:
        while len(batches) < most:
            largest = max((b for b in batches if len(b.specs) > 1), key=lambda b: b.context_seconds, default=None)
            if largest is None:
                batches.append(MicroBatch((spec,), (least,), counts=False))
            else:
                batches.remove(largest)
                batches += largest.halves()
    return ranks


def check_plan(rows: int, clips_per_step: int, world_size: int) -> None:
    """Refuse what cannot be planned."""
    if rows == 0:
        raise GovorError("The training manifest holds no clips.")
    if clips_per_step < world_size:
        raise GovorError(
            f"clips_per_step is {clips_per_step} and there are {world_size} devices; raise finetune.clips_per_step."
        )
