"""Which of several copies stays.

Copies are recordings with the same samples, or of the same sound by fingerprint. A copy with times beats one without, a
newer dataset beats an older, the first met beats the rest; `prefer` overrules.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from govor.corpus.diskmap import temporary_database
from govor.corpus.fingerprint import MAX_BIT_ERROR, MIN_COVER, Fingerprint, Index
from govor.corpus.records import Clip, sentence_key

_BETTER = "preferred, timed DESC, date DESC, number"


@dataclass(frozen=True, slots=True)
class Lost:
    """Why a copy does not stay."""

    rule: str
    measured: Any
    limit: Any
    message: str
    conflict: bool = False


class Duplicates:
    """Collects sound clips in order, then decides; on disk, so that memory does not grow with them."""

    def __init__(self, near: bool, prefer: tuple[str, ...] = ()) -> None:
        self._prefer = {name: place for place, name in enumerate(prefer)}
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="govor-"))
        self._index = self._stack.enter_context(Index()) if near else None
        self._database: sqlite3.Connection = temporary_database(folder)
        self._stack.callback(self._database.close)
        self._database.execute(
            "CREATE TABLE clips (number INTEGER PRIMARY KEY, id TEXT, sha TEXT, pcm TEXT, sentence TEXT, preferred INT, "
            "timed INT, date TEXT)"
        )
        self._database.execute("CREATE TABLE lost (number INTEGER PRIMARY KEY, rule TEXT, winner INT, error REAL)")
        self._parent: dict[int, int] = {}
        self._alive: Counter[int] = Counter()
        self._count = 0

    def add(self, clip: Clip, print_: Fingerprint | None) -> None:
        """The next sound clip."""
        place = self._prefer.get(str(clip.extra.get("dataset")), len(self._prefer))
        row = (
            self._count,
            clip.id.encode("utf-8", "backslashreplace").decode(),
            clip.sha256 if clip.offset is None else None,
            clip.pcm_sha256,
            sentence_key(clip.transcript),
            place,
            bool(clip.segments),
            str(clip.extra.get("date") or ""),
        )
        self._database.execute("INSERT INTO clips VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        if self._index is not None and print_ is not None:
            self._index.add(print_)
        self._count += 1

    def decide(self, drop_near: bool) -> None:
        """Find the copies; with `drop_near` near-duplicates that say the same lose as exact ones do."""
        self._database.execute("CREATE INDEX by_pcm ON clips (pcm)")
        self._database.execute(
            "INSERT INTO lost SELECT number, NULL, winner, NULL FROM "
            f"(SELECT number, FIRST_VALUE(number) OVER (PARTITION BY pcm ORDER BY {_BETTER}) AS winner FROM clips) "
            "WHERE number != winner"
        )
        self._database.execute(
            "UPDATE lost SET rule = CASE WHEN (SELECT sha FROM clips WHERE number = lost.number) = "
            "(SELECT sha FROM clips WHERE number = lost.winner) THEN 'duplicate_file' ELSE 'duplicate_audio' END"
        )
        if self._index is None:
            return
        same: list[tuple[int, int, float]] = []
        for match in self._index.matches():
            if self._is_lost(match.first) or self._is_lost(match.second):
                continue
            self._join(match.first, match.second)
            if drop_near and match.cover >= MIN_COVER and self._say_the_same(match.first, match.second):
                same.append((match.first, match.second, match.bit_error))
        for first, second, error in sorted(same):
            winner = self._better(first, second)
            loser = second if winner == first else first
            if not self._is_lost(loser) and not self._is_lost(winner):
                self._database.execute("INSERT INTO lost VALUES (?, 'near_duplicate', ?, ?)", (loser, winner, error))
        self._alive = Counter(self._root(number) for number in list(self._parent) if not self._is_lost(number))

    def lost(self, number: int) -> Lost | None:
        """Why clip `number` does not stay; None where it stays."""
        query = "SELECT rule, winner, error FROM lost WHERE number = ?"
        row = self._database.execute(query, (number,)).fetchone()
        if row is None:
            return None
        rule, winner, error = row
        name = self._column("id", winner)
        what = {"duplicate_file": "the same file as", "duplicate_audio": "the same samples as"}.get(
            rule, "the same sound as"
        )
        message = f"{what} '{name}', which stays because {self._reason(number, winner)}"
        conflict = not self._say_the_same(number, winner)
        if conflict:
            message += "; their transcripts differ, so one of the two is wrong: listen to it"
        if rule == "near_duplicate":
            return Lost(rule, {"twin": name, "bit_error": round(error, 4)}, MAX_BIT_ERROR, message, conflict)
        return Lost(rule, name, "once", message, conflict)

    def group(self, number: int) -> str | None:
        """The near-duplicate group of clip `number`, named by its first member; None where no other member stays."""
        if number not in self._parent or self._alive[self._root(number)] < 2:
            return None
        return str(self._column("id", self._root(number)))

    def __enter__(self) -> Duplicates:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _column(self, name: str, number: int) -> Any:
        return self._database.execute(f"SELECT {name} FROM clips WHERE number = ?", (number,)).fetchone()[0]

    def _is_lost(self, number: int) -> bool:
        return self._database.execute("SELECT 1 FROM lost WHERE number = ?", (number,)).fetchone() is not None

    def _say_the_same(self, first: int, second: int) -> bool:
        return bool(self._column("sentence", first) == self._column("sentence", second))

    def _better(self, first: int, second: int) -> int:
        query = f"SELECT number FROM clips WHERE number IN (?, ?) ORDER BY {_BETTER} LIMIT 1"
        return int(self._database.execute(query, (first, second)).fetchone()[0])

    def _reason(self, loser: int, winner: int) -> str:
        if self._column("preferred", winner) < self._column("preferred", loser):
            return "its dataset is preferred"
        if self._column("timed", winner) > self._column("timed", loser):
            return "it has times"
        newer = self._column("date", winner)
        return f"it is newer ({newer})" if newer > self._column("date", loser) else "it came first"

    def _root(self, number: int) -> int:
        while self._parent.setdefault(number, number) != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def _join(self, first: int, second: int) -> None:
        low, high = sorted((self._root(first), self._root(second)))
        self._parent[high] = low
