"""Settings that come from outside: typed, frozen, nothing unknown accepted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from govor.errors import GovorError, nearest


class Settings(BaseModel):
    """Base of every settings class: immutable, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        # Python counts True as 1; a learning rate of "yes" is a slip and not 1.0.
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("a number or text was wanted")
        return value


Model = TypeVar("Model", bound=Settings)


def parse(cls: type[Model], values: dict[str, Any], where: str) -> Model:
    """Build settings from plain values; every problem becomes one sentence that names `where`."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise GovorError(f"{where}: {_sentence(cls, error)}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GovorError(f"{path} was not found.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise GovorError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    except OSError as error:
        raise GovorError(f"{path} cannot be read: {error.strerror}.") from None
    if not isinstance(loaded, dict):
        raise GovorError(f"{path}: settings by name were wanted, found {type(loaded).__name__}.")
    return loaded


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, mappings merged, everything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def apply_overrides(values: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """`--set a.b=1` on top of `values`; the right-hand side is YAML, so 1e-5, true and [a, b] have types."""
    for override in overrides:
        name, sign, text = override.partition("=")
        if not sign or not name:
            raise GovorError(f"--set {override}: NAME=VALUE was wanted, for example --set finetune.lr=1e-5.")
        value = _typed(text)
        for part in reversed(name.split(".")):
            value = {part: value}
        values = merge(values, value)
    return values


def _typed(text: str) -> Any:
    if re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", text):
        return float(text)  # YAML 1.1 reads 1e-5 as text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def _sentence(cls: type[Settings], error: ValidationError) -> str:
    first = error.errors()[0]
    # Where several types are allowed, pydantic adds the name of the type it tried.
    tried = re.compile(r"constrained-\w+|literal\[.*")
    place = ".".join(str(part) for part in first["loc"] if not tried.fullmatch(str(part)))
    if first["type"] == "extra_forbidden":
        return f"unknown setting '{place}'; {nearest(str(first['loc'][-1]), _names_at(cls, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"the setting '{place}' is missing."
    message = first["msg"].removeprefix("Value error, ")
    found = "" if isinstance(first.get("input"), dict) else f", found {first.get('input')!r}"
    return f"{place + ': ' if place else ''}{message[0].lower() + message[1:]}{found}."


def _names_at(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The settings' names at a place, also inside of mappings and lists of settings."""
    model: type[BaseModel] | None = cls
    inside = False  # the next part is a key of a mapping or a place in a list
    for part in location:
        if model is None:
            return []
        if inside:
            inside = False
            continue
        annotation = model.model_fields[str(part)].annotation
        inside = get_origin(annotation) in (dict, tuple, list)
        kinds = [annotation, *get_args(annotation)]
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return list(model.model_fields) if model else []
