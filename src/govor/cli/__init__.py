"""The command line: one file per stage. Heavy imports happen inside the commands, so `--help` is quick."""

from __future__ import annotations

import io
import os
import signal
import sys
import unicodedata
from pathlib import Path
from typing import Annotated

import typer

from govor import __version__
from govor.cli import corpus, evaluate, finetune, measure, package, quickstart, recipe, shape, sources, timing
from govor.cli.options import App
from govor.errors import GovorError
from govor.files import shortened

# Not printable to Python, and what scripts are written with: joiners, marks of direction, letters of private use.
_HARMLESS = ("Cf", "Co", "Cn")

app = App(
    help="From a folder of recordings to a speech recogniser that is measurably better.\n\n"
    "Start with:  govor quickstart\n\nor with your own x.wav + x.txt:  govor quickstart --audio DIR --language he",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"govor {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    workspace: Annotated[
        Path,
        typer.Option("--workspace", "-w", help="Folder that manifests/, models/ and reports/ are relative to."),
    ] = Path(),
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that come before the command."""
    from govor.runs import Workspace

    try:
        os.scandir(workspace).close()
    except OSError as error:
        raise GovorError(f"The workspace {workspace} cannot be entered: {error.strerror}; create it first.") from None
    context.obj = Workspace(workspace)


for stage in (quickstart, corpus, sources, shape, recipe, finetune, evaluate, measure, timing, package):
    stage.register(app)


def main() -> None:
    """Entry point of the `govor` command."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _say_when_interrupted()
    try:
        app()
    except GovorError as error:
        print(f"govor: {_printable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        # A path that cannot be used (too long, not permitted, gone meanwhile) is nothing that we did wrong.
        place = _printable(os.fsdecode(error.filename))
        print(f"govor: {shortened(place)} cannot be used: {error.strerror}; give another path.", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if not str(error).startswith("Symlink loop"):  # what pathlib says up to Python 3.12
            raise
        print(f"govor: {_printable(str(error))}: that link leads back to itself; give another path.", file=sys.stderr)
        sys.exit(2)


def _printable(text: str) -> str:
    """Text on one line, without what steers a terminal: names of files and clips stand in messages."""
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else _visible(c) for c in text)


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    return character if unicodedata.category(character) in _HARMLESS else ascii(character)[1:-1]


def _say_when_interrupted() -> None:
    """On Ctrl-C, what is kept. Not by KeyboardInterrupt: the library of commands takes it, and says "Aborted!"."""
    here = os.getpid()

    def interrupted(number: int, _: object) -> None:
        if os.getpid() != here:  # a worker, whose parent says it
            os._exit(128 + number)
        signal.signal(number, signal.SIG_DFL)  # again: at once
        print("govor: interrupted; what was finished is kept.", file=sys.stderr)
        sys.exit(128 + number)

    signal.signal(signal.SIGINT, interrupted)
