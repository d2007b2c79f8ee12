"""The families by name. A new one is a folder beside this file and a line in the table."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from govor.errors import GovorError
from govor.families.checking import read_model_config
from govor.families.recogniser import RECOGNITION
from govor.families.task import Task
from govor.files import shortened
from govor.hub import find_here
from govor.jsons import read_json

# Name in recipes and `model_type` in config.json → module and class. Imported when asked for: each pulls its model's code.
_FAMILIES = {
    "whisper": ("govor.families.whisper.model", "Whisper"),
    "qwen3_asr": ("govor.families.qwen3_asr.model", "Qwen3Asr"),
}


def task_of(name: str) -> Task:
    """What a family is trained and judged for; torch is not imported."""
    settings = importlib.import_module(_FAMILIES[name][0].replace(".model", ".settings"))
    task: Task = settings.TASK
    return task


def task_named(name: str | None, where: object) -> Task:
    """The task that a scoring says it is of; speech recognition where it says nothing.

    Raises:
        GovorError: no family is for it; `where` is what said so.
    """
    if name is None:
        return RECOGNITION
    tasks = {task.name: task for task in map(task_of, _FAMILIES)}
    if name not in tasks:
        raise GovorError(f"{where} is of the task '{shortened(name)}'; govor knows {' and '.join(tasks)}.")
    return tasks[name]


def family_class(name: str) -> Any:
    """The class of a family."""
    module, attribute = _FAMILIES[name]
    return getattr(importlib.import_module(module), attribute)


def family_of(folder: Path, source: str, weights: Sequence[Path] | None = None) -> str:
    """Which family a model in the `transformers` layout belongs to, after its files were judged.

    Args:
        source: how the user called it.
        weights: the safetensors, where they do not lie in the folder.

    Raises:
        GovorError: to none that govor knows, or a file of the folder is damaged.
    """
    file = folder / "config.json"
    if not file.exists():
        raise GovorError(f"{source}: {folder} holds no config.json, so it is no model in the transformers layout.")
    kind = read_json(file).get("model_type")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise GovorError(f"{source} is a '{shortened(kind)}' model; govor knows {' and '.join(_FAMILIES)}.")
    read_model_config(folder, weights)
    return kind


def family_here(source: str) -> str | None:
    """Which family a model on this machine belongs to, without opening it; None where that is not known before.

    Raises:
        GovorError: its files are damaged, or of no family that govor knows.
    """
    found = find_here(source)
    if found is None or found.format != "hf":
        return None
    runs = [place for place in (found.path, found.path.parent.parent) if (place / "base").is_dir()]
    unpackaged = runs and not (found.path / "package.json").exists()
    return family_of(runs[0] / "base" if unpackaged else found.path, source)
