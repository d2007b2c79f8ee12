"""Near-duplicates: the same recording encoded again, trimmed, louder or over the telephone.

A fingerprint is one 32-bit word every 16 ms: the signs of the energy differences between neighbouring bands and
neighbouring frames (Haitsma and Kalker, "A highly robust audio fingerprinting system", 2002), in bands that a telephone
passes. Two recordings of one sound agree in most bits at one shift; two sayings of the same words by the same voice do
not. Frames of near silence are left out: their bits are noise.

Words and clips are spilled to disk and joined bucket by bucket, so memory does not grow with the corpus.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soxr

from govor.audio import SAMPLE_RATE, Samples
from govor.silence import Sound, power_db

RATE_HZ = 8_000
WINDOW = 2_048  # 0.256 s: long against a hop, so that a trim by half a hop changes little
HOP = 128  # 16 ms
BANDS = 33
LOWEST_HZ, HIGHEST_HZ = 300.0, 3_000.0
SOUND = Sound(under_peak_db=35.0)

# Set on one half of re-encoded real speech, judged on the other: see docs/log.md and `python -m bench near`.
MAX_BIT_ERROR = 0.2
MIN_COMMON_FRAMES = 24
# Where less of the longer recording is common, each holds speech that the other lacks.
MIN_COVER = 0.8

# A stretch of this many frames (a quarter of a second) differs in more than this share of bits where the words differ.
STRETCH = 16
MAX_STRETCH_ERROR = 0.3

_BUCKETS = 256
_PAIR_BUCKETS = 64
_COMMON_WORD = 64  # a word in more clips than this tells nothing

Words = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]
_ENTRY = np.dtype([("word", "<u4"), ("clip", "<u4"), ("frame", "<i4")])


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Words [frames] and whether each frame holds sound."""

    words: Words
    audible: Mask


@dataclass(frozen=True, slots=True)
class Match:
    """Two recordings of one sound: the share of differing bits, and the share of the longer that agrees."""

    first: int
    second: int
    bit_error: float
    cover: float


def fingerprint(samples: Samples) -> Fingerprint:
    """Fingerprint of samples [n] at 16 kHz; too short a clip (under 0.3 s) has no words."""
    narrow = soxr.resample(samples, SAMPLE_RATE, RATE_HZ, quality="LQ")
    if len(narrow) < WINDOW + HOP:
        return Fingerprint(np.zeros(0, np.uint32), np.zeros(0, np.bool_))
    energies = _band_energies(narrow)  # [frames, bands]
    difference = np.diff(energies[:, :-1] - energies[:, 1:], axis=0) > 0
    words = np.packbits(difference, axis=1).view(">u4")[:, 0].astype(np.uint32)
    loudness = energies.sum(axis=1)[1:]
    return Fingerprint(words, SOUND.of(power_db(loudness, 1e-30)) & (loudness > 0))


def compare(first: Fingerprint, second: Fingerprint, shift: int) -> tuple[float, int]:
    """Share of differing bits and number of frames that both hear, with `second` moved by `shift` frames."""
    start, end = max(0, shift), min(len(first.words), len(second.words) + shift)
    if end <= start:
        return 1.0, 0
    here, there = slice(start, end), slice(start - shift, end - shift)
    both = first.audible[here] & second.audible[there]
    common = int(both.sum())
    if not common:
        return 1.0, 0
    differing = np.bitwise_count(first.words[here][both] ^ second.words[there][both]).sum()
    return float(differing) / (32 * common), common


def agreeing(first: Fingerprint, second: Fingerprint, shift: int) -> int:
    """How many frames lie in stretches that agree: a shared jingle before different words is no copy of the words."""
    start, end = max(0, shift), min(len(first.words), len(second.words) + shift)
    here, there = slice(start, end), slice(start - shift, end - shift)
    both = first.audible[here] & second.audible[there]
    differing = np.bitwise_count(first.words[here][both] ^ second.words[there][both]) / 32
    if len(differing) < STRETCH:
        return len(differing) if differing.mean() <= MAX_STRETCH_ERROR else 0
    total = np.concatenate([[0.0], np.cumsum(differing)])
    stretches = (total[STRETCH:] - total[:-STRETCH]) / STRETCH
    inside = np.zeros(len(differing) + 1)
    good = np.flatnonzero(stretches <= MAX_STRETCH_ERROR)
    np.add.at(inside, good, 1)
    np.add.at(inside, good + STRETCH, -1)
    return int((np.cumsum(inside)[:-1] > 0).sum())


def best_match(first: Fingerprint, second: Fingerprint, shifts: Iterable[int]) -> tuple[float, int, int]:
    """The best (bit error, frames in common, shift) around the given shifts."""
    tried = {shift + step for shift in shifts for step in (-1, 0, 1)}
    results = ((*compare(first, second, shift), shift) for shift in sorted(tried))
    return min(
        (result for result in results if result[1] >= MIN_COMMON_FRAMES),
        key=lambda result: result[0],
        default=(1.0, 0, 0),
    )


class Index:
    """Fingerprints of a corpus on disk; `matches` joins them."""

    def __init__(self, max_bit_error: float = MAX_BIT_ERROR) -> None:
        self.max_bit_error = max_bit_error
        self._folder = tempfile.TemporaryDirectory(prefix="govor-")
        root = Path(self._folder.name)
        self._buckets: list[BinaryIO] = [(root / f"{number:03d}").open("w+b") for number in range(_BUCKETS)]
        self._words: BinaryIO = (root / "words").open("w+b")
        self._audible: BinaryIO = (root / "audible").open("w+b")
        self._ends: BinaryIO = (root / "ends").open("w+b")
        self._count, self._frames = 0, 0

    def add(self, print_: Fingerprint) -> int:
        """Store a fingerprint; its number counts from 0."""
        number = self._count
        self._count += 1
        self._frames += len(print_.words)
        self._words.write(print_.words.astype("<u4").tobytes())
        self._audible.write(print_.audible.tobytes())
        self._ends.write(np.int64(self._frames).tobytes())
        words, frames = print_.words[print_.audible], np.nonzero(print_.audible)[0]
        entries = np.zeros(len(words), _ENTRY)
        entries["word"], entries["clip"], entries["frame"] = words, number, frames
        # Which bucket must depend on the word alone; multiplying spreads words that differ in few bits.
        bucket = (words * np.uint32(2_654_435_761)) >> np.uint32(24)
        order = np.argsort(bucket, kind="stable")
        cuts = np.searchsorted(bucket[order], np.arange(_BUCKETS + 1))
        for part in np.unique(bucket):
            chosen = order[cuts[part] : cuts[part + 1]]
            self._buckets[part].write(entries[chosen].tobytes())
        return number

    def matches(self) -> Iterator[Match]:
        """Every pair that agrees in all but `max_bit_error` of the bits at some shift."""
        for file in (self._words, self._audible, self._ends, *self._buckets):
            file.flush()
        if not self._frames:
            return
        self._ends.seek(0)
        ends = np.frombuffer(self._ends.read(), np.int64)
        words = np.memmap(self._words.name, np.uint32, "r")
        audible = np.memmap(self._audible.name, np.bool_, "r")

        def stored(number: int) -> Fingerprint:
            start, end = int(ends[number - 1]) if number else 0, int(ends[number])
            return Fingerprint(np.asarray(words[start:end]), np.asarray(audible[start:end]))

        for first, second, shifts in self._candidates():
            a, b = stored(first), stored(second)
            error, _, shift = best_match(a, b, shifts)
            if error <= self.max_bit_error:
                longer = max(int(a.audible.sum()), int(b.audible.sum()))
                yield Match(first, second, error, agreeing(a, b, shift) / longer)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._words, self._audible, self._ends, *self._buckets):
            file.close()
        self._folder.cleanup()

    def _candidates(self) -> Iterator[tuple[int, int, list[int]]]:
        """Pairs that share a word, with the shifts at which they share most."""
        folder = Path(self._folder.name)
        sorted_out = [(folder / f"pairs-{number:02d}").open("wb") for number in range(_PAIR_BUCKETS)]
        for bucket in self._buckets:
            for pairs in _pairs(np.fromfile(bucket.name, _ENTRY)):
                place = (pairs[:, 0] * 31 + pairs[:, 1]) % _PAIR_BUCKETS
                for number in np.unique(place):
                    sorted_out[number].write(pairs[place == number].tobytes())
        for file in sorted_out:
            file.close()
            pairs = np.fromfile(file.name, np.int64).reshape(-1, 3)
            if len(pairs):
                yield from _voted(pairs)


def _voted(pairs: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, list[int]]]:
    distinct, votes = np.unique(pairs, axis=0, return_counts=True)
    starts = np.nonzero(np.any(np.diff(distinct[:, :2], axis=0, prepend=-1), axis=1))[0]
    for start, end in zip(starts, [*starts[1:], len(distinct)], strict=True):
        best = np.argsort(-votes[start:end], kind="stable")[:4] + start
        yield int(distinct[start, 0]), int(distinct[start, 1]), [int(distinct[i, 2]) for i in best]


def _pairs(entries: npt.NDArray[np.void]) -> Iterator[npt.NDArray[np.int64]]:
    """(first clip, second clip, shift) [n, 3] of every two entries with one word, clips differing."""
    order = np.lexsort((entries["clip"], entries["word"]))
    words, clips = entries["word"][order], entries["clip"][order].astype(np.int64)
    frames = entries["frame"][order].astype(np.int64)
    for distance in range(1, _COMMON_WORD):
        a = np.nonzero(words[distance:] == words[:-distance])[0]
        if not len(a):
            return
        b = a + distance
        other = clips[a] != clips[b]
        a, b = a[other], b[other]
        yield np.stack([clips[a], clips[b], frames[a] - frames[b]], axis=1)


def _band_energies(narrow: Samples) -> npt.NDArray[np.float32]:
    frames = np.lib.stride_tricks.sliding_window_view(narrow, WINDOW)[::HOP]
    spectrum = np.fft.rfft(frames * _window(), axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    energies: npt.NDArray[np.float32] = np.add.reduceat(power, _edges(), axis=1)[:, :BANDS].astype(np.float32)
    return energies


@cache
def _window() -> npt.NDArray[np.float32]:
    return np.hanning(WINDOW).astype(np.float32)


@cache
def _edges() -> npt.NDArray[np.int64]:
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1) * WINDOW / RATE_HZ
    return np.round(edges).astype(np.int64)
