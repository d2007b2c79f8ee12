"""A run's folder: whether a run may begin or go on in it, and an old one that gives way only when a new one has begun."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from govor import files
from govor.device import pick_precision
from govor.errors import GovorError, disk_errors
from govor.files import read_json, refuse_existing, sha256_of_lines, write_json
from govor.finetune import checkpoints
from govor.finetune.survey import augment_sha256
from govor.recipe import Recipe


def run_folder(recipe: Recipe) -> Path:
    """Where a run lives in the workspace."""
    return Path("models") / recipe.family / recipe.name


def finished_steps(run: Path) -> Path | None:
    """The last whole checkpoint."""
    found = checkpoints.finished(run / "checkpoints")
    return found[-1] if found else None


def may_start(run: Path, resume: bool, overwrite: bool) -> None:
    """Refuse before anything is changed. A folder in which no checkpoint was ever finished is no run."""
    with disk_errors(run, "the run"):
        begun = _holds_run(run)
    if resume:
        if finished_steps(run) is None:
            raise GovorError(f"{run} holds no checkpoint to resume from; train without --resume.")
    elif begun:
        refuse_existing(run, overwrite, "--resume to go on, --overwrite to replace it, or another name (--set name=…)")


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


def _holds_run(run: Path) -> bool:
    """Whether anything would be missed: a checkpoint, a package, or a file that is none of ours."""
    if not run.is_dir():
        return run.exists()
    return finished_steps(run) is not None or any(
        path.name not in _OF_A_TRY and not path.name.startswith(".") for path in run.iterdir()
    )


class Place:
    """A run's folder while a run begins in it: an old run is set aside, and deleted or brought back.

    Only what this very call has set aside comes back by `bring_back`.
    """

    def __init__(self, run: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.run, self._say = run, say
        self._aside: Path | None = None
        self._made = False
        self.begun = False

    def open(self, resume: bool) -> None:
        """An empty folder that can be written, or the one to go on in."""
        run = self.run
        with disk_errors(run, "the run"):
            if not resume and os.path.lexists(run):
                # A link to an empty folder, on a larger disk perhaps, is where the run shall lie.
                if run.is_symlink() and run.is_dir() and not _holds_run(run):
                    for path in run.iterdir():
                        files.remove(path)
                else:
                    aside = files.beside(run, "aside")
                    run.rename(aside)
                    self._aside = aside
            self._made = not run.exists()
            run.mkdir(parents=True, exist_ok=True)
            probe = run / ".writable"
            probe.touch()
            probe.unlink()

    def let_go(self) -> None:
        """The new run has begun."""
        aside, self._aside, self._made, self.begun = self._aside, None, False, True
        if aside is None:
            return
        if aside.is_symlink():
            self._say(
                f"{self.run} was a link; what it led to stays at {aside.resolve()}, the new run is {self.run} itself"
            )
        rest = _throw_away(aside, self.run)
        if os.path.lexists(rest):
            self._say(f"warning: not all of the old run could be deleted; what is left of it is {rest}")

    def bring_back(self) -> None:
        """The new run could not begin: the old one stands as before."""
        if self._aside is not None:
            files.remove(self.run)
            self._aside.rename(self.run)
            self._aside = None
        elif self._made:
            files.remove(self.run)
        self._made = False


def recover(run: Path) -> None:
    """What a process that was killed while a run began had set aside comes back, unless the new run had begun.

    To be called by who holds the run's lock.
    """
    with disk_errors(run, "the run"):
        legacy = run.with_name(f".{run.name}.old")
        left = sorted(run.parent.glob(f".{glob.escape(run.name)}.*.aside")) if run.parent.is_dir() else []
        left = [path for path in left if files.temporary_name_of(path) == run.name]
        for aside in [*left, *([legacy] if os.path.lexists(legacy) else [])]:
            if _holds_run(run) or (run / "recipe.yaml").exists():
                _throw_away(aside, run)
            else:
                if os.path.lexists(run):
                    _throw_away(run, run)
                aside.rename(run)


def _throw_away(path: Path, run: Path) -> Path:
    """Delete; returns where that is which could not be deleted, under a name that nobody takes for a run."""
    gone = path
    if not path.is_symlink():
        with suppress(OSError):
            gone = path.rename(files.beside(run))
    files.remove(gone)
    return gone


def data_sha256(recipe: Recipe, data: dict[str, Any]) -> str:
    """One hash over a run's manifests and augmentation."""
    augment = augment_sha256(recipe)
    return sha256_of_lines([data[part]["sha256"] for part in sorted(data)] + ([augment] if augment else []))


def choose_precision(run: Path, recipe: Recipe, device: str, resume: bool) -> None:
    """Chosen once per run and by one process: all compute alike, and a resumed run as it began or as is asked now."""
    file = run / "precision.json"
    asked = recipe.finetune.precision
    if resume and file.exists() and asked in ("auto", read_json(file)["value"]):
        return
    choice = pick_precision(asked, device)
    write_json(file, {"value": choice.value, "reason": choice.reason})
