"""What commands that go over rows share: streamed results, counts of what was turned away, the summary at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from govor.cli import console

if TYPE_CHECKING:
    from govor.runs import Json

MANIFESTS = Path("manifests")


class NothingKept(Exception):
    """Keeps an empty file from appearing."""


class Rejections:
    """Writes rejected rows as they come, counts them by rule and remembers the first message."""

    def __init__(self, write: Any) -> None:
        self._write = write
        self.counts: Counter[str] = Counter()
        self.first = ""

    def __call__(self, row: dict[str, Any]) -> None:
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
def outputs(kept: Path, dropped: Path) -> Iterator[tuple[Any, Rejections]]:
    """A writer of kept rows and one of rejected rows; both files appear whole, or neither. Where nothing was kept there is
    no file of kept rows, so that the next try is not refused."""
    from govor.corpus.manifests import row_writer

    with row_writer(dropped) as write_dropped:
        try:
            with row_writer(kept) as write:
                yield write, Rejections(write_dropped)
                if not write.count:
                    raise NothingKept
        except NothingKept:
            pass


def lines(summary: dict[str, Any]) -> str:
    """A summary, one name and value a line."""

    def shown(value: Any) -> str:
        return (counted_words(value) or "none") if isinstance(value, dict) else str(value)

    return "\n".join(f"{name.replace('_', ' '):<18}{shown(value)}" for name, value in summary.items())


def counted_words(counts: dict[str, int]) -> str:
    """`3 silent, 1 too_short`."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def tell_failed(summaries: Sequence[Json]) -> bool:
    """Name the clips that count as empty because they could not be read, or got no answer; whether there are any."""
    failed = {item["id"]: item["reason"] for summary in summaries for item in summary.get("failed", [])}
    for name, reason in list(failed.items())[:10]:
        console.note(f"failed  {name}: {reason}")
    if failed:
        console.note(f"{len(failed)} clips could not be scored and count as empty; mend them, then --resume")
    return bool(failed)


def exit_if(failed: bool) -> None:
    """Exit code 1: done, but some items failed or a gate is red."""
    if failed:
        raise typer.Exit(1)
