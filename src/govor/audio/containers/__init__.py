"""What the bytes of a recording show before it is decoded: its container, how much sound is in it, whether it is whole.

Decoders believe headers, and stop where a header says that the sound ends. A header may be missing (MP3 and FLAC written
into a pipe), never closed (a recorder that crashed), speak of the first of several recordings (chained Ogg, files joined
end to end), or promise what an interrupted copy does not hold. Here bytes are counted instead.
"""

from __future__ import annotations

from govor.audio.containers.boxes import cut_boxes, cut_segment
from govor.audio.containers.chunks import cut_wide, of_au, of_chunks
from govor.audio.containers.flac import of_flac
from govor.audio.containers.layout import Layout, Part, ReadAt, Shortfall, after_id3, cut_at, unknown
from govor.audio.containers.mp3 import of_mp3
from govor.audio.containers.ogg import of_ogg

__all__ = ["Layout", "Part", "ReadAt", "Shortfall", "look"]


def look(read_at: ReadAt, size: int) -> Layout:
    """The layout of `size` bytes.

    Raises:
        AudioError: a header that contradicts the file, so that nobody can know what is sound.
    """
    begin = after_id3(read_at, 0)
    head = read_at(begin, 16)
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        return (
            of_chunks(read_at, size, "little" if head[3:4] != b"X" else "big", b"data", "riff")
            if not begin
            else unknown()
        )
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return of_chunks(read_at, size, "big", b"SSND", "aiff") if not begin else unknown()
    if head[:12] == b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb":
        return Layout("other", counted=False, shortfall=cut_wide(read_at, size, 40, 16, "little"))
    if head[:4] == b"caff":
        return Layout("other", counted=False, shortfall=cut_wide(read_at, size, 8, 4, "big"))
    if head[:4] == b".snd":
        return of_au(head, read_at, size)
    if head[:4] == b"fLaC":
        return of_flac(read_at, begin, size)
    if head[:4] == b"OggS":
        return of_ogg(read_at, begin, size)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return Layout("other", counted=False, shortfall=cut_segment(read_at, begin, size))
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Layout("other", counted=False, shortfall=cut_at(begin + 8 + int.from_bytes(head[4:8], "little"), size))
    if head[4:8] == b"ftyp":
        return Layout("mp4", counted=False, shortfall=cut_boxes(read_at, size), by_av=True)
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return Layout("adts", counted=False, by_av=True)
    return of_mp3(read_at, begin, size) or unknown()
