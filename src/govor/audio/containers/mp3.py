"""MP3, and the other layers of MPEG audio: frames are counted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from govor.audio.containers.layout import CHUNK_BYTES, Layout, Part, ReadAt, Shortfall, after_id3

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
    promised: int | None = None


def of_mp3(read_at: ReadAt, begin: int, size: int) -> Layout | None:
    """Frames are counted. A decoder is given each stretch by itself: it gives up at what lies between them, and stops where
    the first header says that the sound ends."""
    stretches = list(_stretches(read_at, begin, size))
    if sum(stretch.frames for stretch in stretches) < _FEWEST_FRAMES:
        return None
    parts = []
    for stretch in stretches:
        if stretch.info is not None and stretch.promised is not None and stretch.frames <= stretch.promised:
            parts.append(Part(stretch.info, stretch.end))
        else:
            parts.append(Part(stretch.start, stretch.end, _info_frame(stretch.header, stretch.frames)))
    plain = len(parts) == 1 and parts[0].start == begin and not parts[0].head
    # What libsndfile does not know to be layer III it takes for as long as its first frame makes it look.
    by_av = any(_layer(stretch.header) != 3 for stretch in stretches)
    counted = all(stretch.promised is None or stretch.promised <= stretch.frames for stretch in stretches)
    return Layout("mp3", () if plain else tuple(parts), counted, _cut_frames(stretches), by_av)


def _cut_frames(stretches: list[_Stretch]) -> Shortfall | None:
    """What is missing of what the Info frames promise."""
    for number, stretch in enumerate(stretches):
        if stretch.promised is None:
            continue
        following = itertools.takewhile(lambda one: one.info is None, stretches[number + 1 :])
        frames = stretch.frames + sum(one.frames for one in following)
        if frames < stretch.promised - 2:
            rate = _RATES[stretch.header[1] >> 3 & 3][stretch.header[2] >> 2 & 3]
            measured, promised = (
                round(count * _samples(stretch.header) / rate, 3) for count in (frames, stretch.promised)
            )
            message = "its header promises more sound than the file holds: it was cut short"
            return Shortfall("truncated", measured, promised, message)
    return None


def _stretches(read_at: ReadAt, begin: int, size: int) -> Iterator[_Stretch]:
    """Walk from frame to frame. An Info frame begins a stretch of its own, and so does another kind of stream, and what
    follows something that is no frame."""
    lengths = _frame_lengths()
    base, data, place = begin, read_at(begin, CHUNK_BYTES), 0
    current: _Stretch | None = None
    while base + place + 4 <= size:
        if place + _LONGEST_FRAME > len(data) and base + len(data) < size:
            base, place = base + place, 0
            data = read_at(base, CHUNK_BYTES)
        head = data[place : place + 4]
        length = lengths[head[1] << 8 | head[2]] if head[0] == 255 else 0
        if not length:
            after = _resync(read_at, base + place, size, current)
            if after is None:
                break
            if current is not None and current.frames:
                yield current
            current = None
            base, place, data = after, 0, read_at(after, CHUNK_BYTES)
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
            current.promised = _promised(data[place : place + length])
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
    behind = after_id3(read_at, place)
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


def _promised(frame: bytes) -> int | None:
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
