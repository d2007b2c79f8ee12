"""Ogg: pages, and chains of recordings."""

from __future__ import annotations

import itertools

from govor.audio.containers.layout import Layout, Part, ReadAt, Shortfall, find


def of_ogg(read_at: ReadAt, begin: int, size: int) -> Layout:
    """Links of a chain part by part: libsndfile reads the first one alone."""
    starts, behind = [begin], _page_end(read_at, begin)
    for place in find(read_at, begin + 4, size, b"OggS\0\x02"):
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
