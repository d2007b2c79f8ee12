"""What stages that go over rows write: kept rows, rejected rows with their reasons, counts of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from govor.corpus.manifests import Writer, row_writer
from govor.corpus.records import Row
from govor.runs import Workspace


class NothingKept(Exception):
    """Keeps an empty file from appearing."""


class Rejections:
    """Writes rejected rows as they come, counts them by rule and remembers the first message."""

    def __init__(self, write: Callable[[Row], None], workspace: Workspace) -> None:
        self._write, self._workspace = write, workspace
        self.counts: Counter[str] = Counter()
        self.first = ""

    def __call__(self, row: Row) -> None:
        if isinstance(row["message"], str):
            row = {**row, "message": self._workspace.in_words(row["message"])}
        self.first = self.first or str(row["message"] or row["rule"])
        self.counts[row["rule"]] += 1
        self._write(row)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def by_rule(self) -> dict[str, int]:
        """Counts, the largest first."""
        return dict(self.counts.most_common())

    def reasons(self) -> str:
        """Why nothing could be used, in words."""
        if not self.counts:
            return "there were no recordings"
        return f"{counted_words(self.by_rule())} (first: {self.first.rstrip('.')})"


@contextmanager
def outputs(workspace: Workspace, kept: Path, dropped: Path | None = None) -> Iterator[tuple[Writer, Rejections]]:
    """A writer of kept rows and one of rejected rows; both files appear whole, or neither. Where nothing was kept there is
    no file of kept rows, so that the next try is not refused."""
    with row_writer(dropped or dropped_beside(kept)) as write_dropped:
        try:
            with row_writer(kept) as write:
                yield write, Rejections(write_dropped, workspace)
                if not write.count:
                    raise NothingKept
        except NothingKept:
            pass


def dropped_beside(kept: Path) -> Path:
    """Where the rejected rows of a file of rows stand."""
    return kept.with_name(f"{kept.stem}.dropped.jsonl")


def counted_words(counts: dict[str, int]) -> str:
    """`3 silent, 1 too_short`."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())
