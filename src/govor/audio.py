"""Recordings: what they are, and their samples at 16 kHz mono.

A recording is what its bytes say, whatever its name. libsndfile reads wav, flac, mp3, ogg and opus; PyAV (the `media`
extra) what it cannot open: m4a, aac, webm, mp4. `govor.containers` counts what is there where headers do not know it.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from govor.channels import Listener, to_mono
from govor.containers import Part, ReadAt, Shortfall, look
from govor.errors import AudioError

SAMPLE_RATE = 16_000
AUDIO_SUFFIXES = frozenset(
    {
        ".wav",
        ".flac",
        ".mp3",
        ".ogg",
        ".oga",
        ".opus",
        ".m4a",
        ".webm",
        ".mp4",
        ".aac",
        ".aiff",
        ".aif",
        ".au",
        ".aifc",
        ".caf",
        ".w64",
        ".mp2",
        ".m4b",
        ".mka",
        ".mkv",
        ".mov",
        ".avi",
        ".3gp",
        ".3g2",
        ".amr",
        ".awb",
        ".wma",
        ".asf",
        ".ac3",
    }
)
_MAX_CHANNELS = 64
_RATES_HZ = range(1_000, 1_000_001)  # a rate of 1 Hz would make 16,000 samples of one
_MAX_PEAK = 8.0  # codecs overshoot full scale by a little; samples that count from -32768 do by far
_BLOCK_SECONDS = 60
_HEAD_BYTES = 4096
_PROMISE_TOLERANCE_SECONDS = 0.1
# What PyAV may open: containers of sound, none that names other files or addresses.
_AV_FORMATS = "aac,ac3,aiff,amr,asf,au,avi,caf,flac,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpegts,ogg,w64,wav,wv"
_BLOB = re.compile(r"(?P<path>.+)#(?P<offset>\d+),(?P<length>\d+)")

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a recording is. `duration_seconds` is counted, or measured by decoding where a header cannot know it;
    `shortfall` says what is missing of a file that was cut short."""

    duration_seconds: float
    sample_rate_hz: int
    channels: int
    codec: str
    shortfall: Shortfall | None = None


def probe(audio: str | Path | bytes) -> AudioInfo:
    """Look at `audio` (or at the bytes of a recording), and decode it where its length cannot be known otherwise.

    Raises:
        AudioError: missing, empty or unreadable.
    """
    with _Opened(audio) as opened:
        return opened.info()


def decode(
    audio: str | Path,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
    max_seconds: float | None = None,
    channel: int | None = None,
    listener: Listener | None = None,
) -> Samples:
    """Samples [n] of `audio` at 16 kHz, mono, float32 in -1…1 (codecs overshoot a little).

    Args:
        audio: a path, or `path#offset,length` for the encoded bytes inside a larger file.
        offset_seconds, duration_seconds: the part wanted; the whole by default.
        max_seconds: refuse more than this while decoding (headers lie).
        channel: take this one alone, counted from 0; the mean of all by default.
        listener: hears the channels on their way.

    Raises:
        AudioError: missing, empty, unreadable, too long, or samples that are not numbers.
    """
    held: list[tuple[int, list[Samples]]] = []  # what has one rate is resampled as one
    seconds = 0.0
    with _Opened(audio) as opened:
        for block, rate in opened.blocks(offset_seconds, duration_seconds):
            seconds += len(block) / rate
            if max_seconds is not None and seconds > max_seconds:
                raise AudioError("too_long", f"{audio} is longer than the limit of {max_seconds:g} s.")
            if listener is not None:
                listener.hear(block, rate)
            if not held or held[-1][0] != rate:
                held.append((rate, []))
            held[-1][1].append(to_mono(block, channel))
        if not held:
            raise opened.empty()
    resampled = [resample(_joined(blocks), rate) for rate, blocks in held]
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
    heard = False
    with _Opened(audio) as opened:
        for samples in _resampled((to_mono(block), rate) for block, rate in opened.blocks()):
            if samples.size:
                _check_range(samples, audio)
                heard = True
                yield samples
        if not heard:
            raise opened.empty()


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
    resampler, before = None, SAMPLE_RATE
    for block, rate in blocks:
        if rate != before and resampler is not None:
            yield resampler.resample_chunk(_nothing(), last=True)
            resampler = None
        before = rate
        if rate == SAMPLE_RATE:
            yield block
            continue
        resampler = resampler or soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    if resampler is not None:
        yield resampler.resample_chunk(_nothing(), last=True)


def resample(samples: Samples, rate_hz: int) -> Samples:
    """To 16 kHz with soxr's HQ setting (an 11 kHz alias lies at -142 dB)."""
    if rate_hz == SAMPLE_RATE:
        return samples
    resampled: Samples = soxr.resample(samples, rate_hz, SAMPLE_RATE, quality="HQ")
    return resampled


def find_audio(folder: Path, unless: str | None = None) -> Iterator[Path]:
    """Audio files below `folder`, sorted within each folder; links to folders are not followed, hidden files left out, and
    so is every folder that holds a file named `unless`."""
    for root, folders, files in os.walk(folder):
        if unless in files:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                yield Path(root) / name


def cut_at_pauses(samples: Samples, max_seconds: float = 30.0) -> list[tuple[int, int]]:
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


def split_blob(audio: str | Path) -> tuple[Path, tuple[int, int] | None]:
    """`path#offset,length` as its parts; a plain path has no span."""
    match = _BLOB.fullmatch(str(audio))
    if match is None or Path(audio).exists():
        return Path(audio), None
    return Path(match["path"]), (int(match["offset"]), int(match["length"]))


def _existing(audio: str | Path) -> Path:
    path, span = split_blob(audio)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise AudioError("unreadable", f"{path} is not a file.")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise AudioError("missing", f"{path} was not found; check the path in the manifest.") from None
    except ValueError:
        raise AudioError("unreadable", f"{str(path)!r} is no path.") from None
    except OSError as error:
        raise AudioError("unreadable", f"{path} cannot be opened: {error.strerror}.") from None
    if size == 0 or (span is not None and span[0] + span[1] > size):
        raise AudioError("empty", f"{path} is empty (or shorter than the span asked of it).")
    return path


class _Opened:
    """An open recording: the whole of a file, a clip inside one, or bytes."""

    def __init__(self, audio: str | Path | bytes) -> None:
        self.audio: str | Path = "the recording" if isinstance(audio, bytes) else audio
        self._given = audio if isinstance(audio, bytes) else None
        self._file: io.FileIO | None = None
        self._head = b""  # all of a clip inside a file
        self._size = 0
        self._reason: Exception | None = None

    def __enter__(self) -> _Opened:
        try:
            if self._given is None:
                self._open()
            elif not self._given:
                raise AudioError("empty", "it holds no bytes")
            else:
                self._head, self._size = self._given, len(self._given)
            self.layout = look(self._read_at, self._size)
        except AudioError as error:
            self._close()
            raise AudioError(error.rule, f"{self.audio} cannot be used: {error}.") from None
        except (OSError, ValueError) as error:
            self._close()
            raise self._unreadable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self) -> None:
        path, span = split_blob(self.audio) if "#" in str(self.audio) else (Path(self.audio), None)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        start, self._size = span or (0, status.st_size)
        if not self._size or start + self._size > status.st_size:
            raise ValueError("nothing is there")
        self._file = io.FileIO(path)  # a buffer would read on past a clip
        self._file.seek(start)
        self._head = _exactly(self._file, self._size if span is not None else min(self._size, _HEAD_BYTES))

    def info(self) -> AudioInfo:
        """See `probe`."""
        file = self._first()
        if file is None:
            return self._av_info()
        seconds = 0.0
        try:
            with file:
                info = AudioInfo(0.0, file.samplerate, file.channels, _codec(file))
                seconds += file.frames / file.samplerate
            for part in self._parts()[1:]:
                with self._sound(part) as file:
                    seconds += file.frames / file.samplerate
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            raise self._unreadable(error) from error
        return self._told(info, seconds if self.layout.counted else self._measured())

    def blocks(
        self, offset_seconds: float = 0.0, duration_seconds: float | None = None
    ) -> Iterator[tuple[Samples, int]]:
        """Samples [n, channels] and their rate, a minute or so at a time, to the last one that is there."""
        file = self._first()
        if file is None:
            yield from _part_of(self._av_blocks(), offset_seconds, duration_seconds)
            return
        try:
            with file:
                if not self.layout.parts[1:]:
                    yield from self._read(file, offset_seconds, duration_seconds)
                    return
                yield from _part_of(self._read_all(file), offset_seconds, duration_seconds)
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def empty(self) -> AudioError:
        """Why there are no samples."""
        if self.layout.shortfall is not None:
            return AudioError(
                self.layout.shortfall.rule, f"{self.audio} holds no audio: {self.layout.shortfall.message}."
            )
        return AudioError("empty", f"{self.audio} holds no audio (zero samples).")

    def _told(self, info: AudioInfo, seconds: float) -> AudioInfo:
        short = self.layout.shortfall
        if short is not None and short.measured is None:
            short = replace(short, measured=round(seconds, 3))
        return replace(info, duration_seconds=seconds, shortfall=info.shortfall or short)

    def _measured(self) -> float:
        return sum(len(block) / rate for block, rate in self.blocks())

    def _read_at(self, place: int, count: int) -> bytes:
        count = min(count, self._size - place)
        if count <= 0:
            return b""
        if place + count <= len(self._head):
            return self._head[place : place + count]
        assert self._file is not None
        self._file.seek(place)
        return _exactly(self._file, count)

    # --- libsndfile

    def _parts(self) -> tuple[Part, ...]:
        return self.layout.parts or (Part(0, self._size),)

    def _first(self) -> soundfile.SoundFile | None:
        """The first part, opened by libsndfile; None where the recording is for PyAV."""
        if self.layout.by_av:
            return None
        try:
            file = self._sound(self._parts()[0])
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            self._reason = error
            return None
        # libsndfile takes what it does not know for raw samples, and guesses where MP3 inside of other containers ends.
        if file.format == "RAW" or (self.layout.kind != "mp3" and "MPEG" in file.subtype):
            file.close()
            return None
        try:
            self._check_shape(file.channels, file.samplerate)
        except AudioError:
            file.close()
            raise
        return file

    def _check_shape(self, channels: int, rate_hz: int) -> None:
        if not 0 < channels <= _MAX_CHANNELS:
            message = f"{self.audio} claims {channels} channels; at most {_MAX_CHANNELS} are read."
            raise AudioError("unreadable", message)
        if rate_hz not in _RATES_HZ:
            message = (
                f"{self.audio} claims {rate_hz:,} samples a second; {_RATES_HZ[0]:,} to {_RATES_HZ[-1]:,} are read."
            )
            raise AudioError("unreadable", message)

    def _sound(self, part: Part) -> soundfile.SoundFile:
        whole = not self.layout.parts
        if whole and len(self._head) == self._size:
            return soundfile.SoundFile(io.BytesIO(self._head))
        if whole and os.name != "nt" and self._file is not None:
            self._file.seek(0)
            return soundfile.SoundFile(self._file.fileno(), closefd=False)  # faster than through Python
        return soundfile.SoundFile(_Bytes(self._read_at, part))

    def _read(
        self, file: soundfile.SoundFile, offset: float = 0.0, duration: float | None = None
    ) -> Iterator[tuple[Samples, int]]:
        if offset:
            file.seek(min(round(offset * file.samplerate), file.frames))
        wanted = None if duration is None else round(duration * file.samplerate)
        most, read = _BLOCK_SECONDS * file.samplerate, 0
        while wanted is None or read < wanted:
            count = most if wanted is None else min(most, wanted - read)
            block = file.read(count, dtype="float32", always_2d=True)
            read += len(block)
            if len(block):
                yield block, file.samplerate
            if len(block) < count:
                break
        missing = file.frames - read
        if (
            not offset
            and wanted is None
            and missing > _PROMISE_TOLERANCE_SECONDS * file.samplerate
            and not self.layout.shortfall
        ):
            reached, promised = read / file.samplerate, file.frames / file.samplerate
            message = f"{self.audio} is damaged: it can be read for {reached:.2f} s, and {promised:.2f} s were to come."
            raise AudioError("unreadable", message)

    def _read_all(self, first: soundfile.SoundFile) -> Iterator[tuple[Samples, int]]:
        yield from self._read(first)
        for part in self._parts()[1:]:
            with self._sound(part) as file:
                yield from self._read(file)

    # --- PyAV

    def _av_info(self) -> AudioInfo:
        with self._container() as (container, stream):
            codec = stream.codec_context
            if codec is None:
                raise ValueError("its sound is in no format that PyAV knows")
            info = AudioInfo(math.nan, codec.sample_rate, codec.channels, _av_codec(container, codec))
            promised = self._promised(container, stream)
            reached = held = 0.0
            if promised is not None:
                for packet in container.demux(stream):
                    if packet.pts is not None:
                        reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                        held += float((packet.duration or 0) * packet.time_base)
            reached = min(reached, held)  # less where there is a hole; where packets do not say, all is measured
        if promised is not None and abs(promised - reached) <= _PROMISE_TOLERANCE_SECONDS:
            return self._told(info, promised)
        seconds = self._measured()
        if promised is not None and seconds < promised - _PROMISE_TOLERANCE_SECONDS:
            message = "its header promises more sound than the file holds: it was cut short"
            info = replace(info, shortfall=Shortfall("truncated", round(seconds, 3), round(promised, 3), message))
        return self._told(info, seconds)

    def _promised(self, container: Any, stream: Any) -> float | None:
        """What the header says of the sound itself; PyAV guesses for formats that have no such header."""
        if not {"mp4", "matroska"} & set(container.format.name.split(",")):
            return None
        if stream.duration is not None:
            return float(stream.duration * stream.time_base)
        if container.duration is not None and len(container.streams) == 1:
            return float(container.duration / 1_000_000)
        return None

    def _av_blocks(self) -> Iterator[tuple[Samples, int]]:
        """Samples [n, channels], at the rate of the file."""
        av = self._av()
        held: list[Samples] = []
        shape, resampler = None, None
        with self._container() as (container, stream):
            if stream.codec_context is None:
                raise ValueError("its sound is in no format that PyAV knows")
            for frame in container.decode(stream):
                self._check_shape(len(frame.layout.channels), frame.sample_rate)
                if shape != (frame.format.name, frame.layout.name, frame.sample_rate):
                    if held and shape is not None:
                        yield np.concatenate(held, axis=1).T, shape[2]
                    held, shape = [], (frame.format.name, frame.layout.name, frame.sample_rate)
                    resampler = av.AudioResampler(format="fltp")
                assert resampler is not None
                held += [part.to_ndarray() for part in resampler.resample(frame)]
                if sum(part.shape[1] for part in held[-1:]) and len(held) * held[-1].shape[1] >= (
                    _BLOCK_SECONDS * frame.sample_rate
                ):
                    yield np.concatenate(held, axis=1).T, frame.sample_rate
                    held = []
            if held and shape is not None:
                yield np.concatenate(held, axis=1).T, shape[2]

    @contextmanager
    def _container(self) -> Iterator[tuple[Any, Any]]:
        av = self._av()
        source = _Bytes(self._read_at, Part(0, self._size))
        try:
            with av.open(source, options={"format_whitelist": _AV_FORMATS}) as container:
                if not container.streams.audio:
                    raise AudioError("unreadable", f"{self.audio} holds no audio track.")
                yield container, container.streams.audio[0]
        except (av.FFmpegError, OSError, ValueError, OverflowError) as error:
            raise self._unreadable(self._reason or error) from error

    def _av(self) -> Any:
        try:
            import av
        except ImportError:
            if self._reason is not None and self.layout.kind != "other":
                raise self._unreadable(self._reason) from None
            raise AudioError(
                "unreadable",
                f"{self.audio} is nothing that libsndfile reads; m4a, aac, webm and mp4 need PyAV: pip install av",
            ) from None
        return av

    def _unreadable(self, error: Exception) -> AudioError:
        path = self.audio if self._given is not None else _existing(self.audio)
        layout = getattr(self, "layout", None)
        if layout is not None and layout.shortfall is not None:
            return AudioError(layout.shortfall.rule, f"{path} cannot be read to its end: {layout.shortfall.message}.")
        reason = str(getattr(error, "strerror", None) or error).rsplit(": ", 1)[-1].rstrip(".")
        return AudioError("unreadable", f"{path} is not audio that can be read ({reason}); convert it or leave it out.")


class _Bytes(io.RawIOBase):
    """A part of a recording as a file: its new header, and what follows."""

    def __init__(self, read_at: ReadAt, part: Part) -> None:
        self._read_at, self._part, self._place = read_at, part, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place}.get(whence)
        if base is None:
            base = len(self._part.head) + self._part.end - self._part.start
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        head = self._part.head
        data = head[self._place : self._place + len(view)]
        inside = self._part.start + self._place + len(data) - len(head)
        data += self._read_at(inside, min(len(view) - len(data), self._part.end - inside))
        view[: len(data)] = data
        self._place += len(data)
        return len(data)


def _exactly(file: io.FileIO, count: int) -> bytes:
    """A read may bring less than was asked for."""
    data = file.read(count) or b""
    while 0 < len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


def _part_of(
    blocks: Iterator[tuple[Samples, int]], offset: float, duration: float | None
) -> Iterator[tuple[Samples, int]]:
    """The part of a recording that lies between two times, where one cannot seek."""
    begun, done, before = 0.0, 0, 0  # when this rate began, samples since
    for block, rate in blocks:
        if rate != before:
            begun, done, before = begun + done / (before or 1), 0, rate
        first = max(0, round((offset - begun) * rate) - done)
        last = len(block) if duration is None else round((offset + duration - begun) * rate) - done
        done += len(block)
        if last <= 0:
            return
        if len(block[first:last]):
            yield block[first:last], rate


def _codec(file: Any) -> str:
    return f"{file.format}/{file.subtype}".lower()


def _av_codec(container: Any, codec: Any) -> str:
    return f"{container.format.name.split(',')[0]}/{codec.name}"


def _nothing() -> Samples:
    return np.zeros(0, dtype=np.float32)
