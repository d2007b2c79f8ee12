"""What a training is asked for, settled and refused before torch is imported, which takes seconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from govor import recipe as recipes
from govor.config import apply_overrides
from govor.corpus.manifests import Manifest
from govor.errors import GovorError
from govor.examples.augment import load_settings
from govor.families.early import check_model
from govor.finetune.begun import may_start_early, with_code
from govor.finetune.track import check_installed
from govor.recipe import Recipe, parse_recipe
from govor.runs import Json, Workspace, read_record

# Whether to go on with a run: not, as it was begun, or with other settings or data, which its record then says.
Resume = bool | Literal["changed"]

_FAST_CLIPS = 8
_FAST_STEPS = 2


@dataclass(frozen=True, slots=True)
class Request:
    """A recipe to train, and how. `record` is the file of the run that it repeats, where it repeats one."""

    recipe: Recipe
    record: Path | None = None
    resume: Resume = False
    overwrite: bool = False
    device: str = "auto"
    fast_dev_run: bool = False


def ask(
    workspace: Workspace,
    name: str,
    overrides: Sequence[str] = (),
    resume: Resume = False,
    overwrite: bool = False,
    device: str = "auto",
    fast_dev_run: bool = False,
) -> Request:
    """What `govor train` is asked for. `name` is a shipped recipe's, a .yaml file, or a run_manifest.json to repeat.

    Raises:
        GovorError: there is no such recipe or record, a setting that it may not have, or what needs no torch to be refused:
            manifests, trackers or a model that are not there, a run that exists, or one to go on with that does not.
    """
    if resume and overwrite:
        raise GovorError("--resume goes on with a run and --overwrite replaces it; give one of the two.")
    if name.endswith(".json"):
        record = workspace.path(name)
        recipe = repeated_recipe(record, overrides)
    else:
        record, recipe = None, load_recipe(workspace, name, overrides)
    if fast_dev_run:
        # Such a run has a name of its own that nobody else uses, so it may be made again and again.
        recipe, overwrite = shortened(recipe), not resume
    request = Request(recipe, record, resume, overwrite, device, fast_dev_run)
    if record is None:
        _check_early(workspace, request)
        check_model(workspace, recipe.base_model, device=device, languages=[recipe.examples.language])
        _check_place(workspace, request)
    return request


def load_recipe(workspace: Workspace, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its shipped name or its file, its language as a code."""
    return with_code(recipes.load(name, overrides, workspace))


def repeated_recipe(file: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a recorded run, under another name and with the number format that was chosen for it.

    Raises:
        GovorError: the file is no record of a run.
    """
    record = read_record(file)
    values: Json = {**record.recipe, "name": f"{record.run}-again"}
    values["finetune"] = {**values["finetune"], "precision": record.precision}
    return parse_recipe(apply_overrides(values, list(overrides)), file.name)


def _check_early(workspace: Workspace, request: Request) -> None:
    """Refuse manifests and trackers that are not there."""
    recipe = request.recipe
    for source in recipe.data.by_name().values():
        for part in ("train", "validation"):
            Manifest(workspace.path(source.split) / f"{part}.jsonl", workspace.root)
    if recipe.examples.augment is not None:
        load_settings(workspace.path(recipe.examples.augment))
    check_installed(recipe.tracking.to)


def _check_place(workspace: Workspace, request: Request) -> None:
    """Refuse a run that exists, or one to go on with that does not."""
    recipe = request.recipe
    if not request.fast_dev_run and not int(os.environ.get("RANK", "0")):
        may_start_early(workspace.run(recipe.family, recipe.name), bool(request.resume), request.overwrite)


def shortened(recipe: Recipe) -> Recipe:
    """The same run on a handful of clips for two steps a phase: does everything work?"""
    phases = tuple(
        phase.model_copy(update={"max_steps": _FAST_STEPS, "warmup_steps": 1}) for phase in recipe.finetune.phases
    )
    finetune = recipe.finetune.model_copy(
        update={
            "max_steps": None if phases else _FAST_STEPS,
            "phases": phases,
            "clips_per_step": max(
                min(_FAST_CLIPS // 2, recipe.finetune.clips_per_step), int(os.environ.get("WORLD_SIZE", "1"))
            ),
            "warmup_steps": 1,
        }
    )
    evaluation = recipe.evaluation.model_copy(
        update={
            "evaluations": 1,
            "loss_clips": _FAST_CLIPS,
            "decode_clips": min(4, recipe.evaluation.decode_clips),
        }
    )
    return recipe.model_copy(
        update={"name": f"{recipe.name[:90]}-fast-dev", "finetune": finetune, "evaluation": evaluation}
    )
