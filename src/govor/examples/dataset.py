"""Manifest rows → collated micro-batches, in data-loading workers."""

from __future__ import annotations

import bisect
import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from govor.corpus.manifests import Manifest
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import AudioError, GovorError
from govor.examples.augment import Augmenter, augmented_clip
from govor.examples.batching import Plan
from govor.examples.mixing import uniform
from govor.examples.settings import SpecAugment
from govor.examples.spec import ExampleSpec
from govor.examples.stripes import hide


@dataclass(frozen=True, slots=True)
class Odds:
    """From draw `first_draw` on: the probability that a row that is free to choose shows a feature."""

    first_draw: int
    timestamps: float
    previous: float


@dataclass(frozen=True, slots=True)
class Choices:
    """How a run turns rows into examples.

    `timed` says that the model knows time tokens: a row that makes no sense without them gets them then, at any odds.
    """

    full_length_share: float = 0.0
    timed: bool = False
    odds: tuple[Odds, ...] = (Odds(0, 0.0, 0.0),)
    language: str | None = None
    spec_augment: SpecAugment | None = None


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
        self,
        sources: Sequence[Sequence[Clip]],
        renderer: Any,
        seed: int,
        choices: Choices | None = None,
        augmenter: Augmenter | None = None,
    ) -> None:
        self.sources, self.renderer, self.seed = sources, renderer, seed
        self.choices, self.augmenter = choices or Choices(), augmenter
        stripes = self.choices.spec_augment
        self.hide = None if stripes is None else partial(_hide, stripes, seed)
        self._starts = list(itertools.accumulate((len(rows) for rows in sources), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def source_of(self, row: int) -> int:
        """The number of the source that a row belongs to."""
        return bisect.bisect_right(self._starts, row) - 1

    def spec(self, row: int, draw: int) -> ExampleSpec:
        """The example of one draw; its random choices have a seed of their own."""
        source, choices = self.source_of(row), self.choices
        stripes = choices.spec_augment
        clip = self.sources[source][row - self._starts[source]]
        odds = [odds for odds in choices.odds if odds.first_draw <= draw][-1]
        timed = has_times(clip) and self._happens("timestamps", draw, odds.timestamps)
        spec = ExampleSpec(
            clip,
            choices.language or clip.language,
            full_length=self._happens("full_length", draw, choices.full_length_share),
            with_timestamps=timed or (choices.timed and must_have_times(clip)),
            with_previous=has_previous(clip) and self._happens("previous", draw, odds.previous),
            mask_draw=draw if stripes and self._happens("spec_augment", draw, stripes.share) else None,
        )
        return spec if self.augmenter is None else self._augmented(spec, draw)

    def _happens(self, what: str, draw: int, probability: float) -> bool:
        return probability > 0 and uniform(self.seed, what, draw) < probability

    def _augmented(self, spec: ExampleSpec, draw: int) -> ExampleSpec:
        """The length after augmentation is known before any audio is read; what would not fit a window stays as it is."""
        assert self.augmenter is not None
        factor = self.augmenter.speed_factor(spec.clip.id, draw)
        seconds = spec.clip.duration / factor
        if seconds > self.renderer.longest_seconds:
            return spec
        changed = augmented_clip(spec.clip, factor, seconds)
        return replace(spec, clip=changed, recorded=spec.clip, augment_draw=draw)

    def cost_frames(self, spec: ExampleSpec) -> int:
        """The family decides."""
        return int(self.renderer.cost_frames(spec))


def has_times(clip: Clip) -> bool:
    """Whether a row can be taught with timestamps."""
    return bool(clip.segments)


def has_previous(clip: Clip) -> bool:
    """Whether a row can be given the text before it."""
    return bool(clip.prev_transcript and clip.prev_transcript.strip())


def must_have_times(clip: Clip) -> bool:
    """Whether a row makes no sense without them: the slice was cut before the words of its last segment. One that has its
    words and no end (the last line of an LRC) ends with the clip."""
    return bool(clip.segments) and clip.segments[-1].end is None and not clip.segments[-1].text


def _hide(stripes: SpecAugment, seed: int, mel: torch.Tensor, spec: ExampleSpec) -> torch.Tensor:
    assert spec.mask_draw is not None
    return hide(mel, stripes, spec.clip.duration, seed, spec.mask_draw)


Hide = Callable[[torch.Tensor, ExampleSpec], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Unread:
    """A clip that could not be read, and why."""

    clip: Clip
    rule: str
    message: str


def load_batch(
    specs: Sequence[ExampleSpec],
    renderer: Any,
    augmenter: Augmenter | None = None,
    hide: Hide | None = None,
    unread: list[Unread] | None = None,
) -> dict[str, Any]:
    """Decode, augment and mask where the spec says so, render and collate examples.

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
        if augmenter is not None and spec.augment_draw is not None:
            samples, _, _ = augmenter(samples, clip.id, spec.augment_draw)
        example = renderer.encode(spec, samples)
        if hide is not None and spec.mask_draw is not None:
            example = replace(example, mel=hide(example.mel, spec))
        examples.append(example)
    batch: dict[str, Any] = renderer.collate(examples) if examples else {}
    return batch


@dataclass(frozen=True, slots=True)
class Step:
    """The collated micro-batches of one rank's step, each with whether it counts.

    `drawn` counts over all ranks: clips, those with timestamps, with previous text, at full length, and by source.
    `unread` are clips of this rank that could not be read and are left out.
    """

    number: int
    audio_seconds: float
    drawn: dict[str, int]
    batches: list[tuple[dict[str, Any], bool]]
    unread: tuple[Unread, ...] = ()

    def pin_memory(self) -> Step:
        """For the loader: page-locked copies."""
        batches = [(convert(batch, lambda tensor: tensor.pin_memory()), counts) for batch, counts in self.batches]
        return replace(self, batches=batches)


def convert(batch: dict[str, Any], change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Any]:
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
        source: Any = self.plan.source
        draws = self.plan.draws(number)
        specs = [source.spec(row, draw) for draw, row in draws]
        batches = self.plan.deal_out(specs)[self.rank]
        seconds = sum(spec.clip.duration for batch in batches if batch.counts for spec in batch.specs)
        unread: list[Unread] = []
        loaded = [
            (load_batch(batch.specs, source.renderer, source.augmenter, source.hide, unread), batch.counts)
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
        "timestamps": sum(spec.with_timestamps for spec in specs),
        "previous": sum(spec.with_previous for spec in specs),
        "full_length": sum(spec.full_length for spec in specs),
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
    asked = 0

    def hear(*_: object) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            os._exit(0)

    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, hear)
