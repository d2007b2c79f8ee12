"""Near-duplicates: the same recording encoded again, trimmed, louder or over the telephone.

A fingerprint is one 32-bit word every 16 ms: the signs of the energy differences between neighbouring bands and
neighbouring frames (Haitsma and Kalker, "A highly robust audio fingerprinting system", 2002), in bands that a telephone
passes. Frames overlap sixteenfold; instead of transforming each, the whole signal is transformed once, each band back to
its own few samples a second, and their energies are summed under the window. Two recordings of one sound agree in most bits at one shift; two sayings of the same words by the same voice do
not. Frames of near silence are left out: their bits are noise.

Words and clips are spilled to disk and joined bucket by bucket, so memory does not grow with the corpus.
"""

from __future__ import annotations

import math
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
HOP = 128  # 16 ms
WINDOW_HOPS = 16  # 0.256 s: long against a hop, so that a trim by half a hop changes little
BANDS = 33
LOWEST_HZ, HIGHEST_HZ = 300.0, 3_000.0
SLOPE_HZ = 5.0  # a band without slopes would ring for seconds, over the pauses around it
SOUND = Sound(under_peak_db=35.0)

# Set on one half of re-encoded real speech, judged on the other: see docs/log.md and `python -m bench near`.
MAX_BIT_ERROR = 0.2
MIN_COMMON_FRAMES = 24
# Where less of the longer recording is common, each holds speech that the other lacks.
MIN_COVER = 0.8

# A stretch of this many frames (a quarter of a second) differs in more than this share of bits where the words differ.
STRETCH = 16
MAX_STRETCH_ERROR = 0.3

# Longer signals are transformed in blocks of this many hops; what bands ring at an edge is over after so many of them.
_BLOCK_HOPS, _RING_HOPS = 1_024, 16

_BUCKETS = 256
_PAIR_BUCKETS = 64
_COMMON_WORD = 64  # a word in more clips than this tells nothing
_IN_MEMORY = 2_000_000  # words
_PAIRS_AT_ONCE = 100_000
# Most pairs share a word by chance. So many frames tell them from matches, whose bits differ in few more of these frames
# than of all.
_LOOKED_AT, _SPREAD = 16, 0.15

Words = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]
Energies = npt.NDArray[np.float32]
Pairs = npt.NDArray[np.int64]
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
    hops = len(narrow) // HOP
    if hops < WINDOW_HOPS + 1:
        return Fingerprint(np.zeros(0, np.uint32), np.zeros(0, np.bool_))
    windows = np.lib.stride_tricks.sliding_window_view(_energies(narrow, hops), WINDOW_HOPS, axis=1)
    energies = windows @ _window()  # [bands, frames]
    difference = np.diff(energies[:-1] - energies[1:], axis=1) > 0
    words = np.ascontiguousarray(np.packbits(difference, axis=0).T).view(">u4")[:, 0].astype(np.uint32)
    loudness = energies.sum(axis=0)[1:]
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


@dataclass(frozen=True, slots=True)
class _Prints:
    """Fingerprints one behind the other, and where each ends."""

    words: Words
    audible: Mask
    ends: npt.NDArray[np.int64]

    def of(self, number: int) -> Fingerprint:
        """One of them."""
        start, end = int(self.ends[number - 1]) if number else 0, int(self.ends[number])
        return Fingerprint(np.asarray(self.words[start:end]), np.asarray(self.audible[start:end]))

    def alike(self, pairs: Pairs, most_differing: float) -> Mask:
        """Whether each of (first, second, shift) [n, 3] can be a match, by a few frames of what both have in common."""
        begins = np.concatenate([[0], self.ends])
        first, second, shift = pairs.T
        start = np.maximum(0, shift)
        end = np.minimum(begins[first + 1] - begins[first], begins[second + 1] - begins[second] + shift)
        common = np.maximum(end - start, 0)
        frames = start[:, None] + common[:, None] * np.arange(_LOOKED_AT) // _LOOKED_AT
        here, there = begins[first][:, None] + frames, (begins[second] - shift)[:, None] + frames
        both = self.audible[here] & self.audible[there]
        differing = (np.bitwise_count(self.words[here] ^ self.words[there]) * both).sum(axis=1)
        looked_at = both.sum(axis=1)
        alike: Mask = (differing <= most_differing * 32 * looked_at) | (looked_at < _LOOKED_AT // 2)
        alike &= common >= MIN_COMMON_FRAMES - 1  # one more may be common at the shifts beside this one
        return alike


class Index:
    """Fingerprints of a corpus, on disk where they are many; `matches` joins them."""

    def __init__(self, max_bit_error: float = MAX_BIT_ERROR) -> None:
        self.max_bit_error = max_bit_error
        self._folder = tempfile.TemporaryDirectory(prefix="govor-")
        root = Path(self._folder.name)
        self._entries: list[npt.NDArray[np.void]] = []
        self._buckets: list[BinaryIO] = []
        self._words: BinaryIO = (root / "words").open("w+b")
        self._audible: BinaryIO = (root / "audible").open("w+b")
        self._ends: BinaryIO = (root / "ends").open("w+b")
        self._count, self._frames, self._waiting = 0, 0, 0

    def add(self, print_: Fingerprint) -> int:
        """Store a fingerprint; its number counts from 0."""
        number = self._count
        self._count += 1
        self._frames += len(print_.words)
        self._words.write(print_.words.astype("<u4").tobytes())
        self._audible.write(print_.audible.tobytes())
        self._ends.write(np.int64(self._frames).tobytes())
        frames = np.nonzero(print_.audible)[0]
        entries = np.empty(len(frames), _ENTRY)
        entries["word"], entries["clip"], entries["frame"] = print_.words[frames], number, frames
        self._entries.append(entries)
        self._waiting += len(entries)
        if self._waiting > _IN_MEMORY:
            self._spill()
        return number

    def matches(self) -> Iterator[Match]:
        """Every pair that agrees in all but `max_bit_error` of the bits at some shift."""
        for file in (self._words, self._audible, self._ends):
            file.flush()
        if not self._frames:
            return
        self._ends.seek(0)
        prints = _Prints(
            np.memmap(self._words.name, np.uint32, "r"),
            np.memmap(self._audible.name, np.bool_, "r"),
            np.frombuffer(self._ends.read(), np.int64),
        )
        for first, second, shifts in self._candidates(prints):
            a, b = prints.of(first), prints.of(second)
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

    def _spill(self) -> None:
        """Move what waits in memory to the bucket of its word."""
        root = Path(self._folder.name)
        self._buckets = self._buckets or [(root / f"{number:03d}").open("w+b") for number in range(_BUCKETS)]
        entries = np.concatenate(self._entries)
        self._entries, self._waiting = [], 0
        # Which bucket must depend on the word alone; multiplying spreads words that differ in few bits.
        bucket = (entries["word"] * np.uint32(2_654_435_761)) >> np.uint32(24)
        order = np.argsort(bucket, kind="stable")
        cuts = np.searchsorted(bucket[order], np.arange(_BUCKETS + 1))
        for file, start, end in zip(self._buckets, cuts, cuts[1:], strict=False):
            file.write(entries[order[start:end]].tobytes())

    def _by_word(self) -> Iterator[npt.NDArray[np.void]]:
        """All entries, those of one word together."""
        if not self._buckets:
            yield np.concatenate(self._entries)
            return
        self._spill()
        for file in self._buckets:
            file.flush()
            yield np.fromfile(file.name, _ENTRY)

    def _candidates(self, prints: _Prints) -> Iterator[tuple[int, int, list[int]]]:
        """Pairs that share a word and look alike, with the shifts at which they share most."""
        folder = Path(self._folder.name)
        sorted_out = [(folder / f"pairs-{number:02d}").open("wb") for number in range(_PAIR_BUCKETS)]
        for entries in self._by_word():
            for pairs in _pairs(entries):
                pairs = pairs[prints.alike(pairs, self.max_bit_error + _SPREAD)]
                place = (pairs[:, 0] * 31 + pairs[:, 1]) % _PAIR_BUCKETS
                for number in np.unique(place):
                    sorted_out[number].write(pairs[place == number].tobytes())
        for file in sorted_out:
            file.close()
            pairs = np.fromfile(file.name, np.int64).reshape(-1, 3)
            if len(pairs):
                yield from _voted(pairs)


def _voted(pairs: Pairs) -> Iterator[tuple[int, int, list[int]]]:
    distinct, votes = np.unique(pairs, axis=0, return_counts=True)
    starts = np.nonzero(np.any(np.diff(distinct[:, :2], axis=0, prepend=-1), axis=1))[0]
    for start, end in zip(starts, [*starts[1:], len(distinct)], strict=True):
        best = np.argsort(-votes[start:end], kind="stable")[:4] + start
        yield int(distinct[start, 0]), int(distinct[start, 1]), [int(distinct[i, 2]) for i in best]


def _pairs(entries: npt.NDArray[np.void]) -> Iterator[Pairs]:
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
        for start in range(0, len(a), _PAIRS_AT_ONCE):
            c, d = a[start : start + _PAIRS_AT_ONCE], b[start : start + _PAIRS_AT_ONCE]
            yield np.stack([clips[c], clips[d], frames[c] - frames[d]], axis=1)


def _energies(narrow: Samples, hops: int) -> Energies:
    """The energy of every band in every hop [bands, hops]."""
    parts = []
    for start in range(0, hops, _BLOCK_HOPS - 2 * _RING_HOPS):
        end = min(start + _BLOCK_HOPS - 2 * _RING_HOPS, hops)
        first, last = max(0, start - _RING_HOPS), min(hops, end + _RING_HOPS)
        block = _block_energies(narrow[first * HOP : last * HOP], last - first)
        parts.append(block[:, start - first : end - first])
    return np.concatenate(parts, axis=1)


def _block_energies(narrow: Samples, hops: int) -> Energies:
    size = _quick_size(hops + 4)
    spectrum = np.fft.rfft(narrow, size * HOP)
    bins_per_hz = size * HOP / RATE_HZ
    edges = np.round(_edges_hz() * bins_per_hz).astype(int)
    slope = max(1, round(SLOPE_HZ * bins_per_hz))
    ramp = np.sin(np.pi / 2 * (np.arange(2 * slope) + 0.5) / (2 * slope)).astype(np.float32)
    energies = np.empty((BANDS, size), np.float32)
    for bands, samples_per_hop in _rates():
        # A band moved down to 0 Hz is told by as many samples a second as it is wide.
        moved = np.zeros((len(bands), samples_per_hop * size), np.complex64)
        for row, band in zip(moved, bands, strict=True):
            inside = spectrum[edges[band] - slope : edges[band + 1] + slope]
            row[: len(inside)] = inside
            row[len(inside) - 2 * slope : len(inside)] *= ramp[::-1]
        moved[:, : 2 * slope] *= ramp
        sound = np.fft.ifft(moved, axis=1)
        powers = np.square(sound.real) + np.square(sound.imag)
        powers = powers.reshape(len(bands), size, samples_per_hop).sum(axis=2)
        energies[bands.start : bands.stop] = powers * samples_per_hop
    return energies[:, :hops]


@cache
def _quick_size(least: int) -> int:
    """The least number not below `least` of which a Fourier transform is quick."""
    return min(odd << power for odd in (1, 3, 5, 7, 9) for power in [max(0, math.ceil(math.log2(least / odd)))])


@cache
def _window() -> npt.NDArray[np.float32]:
    """How much of each hop's energy a Hann window takes [hops]."""
    taken: npt.NDArray[np.float64] = np.square(np.hanning(WINDOW_HOPS * HOP)).reshape(WINDOW_HOPS, HOP).mean(axis=1)
    return taken.astype(np.float32)


@cache
def _edges_hz() -> npt.NDArray[np.float64]:
    return np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)


@cache
def _rates() -> list[tuple[range, int]]:
    """Bands that are told by equally many samples a hop, with a little room for the rounding of their edges."""
    widths = (np.diff(_edges_hz()) + 2 * SLOPE_HZ) * HOP / RATE_HZ
    rates = [1 if width < 0.97 else 2 if width < 1.94 else 4 for width in widths]
    return [(range(rates.index(rate), rates.index(rate) + rates.count(rate)), rate) for rate in (1, 2, 4)]
