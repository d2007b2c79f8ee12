"""What commands that go over rows share: the summary at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from govor.cli import console

if TYPE_CHECKING:
    from govor.runs import Json

MANIFESTS = Path("manifests")


def lines(summary: Mapping[str, object]) -> str:
    """A summary, one name and value a line."""
    from govor.corpus.outputs import counted_words

    def shown(value: object) -> str:
        return (counted_words(value) or "none") if isinstance(value, dict) else str(value)

    return "\n".join(f"{name.replace('_', ' '):<18}{shown(value)}" for name, value in summary.items())


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
