"""FLAC: the last frame tells how many samples there are."""

from __future__ import annotations

import itertools
from functools import cache

from govor.audio.containers.layout import Layout, Part, ReadAt, Shortfall, find


def of_flac(read_at: ReadAt, begin: int, size: int) -> Layout:
    """Joined files part by part, each with the number of samples that its last frame ends at."""
    joined = (place for place in find(read_at, begin + 4, size, b"fLaC") if read_at(place, 8)[5:] == b"\0\0\x22")
    starts = [begin, *joined]
    parts, counted, shortfall, plain = [], True, None, len(starts) == 1
    for start, end in itertools.pairwise([*starts, size]):
        info = read_at(start, 42)
        if len(info) < 42:
            return Layout("flac")
        promised = int.from_bytes(info[21:26], "big") & 0xFFFFFFFFF
        measured = _last_sample_of_flac(read_at, start, end, info)
        if measured is None or measured == promised:
            counted = counted and promised > 0
            parts.append(Part(start, end))
            continue
        rate = int.from_bytes(info[18:21], "big") >> 4
        if promised > measured and rate:
            message = "its header promises more sound than the file holds: it was cut short"
            shortfall = Shortfall("truncated", round(measured / rate, 3), round(promised / rate, 3), message)
        fresh = bytearray(info)
        fresh[21:26] = (int.from_bytes(info[21:26], "big") & ~0xFFFFFFFFF | measured).to_bytes(5, "big")
        parts.append(Part(start + 42, end, bytes(fresh)))
        plain = False
    return Layout("flac", () if plain else tuple(parts), counted, shortfall, not counted)


def _last_sample_of_flac(read_at: ReadAt, start: int, end: int, info: bytes) -> int | None:
    """Samples up to the end of the last whole frame; None where no two frames in a row are found."""
    largest = int.from_bytes(info[15:18], "big") or 1 << 16
    promised = int.from_bytes(info[21:26], "big") & 0xFFFFFFFFF
    fixed = int.from_bytes(info[10:12], "big")
    window = max(start + 42, end - 4 * largest - 4096)
    data = read_at(window, end - window)
    behind: dict[int, tuple[int, int]] = {}  # by its first sample: where a frame begins, and how many it holds
    place = len(data)
    while (place := data.rfind(b"\xff", 0, place)) >= 0:
        frame = _flac_frame(data[place : place + 17], fixed)
        if frame is None:
            continue
        first, samples = frame
        if first + samples == promised:
            return promised
        if first + samples in behind:  # two in a row: neither is chance
            last, more = behind[first + samples]
            return first + samples + (more if _whole_frame(data[last:]) else 0)
        behind[first] = place, samples
    if 0 in behind and _whole_frame(data[behind[0][0] :]):
        return behind[0][1]
    return None


def _whole_frame(data: bytes) -> bool:
    return _crc16(data) == 0 or (data[-128:-125] == b"TAG" and _crc16(data[:-128]) == 0)


def _flac_frame(head: bytes, fixed_block: int) -> tuple[int, int] | None:
    """(first sample, samples) where these bytes are the header of a frame, proven by its own checksum."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 15 == 15:
        return None
    if head[3] >> 4 > 10:
        return None
    lead = head[4]
    more = 0 if lead < 0x80 else 8 - (~lead & 0xFF).bit_length() - 1
    if lead == 0xFF or lead & 0xC0 == 0x80 or len(head) < 5 + more:
        return None
    number = lead if not more else lead & (0x3F >> more if more < 6 else 0)
    for byte in head[5 : 5 + more]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    place, code = 5 + more, head[2] >> 4
    if code in (6, 7):
        width = code - 5
        samples = int.from_bytes(head[place : place + width], "big") + 1
        place += width
    else:
        samples = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    place += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if len(head) <= place or _crc8(head[:place]) != head[place]:
        return None
    return (number if head[1] & 1 else number * (fixed_block or samples)), samples


@cache
def _crc_table(polynomial: int, bits: int) -> tuple[int, ...]:
    top, mask = 1 << bits - 1, (1 << bits) - 1
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
        table.append(value)
    return tuple(table)


def _crc8(data: bytes) -> int:
    table, value = _crc_table(0x07, 8), 0
    for byte in data:
        value = table[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    table, value = _crc_table(0x8005, 16), 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ table[value >> 8 ^ byte]
    return value
