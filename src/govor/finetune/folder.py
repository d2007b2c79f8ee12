"""A run's folder: whether a run may begin or go on in it, and an old one that gives way only when a new one has begun."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from govor.config import read_yaml
from govor.device import pick_precision
from govor.errors import GovorError, disk_errors
from govor.files import read_json, refuse_existing, sha256_of_lines, write_json
from govor.finetune import checkpoints
from govor.finetune.checkpoints import recipe_difference
from govor.finetune.survey import augment_sha256
from govor.recipe import Recipe


def run_folder(recipe: Recipe) -> Path:
    """Where a run lives in the workspace."""
    return Path("models") / recipe.family / recipe.name


def finished_steps(run: Path) -> Path | None:
    """The last whole checkpoint."""
    found = checkpoints.finished(run / "checkpoints")
    return found[-1] if found else None


def may_start(run: Path, recipe: Recipe, data: dict[str, Any], resume: bool, overwrite: bool) -> None:
    """Refuse before anything is changed. A folder in which no checkpoint was ever finished is no run."""
    with disk_errors(run, "the run"):
        begun = run.exists() and (finished_steps(run) is not None or (run / "run_manifest.json").exists())
    if resume:
        if finished_steps(run) is None:
            raise GovorError(f"{run} holds no checkpoint to resume from; train without --resume.")
        _same_run(run, recipe, data)
        if (run / "run_manifest.json").exists():
            raise GovorError(f"{run} is finished; evaluate it, or train on under another name.")
    elif begun:
        refuse_existing(run, overwrite, "--resume to go on, --overwrite to replace it, or another name (--set name=…)")


def open_folder(run: Path, resume: bool) -> None:
    """An empty folder that can be written, or the one to go on in. An old run is set aside until the new one begins."""
    with disk_errors(run, "the run"):
        if run.is_dir() and not resume:
            aside = _aside(run)
            if aside.exists() and not (run / "recipe.yaml").exists():
                shutil.rmtree(run)  # of a try that never began; what it had set aside is the old run
            else:
                shutil.rmtree(aside, ignore_errors=True)
                run.rename(aside)
        run.mkdir(parents=True, exist_ok=True)
        probe = run / ".writable"
        probe.touch()
        probe.unlink()


def _aside(run: Path) -> Path:
    return run.with_name(f".{run.name}.old")


def let_go(run: Path) -> None:
    """The new run has begun."""
    shutil.rmtree(_aside(run), ignore_errors=True)


def bring_back(run: Path) -> None:
    """The new run could not begin: the old one stands as before."""
    if _aside(run).exists():
        shutil.rmtree(run, ignore_errors=True)
        _aside(run).rename(run)


def _same_run(run: Path, recipe: Recipe, data: dict[str, Any]) -> None:
    old = read_yaml(run / "recipe.yaml")
    changed = recipe_difference(old, recipe.model_dump(mode="json"))
    if changed:
        raise GovorError(
            f"{run} was begun with another recipe ({'; '.join(changed)}); resume with the same, or give a new name."
        )
    start = finished_steps(run)
    assert start is not None
    if read_json(start / "state.json")["data_sha256"] != data_sha256(recipe, data):
        where = ", ".join(source.split for source in recipe.data.by_name().values())
        augment = f" or the settings in {recipe.examples.augment}" if recipe.examples.augment else ""
        raise GovorError(
            f"The manifests of {where}{augment} have changed since {run} was begun; train anew under another name."
        )


def data_sha256(recipe: Recipe, data: dict[str, Any]) -> str:
    """One hash over a run's manifests and augmentation."""
    augment = augment_sha256(recipe)
    return sha256_of_lines([data[part]["sha256"] for part in sorted(data)] + ([augment] if augment else []))


def choose_precision(run: Path, recipe: Recipe, device: str, resume: bool) -> None:
    """Chosen once per run and by one process: all compute alike, and a resumed run as it began."""
    file = run / "precision.json"
    if not (resume and file.exists()):
        choice = pick_precision(recipe.finetune.precision, device)
        write_json(file, {"value": choice.value, "reason": choice.reason})
