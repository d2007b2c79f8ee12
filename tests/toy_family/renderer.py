"""Tones as examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from govor.audio import Samples
from govor.errors import GovorError
from govor.examples.settings import Examples
from govor.examples.spec import ExampleSpec
from govor.families.base import Batch, all_of
from govor.jsons import read_json
from govor.mel import FRAMES_PER_SECOND
from toy_family.examples import LABEL, label_of
from toy_family.features import log_mel


@dataclass(frozen=True, slots=True)
class ToneExample:
    """mel [bands, frames] and the number of its class."""

    mel: torch.Tensor
    target: int


class ToneRenderer:
    """Renders examples; knows the label that is learned and its classes, no weights."""

    longest_seconds: float = 30.0
    features: tuple[str, ...] = ()

    def __init__(self, classes: Sequence[str], label: str = LABEL) -> None:
        self.classes, self.label = list(classes), label

    @classmethod
    def load(cls, folder: Path, examples: Examples) -> ToneRenderer:
        """From a model's configuration and a recipe."""
        return cls(read_json(folder / "config.json", classes=list)["classes"], label_of(examples))

    def cost_frames(self, spec: ExampleSpec) -> int:
        """The clip's frames."""
        return max(round(spec.clip.duration * FRAMES_PER_SECOND), 1)

    def encode(self, spec: ExampleSpec, samples: Samples) -> ToneExample:
        """Features and class."""
        return ToneExample(log_mel(samples), self.classes.index(spec.clip.labels[self.label]))

    def collate(self, examples: Sequence[object]) -> Batch:
        """mels (a list of [bands, F]) and targets [B]."""
        tones = all_of(ToneExample, examples)
        targets = torch.tensor([example.target for example in tones])
        return {"mels": [example.mel for example in tones], "targets": targets}

    def check(self, spec: ExampleSpec) -> None:
        """Refuse a class that the model does not have."""
        label = spec.clip.labels.get(self.label)
        if label not in self.classes:
            raise GovorError(f"Clip '{spec.clip.id}' is '{label}', and one of {', '.join(self.classes)} was wanted.")

    def spelled(self, spec: ExampleSpec) -> list[tuple[str, int, bool]]:
        """The class."""
        return [(spec.clip.labels[self.label], 1, True)]
