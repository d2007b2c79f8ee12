"""Cutting long recordings where nobody speaks."""

from __future__ import annotations

import numpy as np

from govor.audio.samples import SAMPLE_RATE, Samples


def cut_at_pauses(samples: Samples, max_seconds: float) -> list[tuple[int, int]]:
    """Cut a long recording into pieces of at most `max_seconds`, each at the quietest spot near its end.

    Returns (start, end) in samples; together they are the whole recording, in order.
    """
    limit = int(max_seconds * SAMPLE_RATE)
    frame = SAMPLE_RATE // 50
    pieces, start = [], 0
    while len(samples) - start > limit:
        window = samples[start + limit // 2 : start + limit]
        frames = window[: len(window) // frame * frame].reshape(-1, frame)
        # A pause is longer than one frame: smooth over 0.3 s before looking for the minimum.
        loudness = np.convolve(np.square(frames).mean(axis=1), np.ones(15) / 15, mode="same")
        end = start + limit // 2 + int(loudness.argmin()) * frame + frame // 2
        pieces.append((start, end))
        start = end
    pieces.append((start, len(samples)))
    return pieces
