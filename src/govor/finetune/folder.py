"""A run's folder while a run begins in it: an old one gives way only when the new one has begun."""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from pathlib import Path

from govor import files
from govor.device import pick_precision
from govor.errors import disk_errors
from govor.finetune.begun import holds_run
from govor.progress import SILENT, Progress
from govor.recipe import Recipe
from govor.runs import Run


class Place:
    """A run's folder while a run begins in it: an old run is set aside, and deleted or brought back.

    Only what this very call has set aside comes back by `bring_back`.
    """

    def __init__(self, run: Run, progress: Progress = SILENT) -> None:
        self.run, self._progress = run, progress
        self._aside: Path | None = None
        self._made = False
        self.begun = False

    def open(self, resume: bool) -> None:
        """An empty folder that can be written, or the one to go on in."""
        folder = self.run.folder
        with disk_errors(folder, "the run"):
            if not resume and os.path.lexists(folder):
                # A link to an empty folder, on a larger disk perhaps, is where the run shall lie.
                if folder.is_symlink() and folder.is_dir() and not holds_run(self.run):
                    for path in folder.iterdir():
                        files.remove(path)
                else:
                    aside = files.beside(folder, "aside")
                    folder.rename(aside)
                    self._aside = aside
            self._made = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".writable"
            probe.touch()
            probe.unlink()

    def let_go(self) -> None:
        """The new run has begun."""
        folder, aside = self.run.folder, self._aside
        self._aside, self._made, self.begun = None, False, True
        if aside is None:
            return
        if aside.is_symlink():
            self._progress.note(
                f"{folder} was a link; what it led to stays at {aside.resolve()}, the new run is {folder} itself"
            )
        rest = _throw_away(aside, folder)
        if os.path.lexists(rest):
            self._progress.note(f"warning: not all of the old run could be deleted; what is left of it is {rest}")

    def bring_back(self) -> None:
        """The new run could not begin: the old one stands as before."""
        if self._aside is not None:
            files.remove(self.run.folder)
            self._aside.rename(self.run.folder)
            self._aside = None
        elif self._made:
            files.remove(self.run.folder)
        self._made = False


def recover(run: Run) -> None:
    """What a process that was killed while a run began had set aside comes back, unless the new run had begun.

    To be called by who holds the run's lock.
    """
    folder = run.folder
    with disk_errors(folder, "the run"):
        legacy = folder.with_name(f".{run.name}.old")
        pattern = f".{glob.escape(run.name)}.*.aside"
        left = sorted(folder.parent.glob(pattern)) if folder.parent.is_dir() else []
        left = [path for path in left if files.temporary_name_of(path) == run.name]
        for aside in [*left, *([legacy] if os.path.lexists(legacy) else [])]:
            if holds_run(run) or run.recipe_file.exists():
                _throw_away(aside, folder)
            else:
                if os.path.lexists(folder):
                    _throw_away(folder, folder)
                aside.rename(folder)


def _throw_away(path: Path, run: Path) -> Path:
    """Delete; returns where that is which could not be deleted, under a name that nobody takes for a run."""
    gone = path
    if not path.is_symlink():
        with suppress(OSError):
            gone = path.rename(files.beside(run))
    files.remove(gone)
    return gone


def choose_precision(run: Run, recipe: Recipe, device: str, resume: bool) -> None:
    """Chosen once per run and by one process: all compute alike, and a resumed run as it began or as is asked now."""
    wanted = recipe.finetune.precision
    if resume and run.holds("precision.json") and wanted in ("auto", run.read("precision.json")["value"]):
        return
    choice = pick_precision(wanted, device)
    run.write("precision.json", {"value": choice.value, "reason": choice.reason})
