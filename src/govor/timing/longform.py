"""Recordings of any length: cut at pauses into windows of at most 30 s, each transcribed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from govor.audio import SAMPLE_RATE, Samples, cut_at_pauses, decode
from govor.families.base import ContextMode, Hypothesis, Recogniser

# A pause within the last half of this is looked for, so windows hold 14 to 28 s.
WINDOW_SECONDS = 28.0
# A short clip that hits the limit loops; a long one may simply hold more words than the decoder has positions.
SHORTEST_RETRY_SECONDS = 8.0
MANY_TOKENS = 300


def transcribe_recording(
    recogniser: Recogniser, path: Path, language: str | None, context: ContextMode, beam_size: int = 1
) -> list[dict[str, Any]]:
    """Pieces with `start` and `end` in seconds, `text` and `mean_logprob`; together they cover the recording."""
    samples = decode(path)
    spans = cut_at_pauses(samples, WINDOW_SECONDS)
    found: dict[tuple[int, int], Hypothesis] = {}
    while waiting := [span for span in spans if span not in found]:
        pieces = recogniser.transcribe(
            [samples[a:b] for a, b in waiting], [language] * len(waiting), context, beam_size
        )
        found.update(zip(waiting, pieces, strict=True))
        # A window whose words did not fit the decoder is cut at its best pause and heard again.
        spans = [part for span in spans for part in _halves(samples, span, found[span])]
    return [
        {
            "start": round(a / SAMPLE_RATE, 3),
            "end": round(b / SAMPLE_RATE, 3),
            "text": hypothesis.text,
            "mean_logprob": round(hypothesis.mean_logprob, 4),
        }
        for (a, b), hypothesis in ((span, found[span]) for span in spans)
    ]


def _halves(samples: Samples, span: tuple[int, int], heard: Hypothesis) -> list[tuple[int, int]]:
    start, end = span
    seconds = (end - start) / SAMPLE_RATE
    if heard.complete or seconds < SHORTEST_RETRY_SECONDS or len(heard.tokens) < MANY_TOKENS:
        return [span]
    pieces = cut_at_pauses(samples[start:end], 0.6 * seconds)
    return [(start + a, start + b) for a, b in pieces]
