"""A model whose attention follows made-up speech word by word, so that its alignment is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from conftest import speech
from govor.audio import SAMPLE_RATE
from govor.families.base import Attention, Hypothesis

TEXT = "sol luna mar pan"


class Following:
    """A recogniser whose attention follows the words of made-up speech (0.3 s each), and writes down what is there."""

    name = "following"
    longest_seconds = 30.0
    heads = ((0, 0), (0, 1))

    def __init__(self, late_frames: int = 0) -> None:
        self.late = late_frames

    def attend(
        self, clips: Sequence[Any], pieces: Sequence[Sequence[str]], *_: Any, **__: Any
    ) -> list[Attention | None]:
        found: list[Attention | None] = []
        for samples, parts in zip(clips, pieces, strict=True):
            frames = int(np.ceil(len(samples) / SAMPLE_RATE / 0.02))
            loud = np.abs(samples[: len(samples) // 320 * 320]).reshape(-1, 320).max(axis=1) > 0.05
            starts = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int)])) == 1)
            weights = np.full((2, len(parts), frames), 1e-4, np.float32)
            for token in range(len(parts)):
                at = starts[min(token, len(starts) - 1)] + self.late
                weights[0, token, at : at + 12] = 1 / 12
                weights[1, token] = 1 / frames  # a head that follows nothing
            found.append(
                Attention(weights, 0.02, tuple(range(len(parts))), np.full(len(parts), -0.1, np.float32), self.heads)
            )
        return found

    def transcribe(self, clips: Sequence[Any], *_: Any, **__: Any) -> list[Hypothesis]:
        return [Hypothesis(TEXT, [1, 2, 3, 4], -0.1) for _ in clips]


def said(words: str, before: float = 0.5) -> np.ndarray:
    quiet = np.zeros(int(before * SAMPLE_RATE), np.float32)
    return np.concatenate([quiet, speech(words.split()), quiet])
