"""The families by name. A new one is a folder beside this file and a line in the table."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from govor.errors import GovorError
from govor.files import read_json

# Name in recipes and `model_type` in config.json → module and class. Imported when asked for: each pulls its model's code.
_FAMILIES = {
    "whisper": ("govor.families.whisper.model", "Whisper"),
    "qwen3_asr": ("govor.families.qwen3_asr.model", "Qwen3Asr"),
}


def family_class(name: str) -> Any:
    """The class of a family."""
    module, attribute = _FAMILIES[name]
    return getattr(importlib.import_module(module), attribute)


def family_of(folder: Path, source: str) -> str:
    """Which family a model in the `transformers` layout belongs to.

    Raises:
        GovorError: to none that govor knows; `source` is how the user called it.
    """
    file = folder / "config.json"
    if not file.exists():
        raise GovorError(f"{source}: {folder} holds no config.json, so it is no model in the transformers layout.")
    kind = read_json(file).get("model_type")
    if kind not in _FAMILIES:
        raise GovorError(f"{source} is a '{kind}' model; govor knows {' and '.join(_FAMILIES)}.")
    return str(kind)
