"""A run's folder while a run begins in it: an old one gives way only when the new one has begun."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from govor import files
from govor.device import pick_precision
from govor.errors import disk_errors
from govor.files import sha256_of_lines
from govor.finetune.begun import holds_run
from govor.finetune.survey import augment_sha256
from govor.jsons import read_json, write_json
from govor.recipe import Recipe


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
                if run.is_symlink() and run.is_dir() and not holds_run(run):
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
            if holds_run(run) or (run / "recipe.yaml").exists():
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
