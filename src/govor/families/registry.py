"""The families by name. A new one is a folder beside this file and a line in the table.

Its folder holds `settings.py` with `SETTINGS`, which needs no torch, and `model.py` with `FAMILY`, the class.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from govor.errors import GovorError, nearest
from govor.families.checking import read_model_config
from govor.families.recogniser import RECOGNITION
from govor.families.settings import FamilySettings
from govor.families.task import Task
from govor.files import exists, shortened
from govor.hub import PackagedModel, find_here
from govor.jsons import read_json
from govor.runs import Run

if TYPE_CHECKING:
    from govor.families.base import Family, Recogniser

# Name in recipes and `model_type` in config.json → package. The first is the one of recipes that name none.
_FAMILIES = {
    "whisper": "govor.families.whisper",
    "qwen3_asr": "govor.families.qwen3_asr",
}


def register(name: str, package: str) -> None:
    """Add a family that lies elsewhere, by the name of its package."""
    _FAMILIES[name] = package


def family_names() -> tuple[str, ...]:
    """Every family that govor knows."""
    return tuple(_FAMILIES)


def settings_of(name: str) -> FamilySettings:
    """What is known of a family without loading it; torch is not imported."""
    settings: FamilySettings = importlib.import_module(f"{_FAMILIES[name]}.settings").SETTINGS
    return settings


def task_of(name: str) -> Task:
    """What a family is trained and judged for; torch is not imported."""
    return settings_of(name).task


def transcribes(name: str) -> bool:
    """Whether the models of a family write down what is said: what suites, transcripts and word times are of."""
    return task_of(name) is RECOGNITION


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


def family_class(name: str) -> type[Family]:
    """The class of a family; its model's code is imported, and torch."""
    family: type[Family] = importlib.import_module(f"{_FAMILIES[name]}.model").FAMILY
    return family


def formats() -> dict[str, list[str]]:
    """What models can be packaged in, and which families can."""
    families: dict[str, list[str]] = {}
    for name in _FAMILIES:
        for kind in settings_of(name).formats:
            families.setdefault(kind, []).append(name)
    return families


def known_formats(names: Sequence[str]) -> list[str]:
    """Formats by name, each once, in our order.

    Raises:
        GovorError: there is no such format.
    """
    known = formats()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise GovorError(f"There is no format '{unknown[0]}'; {nearest(unknown[0], known)}")
    return [name for name in known if name in names]


def engine(kind: str) -> tuple[str, Callable[[Path], Recogniser]]:
    """The family whose exports an engine runs, and what opens one.

    Raises:
        GovorError: no family has that engine.
    """
    for name in _FAMILIES:
        opens = settings_of(name).engines.get(kind)
        if opens is not None:
            return name, opens
    raise GovorError(f"There is no engine '{kind}'; {nearest(kind, ['torch', *engines()])}")


def check_engine(kind: str, source: str) -> None:
    """Refuse an engine that runs no exports of the family that a run or package says it is of.

    Raises:
        GovorError: it is another family's, or no family has it.
    """
    if kind == "torch":
        return
    name, _ = engine(kind)
    for folder in (Path(source), Path(source) / "base"):
        family = _stated_family(folder)
        if family is not None and family != name:
            raise GovorError(
                f"The engine '{kind}' is for {name} models, and {source} is a {family} one; take the engine torch."
            )


def _stated_family(folder: Path) -> str | None:
    """Of a model in the `transformers` layout; what is damaged there says nothing."""
    with suppress(GovorError):
        kind = read_json(folder / "config.json").get("model_type") if exists(folder / "config.json") else None
        return kind if isinstance(kind, str) and kind in _FAMILIES else None
    return None


def engines() -> list[str]:
    """What runs exported models, beside torch."""
    return [kind for name in _FAMILIES for kind in settings_of(name).engines]


def importer(kind: str) -> Callable[[Path], Family]:
    """What makes a model of weights in another format.

    Raises:
        GovorError: no family reads that format.
    """
    for name in _FAMILIES:
        imports = settings_of(name).importers.get(kind)
        if imports is not None:
            return imports
    raise GovorError(f"No model can be made of weights in the format '{kind}'; take its version in safetensors.")


def packaged(source: str) -> PackagedModel | None:
    """The package that carries the weights that the Hub calls so."""
    every = (settings_of(name).packages.get(source) for name in _FAMILIES)
    return next((package for package in every if package is not None), None)


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
    read_model_config(folder, settings_of(kind), weights)
    return kind


def family_here(source: str) -> str | None:
    """Which family a model on this machine belongs to, without opening it; None where that is not known before.

    Raises:
        GovorError: its files are damaged, or of no family that govor knows.
    """
    model = find_here(source)
    if model is None or model.format != "hf":
        return None
    run = next(
        (run for run in (Run(model.path), Run(model.path.parent.parent)) if (run.folder / "base").is_dir()), None
    )
    unpackaged = run is not None and not Run(model.path).packaged
    return family_of(run.folder / "base" if run is not None and unpackaged else model.path, source)
