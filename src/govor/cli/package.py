"""package."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from govor.cli import console
from govor.cli.options import Json, Overwrite, examples, workspace


def register(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command(
        epilog=examples("govor package mine-1", "govor package mine-1 --format hf,ct2 --ct2-quantization int8")
    )(package)


def package(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or folder.")],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help="hf, ct2 (Whisper), thinker (Qwen3-ASR for vLLM), with commas.", show_default="hf"
        ),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Another checkpoint than the best, by name.", show_default=False)
    ] = None,
    ct2_quantization: Annotated[
        Literal["float32", "float16", "int8"], typer.Option(help="Number format of the ct2 files.")
    ] = "float32",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a run's best checkpoint a folder that transformers, CTranslate2 and faster-whisper load, proven equal."""
    from govor.families.registry import transcribes
    from govor.package.request import check_package

    trained = workspace().find_run(run)
    wanted = check_package(trained, format_.split(",") if format_ is not None else [], checkpoint, overwrite)
    from govor.package.build import package as build  # only now: it imports torch

    result = build(trained, wanted, checkpoint, ct2_quantization, overwrite)
    lines = [
        f"{name}: {', '.join(f'{key} {value}' for key, value in check.items())}"
        for name, check in result.checks.items()
    ]
    console.result("\n".join(lines), result.as_json(), as_json)
    folder = workspace().as_given(trained.folder)
    then = (
        f"transcribe {folder} AUDIO"
        if transcribes(trained.record().family)
        else f"evaluate {folder} --manifest TEST.jsonl"
    )
    console.made(f"{folder} ({result.checkpoint}), {result.processor}", f"govor {then}")
