"""How a stage tells whoever called it what it is doing: the terminal, a server's job, or nobody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

Item = TypeVar("Item")
# One row of a table, its values as a person reads them.
TableRow = Mapping[str, object]


class Bar(Protocol):
    """How far one piece of work is."""

    def advance(self, count: int = 1) -> None:
        """That many more are done."""
        ...

    def to(self, completed: int, total: int | None = None, about: str = "") -> None:
        """So many are done now, of so many; `about` stands beside the bar."""
        ...

    def note(self, text: str) -> None:
        """One line while the bar stands."""
        ...


class Progress(Protocol):
    """What a stage says while it works. Results are returned, never said here."""

    def note(self, text: str) -> None:
        """One line."""
        ...

    def table(self, title: str, rows: Sequence[TableRow]) -> None:
        """Rows of the same keys."""
        ...

    def bar(self, title: str, total: int | None) -> AbstractContextManager[Bar]:
        """A piece of work of `total` items, where that is known, while the block runs."""
        ...


class Silent:
    """A progress, and a bar, that nobody watches."""

    def note(self, text: str) -> None:
        """Nothing."""

    def table(self, title: str, rows: Sequence[TableRow]) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def to(self, completed: int, total: int | None = None, about: str = "") -> None:
        """Nothing."""

    def bar(self, title: str, total: int | None) -> AbstractContextManager[Bar]:
        """One that shows nothing."""
        return nullcontext(self)


SILENT = Silent()


def counted(items: Iterable[Item], progress: Progress, title: str, total: int | None) -> Iterator[Item]:
    """Pass items through, with a bar."""
    with progress.bar(title, total) as bar:
        for item in items:
            yield item
            bar.advance()
