"""Recordings of any length: cut at pauses into windows of at most 30 s, each transcribed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from govor.audio import SAMPLE_RATE, cut_at_pauses, decode
from govor.families.base import ContextMode, Recogniser

# A pause within the last half of this is looked for, so windows hold 14 to 28 s.
WINDOW_SECONDS = 28.0


def transcribe_recording(
    recogniser: Recogniser, path: Path, language: str | None, context: ContextMode, beam_size: int = 1
) -> list[dict[str, Any]]:
    """Pieces with `start` and `end` in seconds, `text` and `mean_logprob`; together they cover the recording."""
    samples = decode(path)
    spans = cut_at_pauses(samples, WINDOW_SECONDS)
    found = recogniser.transcribe([samples[a:b] for a, b in spans], [language] * len(spans), context, beam_size)
    return [
        {
            "start": round(a / SAMPLE_RATE, 3),
            "end": round(b / SAMPLE_RATE, 3),
            "text": hypothesis.text,
            "mean_logprob": round(hypothesis.mean_logprob, 4),
        }
        for (a, b), hypothesis in zip(spans, found, strict=True)
    ]
