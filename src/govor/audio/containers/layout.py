"""How the bytes of a recording are laid out, and what is missing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["riff", "aiff", "au", "flac", "ogg", "mp3", "adts", "mp4", "other"]
ReadAt = Callable[[int, int], bytes]  # (position, count) → the bytes there, fewer at the end

CHUNK_BYTES = 1 << 22
# What streams write for a length that they do not know, and all above: SoX 0x7F000008 in AIFF and 0x7FFFF000 in WAV.
OPEN_ENDED = 0x7F000000
SMALL_TAIL_BYTES = 1024  # behind the sound: padding, or what a tagger left


@dataclass(frozen=True, slots=True)
class Part:
    """What a decoder is given: the bytes from `start` to `end`, behind a header written anew where `head` is not empty."""

    start: int
    end: int
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The file holds less sound than it should. In bytes (`wrong_header`) or seconds (`truncated`), None where unknown."""

    rule: str
    measured: float | None
    promised: float | None
    message: str


@dataclass(frozen=True, slots=True)
class Layout:
    """`parts` stand one after the other; none means the file as it is. `counted` says that a decoder's own figure for the
    length can be believed; else it is an estimate. `by_av`: only PyAV reads it to its end."""

    kind: Kind
    parts: tuple[Part, ...] = ()
    counted: bool = True
    shortfall: Shortfall | None = None
    by_av: bool = False


def unknown() -> Layout:
    """Of what a decoder may know."""
    return Layout("other", counted=False)


def after_id3(read_at: ReadAt, place: int) -> int:
    """The first byte behind ID3v2 tags, of which there may be several."""
    while (head := read_at(place, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
        length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        place += 10 + length + (10 if head[5] & 0x10 else 0)
    return place


def zeros_from(read_at: ReadAt, place: int, size: int) -> bool:
    """Whether nothing but zeros follows."""
    while place < size:
        data = read_at(place, CHUNK_BYTES)
        if not data or data.count(0) != len(data):
            return not data
        place += len(data)
    return True


def cut_at(end: int, size: int) -> Shortfall | None:
    """What is missing where the last part ends behind the file."""
    return Shortfall("truncated", None, None, "it was cut short") if size < end < 1 << 62 else None


def find(read_at: ReadAt, begin: int, end: int, wanted: bytes) -> Iterator[int]:
    """Where some bytes stand, a piece of the file at a time."""
    while begin < end:
        data = read_at(begin, min(CHUNK_BYTES, end - begin))
        yield from (begin + place for place in _all(data, wanted))
        if len(data) < CHUNK_BYTES:
            return
        begin += len(data) - len(wanted) + 1


def _all(data: bytes, wanted: bytes) -> list[int]:
    places, place = [], len(data)
    while (place := data.rfind(wanted, 0, place + len(wanted) - 1)) >= 0:  # twice as fast as from the beginning
        places.append(place)
    return places[::-1]
