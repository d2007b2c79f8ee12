"""Rows of a scoring that is not finished: kept beside its place, so that a stopped run goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from govor.errors import GovorError
from govor.families.task import Row
from govor.files import atomic_file
from govor.jsons import read_log, to_json


class Partial:
    """`<target>.part.jsonl`: a first line that says what is being scored, then a row per finished clip.

    A scoring of something else found there is refused, and so is any without `resume`, unless `overwrite`.
    """

    def __init__(self, target: Path, about: Row, resume: bool, overwrite: bool) -> None:
        self.path = target.with_name(target.name + ".part.jsonl")
        self.rows: list[Row] = []
        self.seconds = 0.0
        if self.path.exists() and not overwrite:
            if not resume and _read(self.path)[1]:
                raise GovorError(
                    f"{self.path} holds an unfinished scoring; give --resume to go on with it, or --overwrite to begin again."
                )
            head, self.rows = _read(self.path)
            if self.rows and head != about:
                changed = sorted(key for key in {*about, *head} if about.get(key) != head.get(key))
                raise GovorError(
                    f"{self.path} is of another scoring ({', '.join(changed)} differ); give --overwrite to begin again."
                )
            self.seconds = sum(row.get("took_seconds", 0.0) for row in self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # What was cut off in the middle of a line goes.
        with atomic_file(self.path) as file:
            for row in (about, *self.rows):
                file.write(to_json(row) + "\n")

    def add(self, rows: Sequence[Row]) -> None:
        """More finished rows."""
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            for row in rows:
                file.write(to_json(row) + "\n")
        self.rows += rows

    def finished(self) -> None:
        """The result is written; the rest can go."""
        self.path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[Row, list[Row]]:
    rows = read_log(path)
    return (rows[0], rows[1:]) if rows else ({}, [])
