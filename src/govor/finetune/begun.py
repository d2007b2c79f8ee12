"""What a run's folder holds, before torch is imported: whether a run may begin or go on there."""

from __future__ import annotations

import glob
from pathlib import Path

from govor.errors import GovorError, disk_errors
from govor.files import refuse_existing
from govor.languages import language_code
from govor.recipe import Recipe


def finished(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    whole = (path for path in folder.glob("step-*") if (path / "state.json").exists())
    return sorted(whole, key=lambda path: int(path.name.removeprefix("step-")))


def with_code(recipe: Recipe) -> Recipe:
    """The recipe with its language as a code, however it was stated.

    Raises:
        GovorError: no language is called that.
    """
    stated = recipe.examples.language
    if stated is None:
        return recipe
    examples = recipe.examples.model_copy(update={"language": language_code(stated)})
    return recipe.model_copy(update={"examples": examples})


def run_folder(recipe: Recipe) -> Path:
    """Where a run lives in the workspace."""
    return Path("models") / recipe.family / recipe.name


def finished_steps(run: Path) -> Path | None:
    """The last whole checkpoint."""
    found = finished(run / "checkpoints")
    return found[-1] if found else None


def may_start(run: Path, resume: bool, overwrite: bool) -> None:
    """Refuse before anything is changed. A folder in which no checkpoint was ever finished is no run."""
    with disk_errors(run, "the run"):
        begun = holds_run(run)
    if resume:
        if finished_steps(run) is None:
            raise GovorError(f"{run} holds no checkpoint to resume from; train without --resume.")
    elif begun:
        refuse_existing(run, overwrite, "--resume to go on, --overwrite to replace it, or another name (--set name=…)")


def may_start_early(run: Path, resume: bool, overwrite: bool) -> None:
    """The same before torch is imported, unless somebody is at the run or was killed there: then its lock decides."""
    if not any(run.parent.glob(f".{glob.escape(run.name)}.*")):
        may_start(run, resume, overwrite)


# What a try leaves that never got to its first checkpoint.
_OF_A_TRY = {
    "base",
    "base_model.json",
    "checkpoints",
    "dropped.jsonl",
    "metrics.jsonl",
    "phases.json",
    "precision.json",
}
_OF_A_TRY |= {"recipe.yaml", "resumed.jsonl", "tracking"}


def holds_run(run: Path) -> bool:
    """Whether anything would be missed: a checkpoint, a package, or a file that is none of ours."""
    if not run.is_dir():
        return run.exists()
    return finished_steps(run) is not None or any(
        path.name not in _OF_A_TRY and not path.name.startswith(".") for path in run.iterdir()
    )
