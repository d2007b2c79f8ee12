"""Decoding and resampling: govor.audio.decode against soundfile and soxr called bare, on the same real clips."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import soundfile
import soxr

from bench.results import Asked, Figure, ratio
from govor.audio import decode
from govor.corpus import fillets

CLIPS = 150
ROUNDS = 5


def bare(path: Path) -> object:
    """What anyone would write."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    return soxr.resample(mono, rate, 16_000, quality="HQ") if rate != 16_000 else mono


def seconds(function: Callable[[Path], object], paths: list[Path]) -> float:
    """One pass over the paths."""
    start = time.perf_counter()
    for path in paths:
        function(path)
    return time.perf_counter() - start


def main(_: Asked) -> list[Figure]:
    """Best of several alternating rounds per format."""
    fillets.prepare(print)
    clips = fillets.clips()[:CLIPS]
    hours = sum(clip.duration for clip in clips)
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        for suffix in ("ogg", "wav", "flac", "mp3"):
            paths = []
            for number, clip in enumerate(clips):
                path = Path(clip.audio)
                if suffix != "ogg":
                    path = Path(scratch) / f"{number}.{suffix}"
                    samples, rate = soundfile.read(clip.audio, dtype="float32")
                    soundfile.write(path, samples, rate)
                paths.append(path)
            ours, peer = [], []
            for _round in range(ROUNDS):
                ours.append(seconds(decode, paths))
                peer.append(seconds(bare, paths))
            print(
                f"{suffix:<5} ours {hours / min(ours):6.0f} x real time   bare {hours / min(peer):6.0f} x real time   "
                f"ratio {min(peer) / min(ours):.3f}   (goal 0.95)"
            )
            figures += [
                Figure(f"{suffix}, ours", hours / min(ours), "× real time"),
                Figure(f"{suffix}, bare", hours / min(peer), "× real time"),
                ratio(f"{suffix}, ours against bare", min(peer) / min(ours), 0.95),
            ]
    return figures
