"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path | None, typer.Option("--out", help="Where the result goes.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Language = Annotated[
    str | None,
    typer.Option("--language", "-l", help="Language code, for example he, bs, mg.", show_default=False),
]
License = Annotated[
    str | None,
    typer.Option("--license", help="Licence of these recordings; 'own' for one's own.", show_default=False),
]
Speaker = Annotated[
    str | None, typer.Option("--speaker", help="The one speaker of these recordings.", show_default=False)
]
Device = Annotated[str, typer.Option("--device", help="auto, cuda, mps or cpu.")]


def examples(*lines: str) -> str:
    """The epilog of a command's help."""
    return "**Examples**\n\n" + "\n\n".join(lines)
