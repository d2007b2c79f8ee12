"""What a run's folder holds, before torch is imported: whether a run may begin or go on there."""

from __future__ import annotations

import glob
from typing import Literal

from govor.config import read_yaml
from govor.errors import GovorError, disk_errors
from govor.files import refuse_existing
from govor.finetune.data import fingerprints
from govor.languages import language_code
from govor.recipe import Recipe, parse_recipe
from govor.runs import Run, Workspace

Standing = Literal["none", "other", "begun", "finished"]


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


def recipe_of(run: Run) -> Recipe:
    """What a run was begun with, read as a recipe, so that a setting that did not exist then has its default."""
    return parse_recipe(read_yaml(run.recipe_file), str(run.recipe_file))


def may_start(run: Run, resume: bool, overwrite: bool) -> None:
    """Refuse before anything is changed. A folder in which no checkpoint was ever finished is no run."""
    with disk_errors(run.folder, "the run"):
        begun = holds_run(run)
    if resume:
        if run.last_checkpoint() is None:
            raise GovorError(f"{run.folder} holds no checkpoint to resume from; train without --resume.")
    elif begun:
        remedy = "--resume to go on, --overwrite to replace it, or another name (--set name=…)"
        refuse_existing(run.folder, overwrite, remedy)


def may_start_early(run: Run, resume: bool, overwrite: bool) -> None:
    """The same before torch is imported, unless somebody is at the run or was killed there: then its lock decides."""
    if not any(run.folder.parent.glob(f".{glob.escape(run.name)}.*")):
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


def holds_run(run: Run) -> bool:
    """Whether anything would be missed: a checkpoint, a package, or a file that is none of ours."""
    if not run.folder.is_dir():
        return run.folder.exists()
    return run.last_checkpoint() is not None or any(
        path.name not in _OF_A_TRY and not path.name.startswith(".") for path in run.folder.iterdir()
    )


def standing(workspace: Workspace, recipe: Recipe) -> Standing:
    """How far the run of a recipe's name has come, and whether it was made of the same recipe and data."""
    run = workspace.run(recipe.family, recipe.name)
    if not run.finished and run.last_checkpoint() is None:
        return "none"
    if not run.recipe_file.exists() or read_yaml(run.recipe_file) != recipe.model_dump(mode="json"):
        return "other"
    if not run.finished:
        return "begun"
    return "finished" if run.record().data == fingerprints(workspace, recipe) else "other"
