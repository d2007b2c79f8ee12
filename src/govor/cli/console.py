"""What the terminal shows: progress with time left on stderr, results on stdout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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

from govor.files import to_json

Item = TypeVar("Item")

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

    def advance(self, count: int = 1) -> None:
        """That many more are done."""
        self._progress.advance(self._task, count)

    def to(self, completed: int, total: int | None = None, about: str = "") -> None:
        """So many are done now."""
        self._progress.update(self._task, completed=completed, total=total, about=about)

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


def table(title: str, rows: Sequence[dict[str, Any]], console: Console = err) -> None:
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


def _cell(name: str, value: Any) -> str:
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
