"""A recording's length and its samples, whatever decoder reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from govor.audio import pyav, sndfile
from govor.audio.channels import Listener, to_mono
from govor.audio.containers import Shortfall
from govor.audio.opened import AudioInfo, Blocks, Opened, part_between
from govor.audio.samples import SAMPLE_RATE, Samples, resample
from govor.errors import AudioError

_MAX_PEAK = 8.0  # codecs overshoot full scale by a little; samples that count from -32768 do by far


class CutShort(AudioError):
    """A recording holds less than it should: see `AudioInfo.shortfall`."""

    def __init__(self, shortfall: Shortfall) -> None:
        super().__init__(shortfall.rule, shortfall.message)
        self.shortfall = shortfall

    def __reduce__(self) -> tuple[type[CutShort], tuple[Shortfall]]:  # type: ignore[override]
        return CutShort, (self.shortfall,)


def probe(audio: str | Path | bytes) -> AudioInfo:
    """Look at `audio` (or at the bytes of a recording), and decode it where its length cannot be known otherwise.

    Raises:
        AudioError: missing, empty or unreadable.
    """
    with Opened(audio) as opened:
        first = sndfile.first_part(opened)
        if first is None:
            return pyav.info(opened)
        info, seconds = sndfile.info(opened, first)
        if not opened.layout.counted:
            seconds = sum(len(block) / rate for block, rate in _blocks(opened, sndfile.first_part(opened)))
        return opened.lasting(info, seconds)


def decode(
    audio: str | Path,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
    max_seconds: float | None = None,
    channel: int | None = None,
    listener: Listener | None = None,
    promised: bool = False,
) -> Samples:
    """Samples [n] of `audio` at 16 kHz, mono, float32 in -1…1 (codecs overshoot a little).

    Args:
        audio: a path, or `path#offset,length` for the encoded bytes inside a larger file.
        offset_seconds, duration_seconds: the part wanted; the whole by default.
        max_seconds: refuse more than this while decoding (headers lie).
        channel: take this one alone, counted from 0; the mean of all by default.
        listener: hears the channels on their way.
        promised: refuse a file of which `probe` says that something is missing, without opening it twice where that shows.

    Raises:
        AudioError: missing, empty, unreadable, too long, or samples that are not numbers.
        CutShort: something is missing of what was promised.
    """
    by_rate: list[tuple[int, list[Samples]]] = []  # what has one rate is resampled as one
    seconds = 0.0
    with Opened(audio) as opened:
        first = sndfile.first_part(opened)
        if promised and not _is_whole(opened, first):
            short = probe(audio).shortfall
            if short is not None:
                raise CutShort(short)
        for block, rate in _blocks(opened, first, offset_seconds, duration_seconds):
            seconds += len(block) / rate
            if max_seconds is not None and seconds > max_seconds:
                raise AudioError("too_long", f"{audio} is longer than the limit of {max_seconds:g} s.")
            if listener is not None:
                listener.hear(block, rate)
            if not by_rate or by_rate[-1][0] != rate:
                by_rate.append((rate, []))
            by_rate[-1][1].append(to_mono(block, channel))
        if not by_rate:
            raise opened.empty()
    resampled = [resample(_joined(blocks), rate) for rate, blocks in by_rate]
    samples = _joined(resampled)
    if samples.size == 0:
        raise AudioError("empty", f"{audio} holds less than one sample at 16 kHz.")
    _check_range(samples, audio)
    return samples


def stream(audio: str | Path) -> Iterator[Samples]:
    """`decode`, a minute or so at a time, so that memory does not grow with the recording.

    Raises:
        AudioError: as `decode`; what was read before stays read.
    """
    anything = False
    with Opened(audio) as opened:
        blocks = _blocks(opened, sndfile.first_part(opened))
        for samples in _resampled((to_mono(block), rate) for block, rate in blocks):
            if samples.size:
                _check_range(samples, audio)
                anything = True
                yield samples
        if not anything:
            raise opened.empty()


def _is_whole(opened: Opened, first: soundfile.SoundFile | None) -> bool:
    """Whether `probe` would find nothing missing, as far as it shows without another look."""
    layout = opened.layout
    return first is not None and layout.counted and not layout.parts and layout.shortfall is None


def _blocks(
    opened: Opened,
    first: soundfile.SoundFile | None,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
) -> Blocks:
    """Samples [n, channels] and their rate, a minute or so at a time, to the last one that is there."""
    if first is None:
        yield from part_between(pyav.blocks(opened), offset_seconds, duration_seconds)
    else:
        yield from sndfile.blocks(opened, first, offset_seconds, duration_seconds)


def _joined(blocks: list[Samples]) -> Samples:
    return np.ascontiguousarray(blocks[0]) if len(blocks) == 1 else np.concatenate(blocks)


def _check_range(samples: Samples, audio: str | Path) -> None:
    peak = max(float(samples.max()), -float(samples.min()))  # one value that is no number makes both none
    if not math.isfinite(peak):
        raise AudioError("not_a_number", f"{audio} holds samples that are not numbers; export it again.")
    if peak > _MAX_PEAK:
        message = f"{audio} holds samples up to {peak:,.0f} where full scale is 1; export it as 16-bit, or scale it."
        raise AudioError("out_of_range", message)


def _resampled(blocks: Iterator[tuple[Samples, int]]) -> Iterator[Samples]:
    nothing: Samples = np.zeros(0, dtype=np.float32)
    resampler, before = None, SAMPLE_RATE
    for block, rate in blocks:
        if rate != before and resampler is not None:
            yield resampler.resample_chunk(nothing, last=True)
            resampler = None
        before = rate
        if rate == SAMPLE_RATE:
            yield block
            continue
        resampler = resampler or soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    if resampler is not None:
        yield resampler.resample_chunk(nothing, last=True)
