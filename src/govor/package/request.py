"""What is asked to be packaged, refused where it cannot be had. Nothing here imports torch, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence

from govor.errors import GovorError
from govor.families.registry import family_of, formats, known_formats
from govor.files import refuse_existing
from govor.runs import Run


def check_package(run: Run, wanted: Sequence[str], checkpoint: str | None = None, overwrite: bool = False) -> list[str]:
    """The wanted formats, each once, after all was checked that needs no weights.

    Raises:
        GovorError: there is no such format, or not of this family; the run is packaged already, or not finished; it has no
            such checkpoint.
    """
    known = known_formats(wanted)
    refuse_existing(run.package_file, overwrite, "--overwrite to package it again")
    run.check_finished()
    if checkpoint is not None:
        run.checkpoint(checkpoint)
    family = family_of(run.folder / "base", str(run.folder))
    for name in known:
        families = formats()[name]
        if family not in families:
            raise GovorError(f"The format '{name}' is for {' and '.join(families)} models, and {run.folder} is none.")
    return known
