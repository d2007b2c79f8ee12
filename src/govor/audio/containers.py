"""What the bytes of a recording show before it is decoded: its container, how much sound is in it, whether it is whole.

Decoders believe headers, and stop where a header says that the sound ends. A header may be missing (MP3 and FLAC written
into a pipe), never closed (a recorder that crashed), speak of the first of several recordings (chained Ogg, files joined
end to end), or promise what an interrupted copy does not hold. Here bytes are counted instead.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from govor.errors import AudioError

Kind = Literal["riff", "aiff", "au", "flac", "ogg", "mp3", "adts", "mp4", "other"]
ReadAt = Callable[[int, int], bytes]  # (position, count) → the bytes there, fewer at the end

_CHUNK = 1 << 22
# What streams write for a length that they do not know, and all above: SoX 0x7F000008 in AIFF and 0x7FFFF000 in WAV.
_OPEN_ENDED = 0x7F000000
_SMALL_TAIL_BYTES = 1024  # behind the sound: padding, or what a tagger left
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS", b"<?xml", b"<x:xm")
_CHUNKS = frozenset(
    b"LIST|id3 |ID3 |bext|cue |smpl|fact|iXML|JUNK|junk|PAD |FLLR|_PMX|PEAK|inst|plst|labl|afsp|DISP|levl|axml|chna|cart|"
    b"AUTH|NAME|ANNO|(c) |COMT|MARK|INST|APPL|AESD|COMM|FVER|SAUR|Cr8r|XMP |resu|umid|strc|acid|minf|elm1|regn".split(
        b"|"
    )
)


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


def look(read_at: ReadAt, size: int) -> Layout:
    """The layout of `size` bytes.

    Raises:
        AudioError: a header that contradicts the file, so that nobody can know what is sound.
    """
    begin = _after_id3(read_at, 0)
    head = read_at(begin, 16)
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        return (
            _riff(read_at, size, "little" if head[3:4] != b"X" else "big", b"data", "riff") if not begin else _other()
        )
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _riff(read_at, size, "big", b"SSND", "aiff") if not begin else _other()
    if head[:12] == b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb":
        return Layout("other", counted=False, shortfall=_cut_wide(read_at, size, 40, 16, "little"))
    if head[:4] == b"caff":
        return Layout("other", counted=False, shortfall=_cut_wide(read_at, size, 8, 4, "big"))
    if head[:4] == b".snd":
        return _au(head, read_at, size)
    if head[:4] == b"fLaC":
        return _flac(read_at, begin, size)
    if head[:4] == b"OggS":
        return _ogg(read_at, begin, size)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return Layout("other", counted=False, shortfall=_cut_segment(read_at, begin, size))
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Layout("other", counted=False, shortfall=_cut_at(begin + 8 + int.from_bytes(head[4:8], "little"), size))
    if head[4:8] == b"ftyp":
        return Layout("mp4", counted=False, shortfall=_cut_boxes(read_at, size), by_av=True)
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return Layout("adts", counted=False, by_av=True)
    return _mp3(read_at, begin, size) or _other()


def _other() -> Layout:
    return Layout("other", counted=False)


def _after_id3(read_at: ReadAt, place: int) -> int:
    """The first byte behind ID3v2 tags, of which there may be several."""
    while (head := read_at(place, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
        length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        place += 10 + length + (10 if head[5] & 0x10 else 0)
    return place


# --- WAV and AIFF: chunks ---------------------------------------------------------------------------------------------


def _riff(read_at: ReadAt, size: int, order: Literal["little", "big"], sound: bytes, kind: Kind) -> Layout:
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
    held = size - start
    if length >= _OPEN_ENDED and length > held and (not ds64 or length >= 1 << 62):
        return Layout(kind)  # libsndfile reads it to its end
    if length > held:
        message = "the header promises more sound than the file holds: it was cut short"
        return Layout(kind, shortfall=Shortfall("wrong_header", held, length, message))
    tail = start + length + length % 2
    if size - tail <= 0 or _chunks_follow(read_at, tail, size, order):
        return Layout(kind)
    if length % 2 and _chunks_follow(read_at, tail - 1, size, order):  # written without the byte that makes it even
        return Layout(kind)
    if length == 0:  # never closed: the recorder crashed, or wrote to a pipe
        return Layout(kind, _closed(read_at, size, order, start, ds64) if kind == "riff" else ())
    following = read_at(tail, _SMALL_TAIL_BYTES + 1)
    if len(following) <= _SMALL_TAIL_BYTES or following.startswith(_TAGS) or _zeros(read_at, tail, size):
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


def _zeros(read_at: ReadAt, place: int, size: int) -> bool:
    while place < size:
        data = read_at(place, _CHUNK)
        if not data or data.count(0) != len(data):
            return not data
        place += len(data)
    return True


def _closed(read_at: ReadAt, size: int, order: Literal["little", "big"], start: int, ds64: int) -> tuple[Part, ...]:
    """The file with a header that says how much is there."""
    head = bytearray(read_at(0, start))
    held = size - start
    if ds64:
        head[ds64 + 8 : ds64 + 16] = (size - 8).to_bytes(8, "little")
        head[ds64 + 16 : ds64 + 24] = held.to_bytes(8, "little")
        head[ds64 + 24 : ds64 + 32] = bytes(8)
    else:
        head[4:8] = min(size - 8, 0xFFFFFFFF).to_bytes(4, order)
        head[start - 4 : start] = min(held, 0xFFFFFFFF).to_bytes(4, order)
    return (Part(start, size, bytes(head)),)


def _au(head: bytes, read_at: ReadAt, size: int) -> Layout:
    start, length = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    held = size - start
    if held <= 0 or length >= _OPEN_ENDED:
        return Layout("au")
    if length == 0:
        return Layout("au", (Part(12, size, head[:8] + b"\xff" * 4),))
    if length > held:
        message = "the header promises more sound than the file holds: it was cut short"
        return Layout("au", shortfall=Shortfall("wrong_header", held, length, message))
    if held - length > _SMALL_TAIL_BYTES and not _zeros(read_at, start + length, size):
        raise AudioError(
            "wrong_header",
            f"its header says that the sound ends after {length:,} bytes, and {held - length:,} stand behind it",
        )
    return Layout("au")


def _cut_wide(
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


# --- FLAC -------------------------------------------------------------------------------------------------------------


def _flac(read_at: ReadAt, begin: int, size: int) -> Layout:
    """Joined files part by part, each with the number of samples that its last frame ends at."""
    joined = (place for place in _find(read_at, begin + 4, size, b"fLaC") if read_at(place, 8)[5:] == b"\0\0\x22")
    starts = [begin, *joined]
    parts, counted, shortfall, plain = [], True, None, len(starts) == 1
    for start, end in itertools.pairwise([*starts, size]):
        info = read_at(start, 42)
        if len(info) < 42:
            return Layout("flac")
        said = int.from_bytes(info[21:26], "big") & 0xFFFFFFFFF
        found = _last_sample_of_flac(read_at, start, end, info)
        if found is None or found == said:
            counted = counted and said > 0
            parts.append(Part(start, end))
            continue
        rate = int.from_bytes(info[18:21], "big") >> 4
        if said > found and rate:
            message = "its header promises more sound than the file holds: it was cut short"
            shortfall = Shortfall("truncated", round(found / rate, 3), round(said / rate, 3), message)
        fresh = bytearray(info)
        fresh[21:26] = (int.from_bytes(info[21:26], "big") & ~0xFFFFFFFFF | found).to_bytes(5, "big")
        parts.append(Part(start + 42, end, bytes(fresh)))
        plain = False
    return Layout("flac", () if plain else tuple(parts), counted, shortfall, not counted)


def _last_sample_of_flac(read_at: ReadAt, start: int, end: int, info: bytes) -> int | None:
    """Samples up to the end of the last whole frame; None where no two frames in a row are found."""
    largest = int.from_bytes(info[15:18], "big") or 1 << 16
    said = int.from_bytes(info[21:26], "big") & 0xFFFFFFFFF
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
        if first + samples == said:
            return said
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


# --- Ogg --------------------------------------------------------------------------------------------------------------


def _ogg(read_at: ReadAt, begin: int, size: int) -> Layout:
    """Links of a chain part by part: libsndfile reads the first one alone."""
    starts, behind = [begin], _page_end(read_at, begin)
    for place in _find(read_at, begin + 4, size, b"OggS\0\x02"):
        if place != behind:  # streams that begin together are one link
            starts.append(place)
        behind = _page_end(read_at, place)
    parts = tuple(Part(start, end) for start, end in itertools.pairwise([*starts, size]))
    return Layout("ogg", parts if len(parts) > 1 else (), shortfall=_cut_page(read_at, size))


def _page_end(read_at: ReadAt, place: int) -> int:
    head = read_at(place, 27 + 255)
    segments = head[26] if len(head) > 26 else 0
    return place + 27 + segments + sum(head[27 : 27 + segments])


def _cut_page(read_at: ReadAt, size: int) -> Shortfall | None:
    """Pages say how long they are, and where in the sound they end: the last one must end within the file, and behind the
    headers, unless it is marked as the last."""
    window = max(0, size - (27 + 255 + 255 * 255) - 4)
    last = read_at(window, size - window).rfind(b"OggS")
    if last < 0:
        return None
    head = read_at(window + last, 27)
    if len(head) < 27 or _page_end(read_at, window + last) > size:
        return Shortfall("truncated", None, None, "its last page breaks off: it was cut short")
    if int.from_bytes(head[6:14], "little", signed=True) <= 0 and not head[5] & 4:
        return Shortfall("truncated", None, None, "it ends before its first sound is whole: it was cut short")
    return None


# --- MP3 --------------------------------------------------------------------------------------------------------------

_BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SAME_STREAM = 0xFFFE0C00  # sync, version, layer and sampling rate
_FEWEST_FRAMES = 4  # fewer in a row are chance
_MOST_JUNK_BYTES = 1 << 22
_LONGEST_FRAME, _SMALLEST_FRAME = 3000, 40
_INITIALS = (73, 88)  # of Info and Xing


@cache
def _frame_lengths() -> tuple[int, ...]:
    """Bytes of an MPEG audio frame by the second and third byte of its header; 0 where these are none."""
    lengths = [0] * 65536
    for second, third in itertools.product(range(0xE0, 256), range(256)):
        version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
        bitrate, rate = third >> 4, third >> 2 & 3
        if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
            continue
        kilobits, hertz = _BITRATES[version == 3, layer][bitrate - 1], _RATES[version][rate]
        padding = third >> 1 & 1
        if layer == 1:
            length = (12000 * kilobits // hertz + padding) * 4
        else:
            length = (72000 if layer == 3 and version != 3 else 144000) * kilobits // hertz + padding
        lengths[second << 8 | third] = length
    return tuple(lengths)


@dataclass(slots=True)
class _Stretch:
    """Frames in a row: where they begin and end, how many there are, and what an Info frame before them said."""

    start: int
    header: bytes
    end: int = 0
    frames: int = 0
    info: int | None = None  # where the Info frame stands
    said: int | None = None


def _mp3(read_at: ReadAt, begin: int, size: int) -> Layout | None:
    """Frames are counted. A decoder is given each stretch by itself: it gives up at what lies between them, and stops where
    the first header says that the sound ends."""
    stretches = list(_stretches(read_at, begin, size))
    if sum(found.frames for found in stretches) < _FEWEST_FRAMES:
        return None
    parts = []
    for found in stretches:
        if found.info is not None and found.said is not None and found.frames <= found.said:
            parts.append(Part(found.info, found.end))
        else:
            parts.append(Part(found.start, found.end, _info_frame(found.header, found.frames)))
    plain = len(parts) == 1 and parts[0].start == begin and not parts[0].head
    # What libsndfile does not know to be layer III it takes for as long as its first frame makes it look.
    by_av = any(_layer(found.header) != 3 for found in stretches)
    counted = all(found.said is None or found.said <= found.frames for found in stretches)
    return Layout("mp3", () if plain else tuple(parts), counted, _cut_frames(stretches), by_av)


def _cut_frames(stretches: list[_Stretch]) -> Shortfall | None:
    """What is missing of what the Info frames promise."""
    for number, found in enumerate(stretches):
        if found.said is None:
            continue
        following = itertools.takewhile(lambda one: one.info is None, stretches[number + 1 :])
        frames = found.frames + sum(one.frames for one in following)
        if frames < found.said - 2:
            rate = _RATES[found.header[1] >> 3 & 3][found.header[2] >> 2 & 3]
            held, promised = (round(count * _samples(found.header) / rate, 3) for count in (frames, found.said))
            message = "its header promises more sound than the file holds: it was cut short"
            return Shortfall("truncated", held, promised, message)
    return None


def _stretches(read_at: ReadAt, begin: int, size: int) -> Iterator[_Stretch]:
    """Walk from frame to frame. An Info frame begins a stretch of its own, and so does another kind of stream, and what
    follows something that is no frame."""
    lengths = _frame_lengths()
    base, data, place = begin, read_at(begin, _CHUNK), 0
    current: _Stretch | None = None
    while base + place + 4 <= size:
        if place + _LONGEST_FRAME > len(data) and base + len(data) < size:
            base, place = base + place, 0
            data = read_at(base, _CHUNK)
        head = data[place : place + 4]
        length = lengths[head[1] << 8 | head[2]] if head[0] == 255 else 0
        if not length:
            after = _resync(read_at, base + place, size, current)
            if after is None:
                break
            if current is not None and current.frames:
                yield current
            current = None
            base, place, data = after, 0, read_at(after, _CHUNK)
            continue
        if base + place + length > size:
            break  # its last frame was cut
        tag = _tag(data[place : place + length], first=current is None)
        if tag or current is None or (current.frames and not _alike(current.header, head)):
            if current is not None and current.frames:
                yield current
            current = _Stretch(base + place, head)
        if tag:
            current.info, current.start = base + place, base + place + length
            current.said = _said(data[place : place + length])
            place += length
            continue
        if not current.frames:
            current.header = head
        frames, place = _walk(data, place, head)
        current.frames += frames
        current.end = base + place
    if current is not None and current.frames:
        yield current


def _walk(data: bytes, place: int, head: bytes) -> tuple[int, int]:
    """Over the frame at `place` and those behind it that are like it; how many, and where the first other thing stands."""
    second, side, count, stop = head[1], _side(head), 0, len(data) - _SMALLEST_FRAME
    mono = head[3] >= 0xC0
    lengths = _lengths_of(second, head[2] & 0x0C)
    while length := lengths[data[place + 2]]:
        place += length
        count += 1
        if (
            place >= stop
            or data[place] != 255
            or data[place + 1] != second
            or (data[place + 3] >= 0xC0) != mono
            or data[place + side] in _INITIALS
        ):
            break  # whether something begins like the name of a header because it is one is for others to see
    if place > len(data):
        return count - 1, place - length
    return count, place


@cache
def _lengths_of(second: int, rate: int) -> tuple[int, ...]:
    lengths = _frame_lengths()[second << 8 :][:256]
    return tuple(length if third & 0x0C == rate else 0 for third, length in enumerate(lengths))


def _alike(first: bytes, second: bytes) -> bool:
    other = int.from_bytes(first, "big") ^ int.from_bytes(second, "big")
    return not other & _SAME_STREAM and (first[3] >= 0xC0) == (second[3] >= 0xC0)


def _resync(read_at: ReadAt, place: int, size: int, current: _Stretch | None) -> int | None:
    """The next place behind something that is no frame, from where two frames follow each other; None where none does."""
    behind = _after_id3(read_at, place)
    lengths = _frame_lengths()
    stop = min(size, behind + _MOST_JUNK_BYTES)
    data = read_at(behind, stop - behind)
    at = -1
    while (at := data.find(b"\xff", at + 1)) >= 0 and at + 4 <= len(data):
        length = lengths[data[at + 1] << 8 | data[at + 2]]
        following = data[at + length : at + length + 4]
        if length and len(following) == 4 and following[0] == 255 and _alike(data[at : at + 4], following):
            if lengths[following[1] << 8 | following[2]] and (current is None or _alike(current.header, following)):
                return behind + at
            if _tag(data[at : at + length], first=True):
                return behind + at
    return None


def _tag(frame: bytes, first: bool) -> bytes:
    """The name of the header that a frame holds in place of sound."""
    names: tuple[bytes, ...] = (b"Xing", b"Info", b"VBRI") if first else (b"Xing", b"Info")
    for name in names:
        place = _side(frame, name)
        if frame[place : place + 4] == name:
            return name
    return b""


def _side(head: bytes, tag: bytes = b"Xing") -> int:
    """Bytes from the beginning of a layer III frame to its Xing header."""
    if tag == b"VBRI":
        return 36
    mono, newest = head[3] >> 6 == 3, head[1] >> 3 & 3 == 3
    return 4 + ((17 if mono else 32) if newest else (9 if mono else 17))


def _samples(header: bytes) -> int:
    version, layer = header[1] >> 3 & 3, _layer(header)
    return 384 if layer == 1 else 1152 if layer == 2 or version == 3 else 576


def _said(frame: bytes) -> int | None:
    """The number of frames that an Info frame promises. Where a Fraunhofer encoder wrote it, decoders do not know it."""
    if frame[36:40] == b"VBRI":
        return None
    place = _side(frame)
    if len(frame) < place + 12 or not frame[place + 7] & 1:
        return None
    return int.from_bytes(frame[place + 8 : place + 12], "big")


def _info_frame(header: bytes, frames: int) -> bytes:
    """An Info frame for frames that have none, so that a decoder need not guess; only layer III knows them."""
    if _layer(header) != 3:
        return b""
    lengths = _frame_lengths()
    head = bytearray((header[0], header[1] | 1, header[2], header[3]))
    while lengths[head[1] << 8 | head[2]] < 120:  # as small as it may be, but large enough to hold the tag
        head[2] += 0x10
    frame = head + bytes(lengths[head[1] << 8 | head[2]] - 4)
    place = _side(bytes(frame))
    frame[place : place + 12] = b"Info" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return bytes(frame)


def _layer(header: bytes) -> int:
    return 4 - (header[1] >> 1 & 3)


# --- MP4 --------------------------------------------------------------------------------------------------------------


def _cut_boxes(read_at: ReadAt, size: int) -> Shortfall | None:
    """Boxes say how long they are; the last one must end within the file, and one must be the index."""
    place, seen = 0, set()
    while len(head := read_at(place, 16)) >= 8:
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        seen.add(name)
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:
            return None  # to the end of the file
        if length < 8:
            return None
        place += length
        if place > size:
            what = "" if b"moov" in seen else ", and its index, which stands at the end, is gone"
            return Shortfall("truncated", size, place, f"it was cut short{what}")
    return None


# --- Matroska, WebM, AVI ----------------------------------------------------------------------------------------------


def _cut_segment(read_at: ReadAt, begin: int, size: int) -> Shortfall | None:
    """What stands behind the header of a Matroska says how long it is, where it was not written into a pipe."""
    place = begin
    for _ in range(2):
        width, length = _ebml_size(read_at(place + 4, 8))
        place += 4 + width
        if length is None:
            return None
        place += length
    return _cut_at(place, size)


def _ebml_size(data: bytes) -> tuple[int, int | None]:
    """How many bytes a size takes, and the size; None for one that is open or none."""
    width = 9 - data[0].bit_length() if data else 9
    if width > len(data):
        return width, None
    most = (1 << 7 * width) - 1
    length = int.from_bytes(data[:width], "big") & most
    return width, None if length == most else length


def _cut_at(end: int, size: int) -> Shortfall | None:
    return Shortfall("truncated", None, None, "it was cut short") if size < end < 1 << 62 else None


# ----------------------------------------------------------------------------------------------------------------------


def _find(read_at: ReadAt, begin: int, end: int, wanted: bytes) -> Iterator[int]:
    """Where some bytes stand, a piece of the file at a time."""
    while begin < end:
        data = read_at(begin, min(_CHUNK, end - begin))
        yield from (begin + place for place in _all(data, wanted))
        if len(data) < _CHUNK:
            return
        begin += len(data) - len(wanted) + 1


def _all(data: bytes, wanted: bytes) -> list[int]:
    found, place = [], len(data)
    while (place := data.rfind(wanted, 0, place + len(wanted) - 1)) >= 0:  # twice as fast as from the beginning
        found.append(place)
    return found[::-1]
