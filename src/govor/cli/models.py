"""How commands name and open a model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from govor.cli import console
from govor.cli.options import workspace

if TYPE_CHECKING:  # a command's help must not wait for torch
    from govor.families.opening import Opened

EngineName = str  # any that the registry knows
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
Engine = Annotated[EngineName, typer.Option(help="torch, or ct2: the CTranslate2 files of a package.")]
Precision = Annotated[PrecisionName, typer.Option(help="auto: bf16 where it measures faster here.")]
Device = Annotated[str, typer.Option("--device", help="auto, cuda, mps or cpu.")]
Context = Annotated[
    Literal["padded", "speech", "cached"] | None,
    typer.Option(
        help="speech for models adapted to it, cached (silence encoded once) or padded for others; by the model's record.",
        show_default=False,
    ),
]
Model = Annotated[str, typer.Option("--model", "-m", help="A package, run, ggml file or Hub id.")]


def check_model(
    model: str, engine: EngineName = "torch", device: str = "auto", languages: Iterable[str | None] = ()
) -> None:
    """Refuse a model before torch is imported; see `families.early`."""
    from govor.families.early import check_model as check

    check(workspace(), model, engine, device, languages)


def check_manifest(path: Path) -> None:
    """Refuse a manifest that is not there, before anything heavy is imported."""
    from govor.corpus.manifests import Manifest

    Manifest(path)


def open_model(
    model: str, engine: EngineName = "torch", precision: PrecisionName = "auto", device: str = "auto"
) -> Opened:
    """The model on its device, in its number format."""
    from govor.device import pick_device, pick_precision, torch_dtype
    from govor.families.opening import open_model as open_source

    chosen, place = pick_device(device).value, workspace()
    dtype = torch_dtype(pick_precision(precision, chosen).value)
    return open_source(place.model(model), dtype, chosen, engine, console.note, place)


def find_run(name: str) -> Path:
    """A run's folder by path or by name below models/."""
    return workspace().find_run(name).folder
