"""Manifest rows → collated micro-batches, in data-loading workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from govor.corpus.manifests import Manifest
from govor.corpus.samples import clip_samples
from govor.errors import GovorError
from govor.examples.batching import Plan, draw_seed
from govor.examples.spec import ExampleSpec


class TrainingSource:
    """Decides, per draw, what an example shall be (see `ExampleSpec`)."""

    def __init__(self, manifest: Manifest, encoder: Any, seed: int, full_length_share: float) -> None:
        self.manifest, self.encoder = manifest, encoder
        self.seed, self.full_length_share = seed, full_length_share

    def __len__(self) -> int:
        return len(self.manifest)

    def spec(self, row: int, draw: int) -> ExampleSpec:
        """The example of one draw; its random choices have a seed of their own."""
        clip = self.manifest[row]
        full = self.full_length_share > 0 and _uniform(self.seed, "full_length", draw) < self.full_length_share
        return ExampleSpec(clip, clip.language, full_length=full)

    def context_frames(self, spec: ExampleSpec) -> int:
        """The family decides."""
        return int(self.encoder.context_frames(spec))


def _uniform(*parts: int | str) -> float:
    return draw_seed(*parts) / 2**63


def load_batch(specs: Sequence[ExampleSpec], encoder: Any) -> dict[str, Any]:
    """Decode, render and collate examples."""
    examples = []
    for spec in specs:
        clip = spec.clip
        samples = clip_samples(clip)
        examples.append(encoder.encode(spec, samples))
    batch: dict[str, Any] = encoder.collate(examples)
    return batch


@dataclass(frozen=True, slots=True)
class Step:
    """The collated micro-batches of one rank's step, each with whether it counts."""

    number: int
    audio_seconds: float
    batches: list[tuple[dict[str, Any], bool]]

    def pin_memory(self) -> Step:
        """For the loader: page-locked copies."""
        batches = [(convert(batch, lambda tensor: tensor.pin_memory()), counts) for batch, counts in self.batches]
        return Step(self.number, self.audio_seconds, batches)


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
        encoder = self.plan.source.encoder  # type: ignore[attr-defined]
        batches = self.plan.step(number, self.rank)
        seconds = sum(spec.clip.duration for batch in batches if batch.counts for spec in batch.specs)
        return Step(number, seconds, [(load_batch(batch.specs, encoder), batch.counts) for batch in batches])


def step_loader(plan: Plan, rank: int, first: int, last: int, workers: int, pin: bool) -> Iterator[Step]:
    """Steps first … last-1 in order, prefetched by `workers` processes."""
    loader = DataLoader(
        StepDataset(plan, rank),
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        pin_memory=pin,
        worker_init_fn=_one_thread,
    )
    for item in loader:
        if isinstance(item, GovorError):
            raise item
        yield item


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
