"""Manifest rows → collated micro-batches, in data-loading workers."""

from __future__ import annotations

import bisect
import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from govor.audio import Samples
from govor.corpus.manifests import Manifest
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import AudioError, GovorError
from govor.examples.batching import Plan
from govor.examples.features import FEATURES, Feature
from govor.examples.spec import ExampleSpec

# What a renderer makes of several examples: tensors, and lists of tensors, by name.
Batch = dict[str, Any]


class Renders(Protocol):
    """What loading asks of a family's renderer; see `govor.families.base.Renderer`."""

    def cost_frames(self, spec: ExampleSpec) -> int:
        """What an example costs in memory, in frames of 10 ms."""
        ...

    def encode(self, spec: ExampleSpec, samples: Samples) -> object:
        """One example."""
        ...

    def collate(self, examples: Sequence[object]) -> Batch:
        """Examples as one batch."""
        ...

    def spelled(self, spec: ExampleSpec) -> list[tuple[str, int, bool]]:
        """What the model is taught for an example, as a person reads it."""
        ...


@dataclass(frozen=True, slots=True)
class Choices:
    """How a run turns rows into examples.

    `language` is the token for every clip, in place of its own; `probabilities` hold, from a draw on, with which
    probability a row that is free to choose shows each of the `features`.
    """

    language: str | None = None
    features: tuple[Feature, ...] = ()
    probabilities: tuple[tuple[int, Mapping[str, float]], ...] = ((0, {}),)


class Rows(Sequence[Clip]):
    """Some rows of a manifest, or all of them, by number."""

    def __init__(self, manifest: Manifest, chosen: npt.NDArray[np.int64] | None = None) -> None:
        self.manifest, self.chosen = manifest, chosen

    def __len__(self) -> int:
        return len(self.manifest) if self.chosen is None else len(self.chosen)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.manifest[index if self.chosen is None else int(self.chosen[index])]


class TrainingSource:
    """Decides, per draw, what an example shall be (see `ExampleSpec`); rows of all sources, one after the other."""

    def __init__(
        self, sources: Sequence[Sequence[Clip]], renderer: Renders, seed: int, choices: Choices | None = None
    ) -> None:
        self.sources, self.renderer, self.seed = sources, renderer, seed
        self.choices = choices or Choices()
        self._starts = list(itertools.accumulate((len(rows) for rows in sources), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def source_of(self, row: int) -> int:
        """The number of the source that a row belongs to."""
        return bisect.bisect_right(self._starts, row) - 1

    def spec(self, row: int, draw: int) -> ExampleSpec:
        """The example of one draw."""
        source, choices = self.source_of(row), self.choices
        clip = self.sources[source][row - self._starts[source]]
        chances = [chances for first, chances in choices.probabilities if first <= draw][-1]
        spec = ExampleSpec(clip, choices.language or clip.language)
        for feature in choices.features:
            spec = feature.drawn(spec, self.seed, draw, chances.get(feature.name, 0.0))
        return spec

    def cost_frames(self, spec: ExampleSpec) -> int:
        """The family decides."""
        return int(self.renderer.cost_frames(spec))


@dataclass(frozen=True, slots=True)
class Unread:
    """A clip that could not be read, and why."""

    clip: Clip
    rule: str
    message: str


def load_batch(
    specs: Sequence[ExampleSpec],
    renderer: Renders,
    features: Sequence[Feature] = (),
    unread: list[Unread] | None = None,
) -> Batch:
    """Decode, render and collate examples, with the features that their specs say.

    Clips that cannot be read are left out and put into `unread`; without it they are refused. Nothing is left where none
    can be read.
    """
    examples = []
    for spec in specs:
        clip = spec.recorded or spec.clip
        try:
            samples = clip_samples(clip)
        except AudioError as error:
            if unread is None:
                raise
            unread.append(Unread(clip, error.rule, str(error)))
            continue
        for feature in features:
            samples = feature.on_samples(samples, spec)
        example = renderer.encode(spec, samples)
        for feature in features:
            example = feature.on_example(example, spec)
        examples.append(example)
    return renderer.collate(examples) if examples else {}


@dataclass(frozen=True, slots=True)
class Step:
    """The collated micro-batches of one rank's step, each with whether it counts.

    `drawn` counts over all ranks: clips, those that show each feature, and by source.
    `unread` are clips of this rank that could not be read and are left out.
    """

    number: int
    audio_seconds: float
    drawn: dict[str, int]
    batches: list[tuple[Batch, bool]]
    unread: tuple[Unread, ...] = ()

    def pin_memory(self) -> Step:
        """For the loader: page-locked copies."""
        batches = [(convert(batch, lambda tensor: tensor.pin_memory()), counts) for batch, counts in self.batches]
        return replace(self, batches=batches)


def convert(batch: Batch, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    """A batch with every tensor changed."""
    return {
        name: change(value) if isinstance(value, torch.Tensor) else [change(item) for item in value]
        for name, value in batch.items()
    }


class StepDataset(Dataset[Step | GovorError]):
    """Item s is the whole of step s for this rank, so that workers prefetch steps.

    An error is handed over as a value: raised in a worker it would arrive as a page of traceback.
    """

    def __init__(self, plan: Plan, rank: int) -> None:
        self.plan, self.rank = plan, rank

    def __getitem__(self, number: int) -> Step | GovorError:
        try:
            return self._step(number)
        except GovorError as error:
            return error

    def _step(self, number: int) -> Step:
        source = self.plan.source
        assert isinstance(source, TrainingSource)
        draws = self.plan.draws(number)
        specs = [source.spec(row, draw) for draw, row in draws]
        batches = self.plan.deal_out(specs)[self.rank]
        seconds = sum(spec.clip.duration for batch in batches if batch.counts for spec in batch.specs)
        unread: list[Unread] = []
        loaded = [
            (load_batch(batch.specs, source.renderer, source.choices.features, unread), batch.counts)
            for batch in batches
        ]
        return Step(
            number,
            max(seconds - sum(item.clip.duration for item in unread), 0.0),
            _drawn(specs, [source.source_of(row) for _, row in draws]),
            [(batch, counts) for batch, counts in loaded if batch],
            tuple(unread),
        )


def _drawn(specs: Sequence[ExampleSpec], sources: Sequence[int]) -> dict[str, int]:
    return {
        "clips": len(specs),
        **{feature.name: sum(feature.present(spec) for spec in specs) for feature in FEATURES},
        **{f"source {number}": count for number, count in sorted(Counter(sources).items())},
    }


def step_loader(plan: Plan, rank: int, first: int, last: int, workers: int, pin: bool) -> Iterator[Step]:
    """Steps first … last-1 in order, prefetched by `workers` processes."""
    loader = DataLoader(
        StepDataset(plan, rank),
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        pin_memory=pin,
        worker_init_fn=_prepare_worker,
    )
    for item in loader:
        if isinstance(item, GovorError):
            raise item
        yield item


def _prepare_worker(_: int) -> None:
    """One thread; and a signal to the whole group is for the parent, which finishes its step before it ends the workers."""
    torch.set_num_threads(1)
    signals = 0

    def hear(*_: object) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(0)

    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, hear)
