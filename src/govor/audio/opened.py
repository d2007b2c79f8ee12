"""An open recording: its bytes, how they are laid out, and what is wrong with it."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from govor.audio.containers import Part, ReadAt, Shortfall, look
from govor.audio.files import existing, split_blob
from govor.audio.samples import Samples
from govor.errors import AudioError

# Samples [n, channels] and their rate.
Blocks = Iterator[tuple[Samples, int]]
BLOCK_SECONDS = 60
PROMISE_TOLERANCE_SECONDS = 0.1
_MAX_CHANNELS = 64
_RATES_HZ = range(1_000, 1_000_001)  # a rate of 1 Hz would make 16,000 samples of one
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a recording is. `duration_seconds` is counted, or measured by decoding where a header cannot know it;
    `shortfall` says what is missing of a file that was cut short."""

    duration_seconds: float
    sample_rate_hz: int
    channels: int
    codec: str
    shortfall: Shortfall | None = None


class Opened:
    """The whole of a file, a clip inside one, or bytes.

    `layout` is what the bytes show; `refused` is why libsndfile did not take it, where it did not.
    """

    def __init__(self, audio: str | Path | bytes) -> None:
        self.audio: str | Path = "the recording" if isinstance(audio, bytes) else audio
        self.refused: Exception | None = None
        self._given = audio if isinstance(audio, bytes) else None
        self._file: io.FileIO | None = None
        self._head = b""  # all of a clip inside a file
        self._size = 0

    def __enter__(self) -> Opened:
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
            raise self.unreadable(error) from error
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

    def _read_at(self, place: int, count: int) -> bytes:
        count = min(count, self._size - place)
        if count <= 0:
            return b""
        if place + count <= len(self._head):
            return self._head[place : place + count]
        assert self._file is not None
        self._file.seek(place)
        return _exactly(self._file, count)

    def parts(self) -> tuple[Part, ...]:
        """What a decoder is given, one after the other."""
        return self.layout.parts or (Part(0, self._size),)

    def whole(self) -> io.RawIOBase:
        """All bytes as a file."""
        return _PartFile(self._read_at, Part(0, self._size))

    def part(self, part: Part) -> io.RawIOBase | io.BytesIO | int:
        """One part as a file; a whole file as its descriptor, which is read faster than through Python."""
        plain = not self.layout.parts
        if plain and len(self._head) == self._size:
            return io.BytesIO(self._head)
        if plain and os.name != "nt" and self._file is not None:
            self._file.seek(0)
            return self._file.fileno()
        return _PartFile(self._read_at, part)

    def check_shape(self, channels: int, rate_hz: int) -> None:
        """Refuse numbers that no recording has."""
        if not 0 < channels <= _MAX_CHANNELS:
            message = f"{self.audio} claims {channels} channels; at most {_MAX_CHANNELS} are read."
            raise AudioError("unreadable", message)
        if rate_hz not in _RATES_HZ:
            message = (
                f"{self.audio} claims {rate_hz:,} samples a second; {_RATES_HZ[0]:,} to {_RATES_HZ[-1]:,} are read."
            )
            raise AudioError("unreadable", message)

    def lasting(self, info: AudioInfo, seconds: float) -> AudioInfo:
        """What is known of the recording, with its length and with what is missing of it."""
        short = self.layout.shortfall
        if short is not None and short.measured is None:
            short = replace(short, measured=round(seconds, 3))
        return replace(info, duration_seconds=seconds, shortfall=info.shortfall or short)

    def empty(self) -> AudioError:
        """Why there are no samples."""
        if self.layout.shortfall is not None:
            return AudioError(
                self.layout.shortfall.rule, f"{self.audio} holds no audio: {self.layout.shortfall.message}."
            )
        return AudioError("empty", f"{self.audio} holds no audio (zero samples).")

    def unreadable(self, error: Exception) -> AudioError:
        """What to say when a decoder fails."""
        path = self.audio if self._given is not None else existing(self.audio)
        layout = getattr(self, "layout", None)
        if layout is not None and layout.shortfall is not None:
            return AudioError(layout.shortfall.rule, f"{path} cannot be read to its end: {layout.shortfall.message}.")
        reason = str(getattr(error, "strerror", None) or error).rsplit(": ", 1)[-1].rstrip(".")
        return AudioError("unreadable", f"{path} is not audio that can be read ({reason}); convert it or leave it out.")


class _PartFile(io.RawIOBase):
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


def part_between(blocks: Blocks, offset_seconds: float, duration_seconds: float | None) -> Blocks:
    """The part of a recording that lies between two times, where one cannot seek."""
    begun, done, before = 0.0, 0, 0  # when this rate began, samples since
    for block, rate in blocks:
        if rate != before:
            begun, done, before = begun + done / (before or 1), 0, rate
        first = max(0, round((offset_seconds - begun) * rate) - done)
        last = (
            len(block) if duration_seconds is None else round((offset_seconds + duration_seconds - begun) * rate) - done
        )
        done += len(block)
        if last <= 0:
            return
        if len(block[first:last]):
            yield block[first:last], rate
