"""Options that several commands share."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

if TYPE_CHECKING:
    from govor.runs import Workspace


def _language_code(stated: str | None) -> str | None:
    from govor.languages import language_code

    return None if stated is None else language_code(stated)


def _license_stated(stated: str | None) -> str | None:
    from govor.corpus.licenses import license_stated

    return None if stated is None else license_stated(stated)


Out = Annotated[Path | None, typer.Option("--out", help="Where the result goes.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Language = Annotated[
    str | None,
    typer.Option(
        "--language",
        "-l",
        help="Language: a code (he, bs, mg) or a name (Hebrew).",
        show_default=False,
        callback=_language_code,
    ),
]
License = Annotated[
    str | None,
    typer.Option(
        "--license",
        help="Licence of these recordings: 'own' for one's own, an SPDX identifier, custom:NAME.",
        show_default=False,
        callback=_license_stated,
    ),
]
Speaker = Annotated[
    str | None, typer.Option("--speaker", help="The one speaker of these recordings.", show_default=False)
]


_WORKSPACE: ContextVar[Workspace] = ContextVar("workspace")


class Command(typer.core.TyperCommand):
    """A command whose paths are relative to the workspace."""

    def invoke(self, context: Any) -> Any:
        """Run it."""
        place: Workspace = context.find_root().obj
        _WORKSPACE.set(place)
        for name, value in context.params.items():
            if isinstance(value, Path):
                context.params[name] = place.path(value)
            elif isinstance(value, list | tuple):
                context.params[name] = type(value)(place.path(one) if isinstance(one, Path) else one for one in value)
        return super().invoke(context)


class App(typer.Typer):
    """A set of such commands."""

    def command(self, name: str | None = None, **options: Any) -> Any:
        """See `typer.Typer.command`."""
        return super().command(name, cls=Command, **options)


def workspace() -> Workspace:
    """The workspace of the command that is running."""
    return _WORKSPACE.get()


def refuse_given(context: typer.Context, mode: str, *names: str) -> None:
    """Refuse options that were given on the command line and do nothing with `mode`, rather than ignore them."""
    from govor.errors import GovorError

    for parameter in context.command.params:
        if parameter.name in names and was_given(context, parameter.name):
            raise GovorError(f"{parameter.opts[0]} does nothing with {mode}; leave it out.")


def was_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def examples(*lines: str) -> str:
    """The epilog of a command's help."""
    return "**Examples**\n\n" + "\n\n".join(lines)
