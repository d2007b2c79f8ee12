"""A small set that stands for a large one: for a first run that shows whether everything works."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from govor.corpus.records import Clip
from govor.files import atomic_file
from govor.languages import language_key

_BANDS_SECONDS = (2.0, 5.0, 10.0, 20.0, 30.0)


class Small:
    """Chooses `count` clips while all pass by: each language, split, voice and length in turn, so that none is missed that
    there is room for. Which clip of a kind it is, a hash of the id says: the same clips give the same choice in any order.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._kinds: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        self._seen = 0

    def see(self, clip: Clip) -> None:
        """The next clip of the large set."""
        band = sum(clip.duration > edge for edge in _BANDS_SECONDS)
        kind = (language_key(clip.language), clip.split or "", clip.speaker or clip.source or "", str(band))
        heap = self._kinds.setdefault(kind, [])
        entry = (-_draw(clip.id), self._seen)
        self._seen += 1
        if len(heap) < self.count:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)

    def chosen(self) -> set[int]:
        """Numbers of the chosen clips, in the order of the large set, from 0."""
        return set(islice(_in_turn(self._kinds), self.count))


def write_small(large: Path, target: Path, chosen: set[int]) -> int:
    """The chosen lines of a file with a line for each clip; returns how many."""
    count = 0
    with large.open(encoding="utf-8", newline="\n") as lines, atomic_file(target) as handle:
        for number, line in enumerate(lines):
            if number in chosen:
                handle.write(line)
                count += 1
    return count


def _in_turn(kinds: dict[tuple[str, ...], list[tuple[int, int]]]) -> Iterator[int]:
    """One of each language in turn; within a language one of each split, and so on down to the clips of a kind."""
    if () in kinds:
        yield from (number for _, number in sorted(kinds[()], reverse=True))
        return
    by_first: dict[str, dict[tuple[str, ...], list[tuple[int, int]]]] = {}
    for kind, draws in kinds.items():
        by_first.setdefault(kind[0], {})[kind[1:]] = draws
    turns = [_in_turn(by_first[name]) for name in sorted(by_first, key=lambda name: (_draw(name), name))]
    yield from _round_robin(turns)


def _round_robin(turns: Iterable[Iterator[int]]) -> Iterator[int]:
    waiting = list(turns)
    while waiting:
        still = []
        for turn in waiting:
            for number in islice(turn, 1):
                yield number
                still.append(turn)
        waiting = still


def _draw(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())
