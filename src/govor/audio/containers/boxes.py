"""MP4, Matroska, WebM: boxes that say how long they are."""

from __future__ import annotations

from govor.audio.containers.layout import ReadAt, Shortfall, cut_at


def cut_boxes(read_at: ReadAt, size: int) -> Shortfall | None:
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


def cut_segment(read_at: ReadAt, begin: int, size: int) -> Shortfall | None:
    """What stands behind the header of a Matroska says how long it is, where it was not written into a pipe."""
    place = begin
    for _ in range(2):
        width, length = _ebml_size(read_at(place + 4, 8))
        place += 4 + width
        if length is None:
            return None
        place += length
    return cut_at(place, size)


def _ebml_size(data: bytes) -> tuple[int, int | None]:
    """How many bytes a size takes, and the size; None for one that is open or none."""
    width = 9 - data[0].bit_length() if data else 9
    if width > len(data):
        return width, None
    most = (1 << 7 * width) - 1
    length = int.from_bytes(data[:width], "big") & most
    return width, None if length == most else length
