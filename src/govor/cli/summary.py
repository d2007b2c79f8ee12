"""What commands that go over rows share: the summary at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import typer

MANIFESTS = Path("manifests")


def lines(summary: Mapping[str, object]) -> str:
    """A summary, one name and value a line."""
    from govor.corpus.outputs import counted_words

    def shown(value: object) -> str:
        return (counted_words(value) or "none") if isinstance(value, dict) else str(value)

    return "\n".join(f"{name.replace('_', ' '):<18}{shown(value)}" for name, value in summary.items())


def exit_if(failed: bool) -> None:
    """Exit code 1: done, but some items failed or a gate is red."""
    if failed:
        raise typer.Exit(1)
