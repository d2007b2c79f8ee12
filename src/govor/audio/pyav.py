"""Reading by PyAV, the `media` extra: m4a, aac, webm, mp4 and whatever else libsndfile cannot open."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from govor.audio.containers import Shortfall
from govor.audio.opened import BLOCK_SECONDS, PROMISE_TOLERANCE_SECONDS, AudioInfo, Blocks, Opened
from govor.audio.samples import Samples
from govor.errors import AudioError

# What PyAV may open: containers of sound, none that names other files or addresses.
_FORMATS = "aac,ac3,aiff,amr,asf,au,avi,caf,flac,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpegts,ogg,w64,wav,wv"


def info(opened: Opened) -> AudioInfo:
    """What the recording is; it is decoded where its packets do not bear out what the header says."""
    with _container(opened) as (container, stream):
        codec = stream.codec_context
        if codec is None:
            raise ValueError("its sound is in no format that PyAV knows")
        name = f"{container.format.name.split(',')[0]}/{codec.name}"
        about = AudioInfo(math.nan, codec.sample_rate, codec.channels, name)
        promised = _promised(container, stream)
        reached = lasting = 0.0
        if promised is not None:
            for packet in container.demux(stream):
                if packet.pts is not None:
                    reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                    lasting += float((packet.duration or 0) * packet.time_base)
        reached = min(reached, lasting)  # less where there is a hole; where packets do not say, all is measured
    if promised is not None and abs(promised - reached) <= PROMISE_TOLERANCE_SECONDS:
        return opened.lasting(about, promised)
    seconds = sum(len(block) / rate for block, rate in blocks(opened))
    if promised is not None and seconds < promised - PROMISE_TOLERANCE_SECONDS:
        message = "its header promises more sound than the file holds: it was cut short"
        about = replace(about, shortfall=Shortfall("truncated", round(seconds, 3), round(promised, 3), message))
    return opened.lasting(about, seconds)


def _promised(container: Any, stream: Any) -> float | None:
    """What the header says of the sound itself; PyAV guesses for formats that have no such header."""
    if not {"mp4", "matroska"} & set(container.format.name.split(",")):
        return None
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / 1_000_000)
    return None


def blocks(opened: Opened) -> Blocks:
    """Samples [n, channels], at the rate of the file."""
    av = _av(opened)
    frames: list[Samples] = []
    shape, resampler = None, None
    with _container(opened) as (container, stream):
        if stream.codec_context is None:
            raise ValueError("its sound is in no format that PyAV knows")
        for frame in container.decode(stream):
            opened.check_shape(len(frame.layout.channels), frame.sample_rate)
            if shape != (frame.format.name, frame.layout.name, frame.sample_rate):
                if frames and shape is not None:
                    yield np.concatenate(frames, axis=1).T, shape[2]
                frames, shape = [], (frame.format.name, frame.layout.name, frame.sample_rate)
                resampler = av.AudioResampler(format="fltp")
            assert resampler is not None
            frames += [part.to_ndarray() for part in resampler.resample(frame)]
            if sum(part.shape[1] for part in frames[-1:]) and len(frames) * frames[-1].shape[1] >= (
                BLOCK_SECONDS * frame.sample_rate
            ):
                yield np.concatenate(frames, axis=1).T, frame.sample_rate
                frames = []
        if frames and shape is not None:
            yield np.concatenate(frames, axis=1).T, shape[2]


@contextmanager
def _container(opened: Opened) -> Iterator[tuple[Any, Any]]:
    av = _av(opened)
    try:
        with av.open(opened.whole(), options={"format_whitelist": _FORMATS}) as container:
            if not container.streams.audio:
                raise AudioError("unreadable", f"{opened.audio} holds no audio track.")
            yield container, container.streams.audio[0]
    except (av.FFmpegError, OSError, ValueError, OverflowError) as error:
        raise opened.unreadable(opened.refused or error) from error


def _av(opened: Opened) -> ModuleType:
    try:
        import av
    except ImportError:
        if opened.refused is not None and opened.layout.kind != "other":
            raise opened.unreadable(opened.refused) from None
        raise AudioError(
            "unreadable",
            f"{opened.audio} is nothing that libsndfile reads; m4a, aac, webm and mp4 need PyAV: pip install av",
        ) from None
    module: ModuleType = av
    return module
