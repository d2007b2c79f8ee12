"""Which of several copies stays, and where the others go.

Copies are recordings with the same samples, or of the same sound by fingerprint. A copy with times beats one without, a
newer dataset beats an older, the first met beats the rest; `prefer` overrules. Files of copies are moved, never deleted,
and a journal moves them back.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from govor.audio import AUDIO_SUFFIXES, split_blob
from govor.corpus.fingerprint import MAX_BIT_ERROR, MIN_COVER, Fingerprint, Index
from govor.corpus.inventory import MOVED_JOURNAL, transcripts_beside
from govor.corpus.ondisk import temporary_database
from govor.corpus.provenance import item_file, there
from govor.corpus.records import Clip, sentence_key
from govor.errors import GovorError
from govor.jsons import parse_json, to_json

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


@dataclass(frozen=True, slots=True)
class Move:
    """A file that goes out of the way, with its transcript and provenance."""

    source: Path
    target: Path
    reason: str


def plan_moves(dropped: Iterable[dict[str, Any]], kept: Iterable[str], folder: Path) -> Iterator[Move]:
    """What moving the copies would do. A file that a kept clip still needs, or a part of a larger file, stays.

    Args:
        dropped: rows of dropped.jsonl.
        kept: the audio of every kept clip.
        folder: where copies go (`uploads/duplicates`).
    """
    needed = {str(split_blob(audio)[0]) for audio in kept}
    for item in dropped:
        row = item["row"]
        if item["rule"] not in ("duplicate_file", "duplicate_audio", "near_duplicate"):
            continue
        path, span = split_blob(row["audio"])
        if span is not None or row.get("offset") is not None or str(path) in needed or not path.is_file():
            continue
        inside = Path(*[part for part in path.parts if part not in (path.anchor, "..")])
        for file in with_sidecars(path):
            yield Move(file, folder / inside.with_name(file.name), item["message"])


def with_sidecars(audio: Path) -> Iterator[Path]:
    """The recording and what stands beside it for it alone: `a.txt` stays where `a.flac` needs it after `a.wav` goes."""
    shared = any(there(audio.with_suffix(suffix)) for suffix in AUDIO_SUFFIXES if suffix != audio.suffix.lower())
    words = () if shared else (*(file for _, file in transcripts_beside(audio)), audio.with_suffix(".norm.txt"))
    for file in (audio, *words, item_file(audio)):
        if there(file):
            yield file


def move(moves: Iterable[Move], folder: Path, done: Callable[[Move], None] = lambda _: None) -> int:
    """Carry moves out; each is written to the journal before it happens. Returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with (folder / MOVED_JOURNAL).open("a", encoding="utf-8", errors="backslashreplace") as journal:
        for item in moves:
            if item.target.exists():
                raise GovorError(f"{item.target} already exists; undo the earlier moves first (govor validate --undo).")
            entry = {"from": str(item.source), "to": str(item.target), "reason": item.reason}
            journal.write(to_json(entry) + "\n")
            journal.flush()
            item.target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(item.source, item.target)
            done(item)
            count += 1
    return count


def undo(folder: Path) -> tuple[int, list[str]]:
    """Move everything in the journal back; returns how many, and what could not be moved."""
    journal = folder / MOVED_JOURNAL
    if not journal.exists():
        raise GovorError(f"{journal} was not found: no duplicates have been moved.")
    back, failed = 0, []
    for line in reversed(journal.read_text(encoding="utf-8").splitlines()):
        entry = parse_json(line, f"{journal} is damaged")
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("from", "to")):
            raise GovorError(f"{journal} is damaged: a line names no 'from' and 'to'; move the files back by hand.")
        source, target = Path(entry["from"]), Path(entry["to"])
        if not target.exists():
            if not source.exists():
                failed.append(f"{target} is gone")
        elif source.exists():
            failed.append(f"{source} exists again, so {target} stays where it is")
        else:
            source.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(target, source)
            back += 1
    if not failed:
        journal.unlink()
    return back, failed
