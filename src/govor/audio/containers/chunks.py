"""WAV, AIFF, AU, W64, CAF: chunks that say how long they are."""

from __future__ import annotations

import re
from typing import Literal

from govor.audio.containers.layout import (
    OPEN_ENDED,
    SMALL_TAIL_BYTES,
    Kind,
    Layout,
    Part,
    ReadAt,
    Shortfall,
    zeros_from,
)
from govor.errors import AudioError

_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS", b"<?xml", b"<x:xm")
_CHUNKS = frozenset(
    b"LIST|id3 |ID3 |bext|cue |smpl|fact|iXML|JUNK|junk|PAD |FLLR|_PMX|PEAK|inst|plst|labl|afsp|DISP|levl|axml|chna|cart|"
    b"AUTH|NAME|ANNO|(c) |COMT|MARK|INST|APPL|AESD|COMM|FVER|SAUR|Cr8r|XMP |resu|umid|strc|acid|minf|elm1|regn".split(
        b"|"
    )
)


def of_chunks(read_at: ReadAt, size: int, order: Literal["little", "big"], sound: bytes, kind: Kind) -> Layout:
    """WAV and AIFF, whose samples are in the chunk named `sound`."""
    place, real, ds64 = 12, 0, 0
    while len(head := read_at(place, 8)) == 8:
        length = int.from_bytes(head[4:], order)
        if head[:4] == b"ds64":
            ds64, real = place, int.from_bytes(read_at(place + 16, 8), "little")
        if head[:4] == sound:
            if ds64 and length == 0xFFFFFFFF:
                length = real
            return _chunk_of_sound(read_at, size, order, kind, place + 8, length, ds64)
        place += 8 + length + length % 2
    return Layout(kind)


def _chunk_of_sound(
    read_at: ReadAt, size: int, order: Literal["little", "big"], kind: Kind, start: int, length: int, ds64: int
) -> Layout:
    available = size - start
    if length >= OPEN_ENDED and length > available and (not ds64 or length >= 1 << 62):
        return Layout(kind)  # libsndfile reads it to its end
    if length > available:
        message = "the header promises more sound than the file holds: it was cut short"
        return Layout(kind, shortfall=Shortfall("wrong_header", available, length, message))
    tail = start + length + length % 2
    if size - tail <= 0 or _chunks_follow(read_at, tail, size, order):
        return Layout(kind)
    if length % 2 and _chunks_follow(read_at, tail - 1, size, order):  # written without the byte that makes it even
        return Layout(kind)
    if length == 0:  # never closed: the recorder crashed, or wrote to a pipe
        return Layout(kind, _closed(read_at, size, order, start, ds64) if kind == "riff" else ())
    following = read_at(tail, SMALL_TAIL_BYTES + 1)
    if len(following) <= SMALL_TAIL_BYTES or following.startswith(_TAGS) or zeros_from(read_at, tail, size):
        return Layout(kind)
    what = "another recording" if following[:4] in (b"RIFF", b"FORM", b"RF64") else f"{size - tail:,} bytes"
    raise AudioError(
        "wrong_header",
        f"its header says that the sound ends after {length:,} bytes, and {what} stand behind it that are no part of the "
        "format; cut off what does not belong to it, or have the header written anew (ffmpeg or sox read the raw samples)",
    )


def _chunks_follow(read_at: ReadAt, place: int, size: int, order: Literal["little", "big"]) -> bool:
    """Whether the rest of the file is chunks to its end, or begins with one that is known."""
    while place < size:
        head = read_at(place, 8)
        if head[:4] in _CHUNKS:
            return True
        if len(head) < 8 or not re.fullmatch(rb"[ -~]{4}", head[:4]) or head[:4] in (b"RIFF", b"FORM", b"RF64"):
            return False
        place += 8 + int.from_bytes(head[4:], order)
        place += place % 2
    return place <= size + 1


def _closed(read_at: ReadAt, size: int, order: Literal["little", "big"], start: int, ds64: int) -> tuple[Part, ...]:
    """The file with a header that says how much is there."""
    head = bytearray(read_at(0, start))
    available = size - start
    if ds64:
        head[ds64 + 8 : ds64 + 16] = (size - 8).to_bytes(8, "little")
        head[ds64 + 16 : ds64 + 24] = available.to_bytes(8, "little")
        head[ds64 + 24 : ds64 + 32] = bytes(8)
    else:
        head[4:8] = min(size - 8, 0xFFFFFFFF).to_bytes(4, order)
        head[start - 4 : start] = min(available, 0xFFFFFFFF).to_bytes(4, order)
    return (Part(start, size, bytes(head)),)


def of_au(head: bytes, read_at: ReadAt, size: int) -> Layout:
    """AU, from its first bytes."""
    start, length = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    available = size - start
    if available <= 0 or length >= OPEN_ENDED:
        return Layout("au")
    if length == 0:
        return Layout("au", (Part(12, size, head[:8] + b"\xff" * 4),))
    if length > available:
        message = "the header promises more sound than the file holds: it was cut short"
        return Layout("au", shortfall=Shortfall("wrong_header", available, length, message))
    if available - length > SMALL_TAIL_BYTES and not zeros_from(read_at, start + length, size):
        raise AudioError(
            "wrong_header",
            f"its header says that the sound ends after {length:,} bytes, and {available - length:,} stand behind it",
        )
    return Layout("au")


def cut_wide(
    read_at: ReadAt, size: int, place: int, name_bytes: int, order: Literal["little", "big"]
) -> Shortfall | None:
    """What is missing of the sound of a W64 (whose lengths count their own 24 bytes) or CAF; libsndfile reads the rest."""
    wide = name_bytes == 16
    while len(head := read_at(place, name_bytes + 8)) == name_bytes + 8:
        length = int.from_bytes(head[name_bytes:], order) - (24 if wide else 0)
        place += len(head)
        if head[:4] == b"data":
            if not 0 < length < 1 << 62 or place + length <= size:
                return None
            message = "the header promises more sound than the file holds: it was cut short"
            return Shortfall("wrong_header", size - place, length, message)
        place += length + (-length % 8 if wide else 0)
    return None
