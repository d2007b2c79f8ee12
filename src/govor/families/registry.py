"""The families by name. A new one is a folder beside this file and a line in the table."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from govor.errors import GovorError
from govor.families.checking import read_model_config
from govor.families.task import Task
from govor.files import shortened
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
