"""What the terminal shows: progress with time left on stderr, results on stdout."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from govor.jsons import to_json
from govor.progress import TableRow

Item = TypeVar("Item")
_LINES, _LINE_SECONDS = 20, 60.0

err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """A line of progress."""
    err.print(text, markup=False)


def made(path: object, then: str | None = None) -> None:
    """Name what a command made, and the next command."""
    err.print(f"made  {path}", markup=False)
    if then:
        err.print(f"next  {then}", markup=False)


def command(*words: object) -> str:
    """A command that can be pasted into a shell, whatever the names in it are."""
    return shlex.join(str(word) for word in words)


def again(add: Sequence[str] = (), leave_out: Sequence[str] = ()) -> str:
    """The command that is running, to be given again, with some options more and some less."""
    words = [word for word in sys.argv[1:] if word not in leave_out]
    return command("govor", *words, *(word for word in add if word not in words))


def say(text: str = "") -> None:
    """A line of the result, as it is."""
    print(text, flush=True)


def result(text: str, values: Any, as_json: bool) -> None:
    """The result on stdout: for people, or for machines."""
    say(to_json(values, indent=2) if as_json else text)


class Bar:
    """A progress bar with elapsed time and time left."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._first: tuple[float, int] | None = None
        self._share, self._logged = -1, 0.0

    def advance(self, count: int = 1) -> None:
        """That many more are done."""
        self._progress.advance(self._task, count)

    def to(self, completed: int, total: int | None = None, about: str = "") -> None:
        """So many are done now. Where no bar is seen, a log file for instance, a line says so now and then."""
        self._progress.update(self._task, completed=completed, total=total, about=about)
        if total and about and not self._progress.console.is_terminal:
            self._log(completed, total, about)

    def _log(self, completed: int, total: int, about: str) -> None:
        """Twenty times in all, or once a minute."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, completed)
        share = completed * _LINES // total
        if share == self._share and now - self._logged < _LINE_SECONDS and completed < total:
            return
        self._share, self._logged = share, now
        began, at = self._first
        left = (now - began) / (completed - at) * (total - completed) if completed > at else None
        remaining = "" if left is None else f"  left {timedelta(seconds=round(left))}"
        self.note(f"step {completed} of {total}  {about}{remaining}")

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._progress.console.print(text, markup=False)


@contextmanager
def bar(title: str, total: int | None) -> Iterator[Bar]:
    """Show a progress bar while the block runs."""
    columns = (
        TextColumn("{task.description}", markup=False),  # names of files are no markup
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[about]}", markup=False),
    )
    with Progress(*columns, console=err, refresh_per_second=4) as progress:
        yield Bar(progress, progress.add_task(title, total=total, about=""))


def table(title: str, rows: Sequence[TableRow], console: Console = err) -> None:
    """Rows of the same keys, numbers to the right."""
    if not rows:
        return
    # Text, and not str: what comes from outside is no markup.
    shown = Table(title=Text(title), title_justify="left", title_style="", box=None, pad_edge=False)
    for name, value in rows[0].items():
        number = isinstance(value, int | float)
        shown.add_column(Text(name), justify="right" if number else "left", style=None if number else "bold")
    for row in rows:
        shown.add_row(*(Text(_cell(name, value)) for name, value in row.items()))
    console.print(shown)


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        if name in ("share", "asked", "reachable", "realised"):
            return f"{value:.1%}"
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def counted(items: Iterable[Item], title: str, total: int | None) -> Iterator[Item]:
    """Pass items through, with a bar."""
    with bar(title, total) as shown:
        for item in items:
            yield item
            shown.advance()
