"""Settings that come from outside: typed, frozen, nothing unknown accepted."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from govor.errors import GovorError, nearest
from govor.files import read_text, shortened
from govor.jsons import MOST_DEPTH

MOST_YAML_BYTES = 1 << 20
# Values of one file, with every alias counted as what it stands for.
MOST_NODES = 100_000


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


def no_truth(value: Any) -> Any:
    """Python counts True as 1; inside of mappings nothing else would notice."""
    if isinstance(value, bool):
        raise ValueError("a number was wanted")
    return value


Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(no_truth)]


Model = TypeVar("Model", bound=Settings)


def parse(cls: type[Model], values: dict[str, Any], where: str) -> Model:
    """Build settings from plain values; every problem becomes one sentence that names `where`."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise GovorError(f"{where}: {_sentence(cls, error)}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    loaded = parse_yaml(read_text(path, MOST_YAML_BYTES), str(path))
    if not isinstance(loaded, dict):
        raise GovorError(f"{path}: settings by name were wanted, found {type(loaded).__name__}.")
    return loaded


def parse_yaml(text: str, where: str) -> Any:
    """YAML as it was meant: no key twice, aliases and depth bounded; every YAML of ours and of others is read here.

    Raises:
        GovorError: it is no such YAML; `where` begins the message.
    """
    try:
        return _load_yaml(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise GovorError(f"{where} is not valid YAML: {_place(error)}.") from None


# libyaml's parser is ten times as fast; either takes plain values alone.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc]
    """Refuses a key that stands twice, where the stock one takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{shortened(key.value, 60)}' stands twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


def _load_yaml(text: str) -> Any:
    _bound_aliases(text)
    return yaml.load(text, _Loader)


def _bound_aliases(text: str) -> None:
    """Refuse what is nested too deep, or too large once its aliases stand for what they name.

    The parser's events come one by one, so neither costs more than the text is long.
    """
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = [(None, 0)]  # anchor, and nodes so far, of each list or mapping around
    for event in yaml.parse(text, _Safe):
        size = 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1))
            if len(open_) > MOST_DEPTH:
                raise yaml.YAMLError(f"it is nested deeper than {MOST_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
            if anchor is not None:
                sizes[anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise yaml.YAMLError(f"the alias '*{shortened(event.anchor, 60)}' names nothing that stands before it")
            size = sizes[event.anchor]
        anchor, count = open_[-1]
        open_[-1] = (anchor, count + size)
        if count + size > MOST_NODES:
            raise yaml.YAMLError(f"with its aliases it has more than {MOST_NODES:,} values")


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
        parts = name.split(".")
        if not sign or not all(parts) or len(parts) > MOST_DEPTH:
            raise GovorError(f"--set {shortened(override)}: NAME=VALUE was wanted, for example --set finetune.lr=1e-5.")
        value = _typed(text, f"--set {shortened(override)}")
        for part in reversed(parts):
            value = {part: value}
        values = merge(values, value)
    return values


def _typed(text: str, where: str) -> Any:
    if re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", text):
        try:
            return float(text)  # YAML 1.1 reads 1e-5 as text
        except ValueError:
            return text
    try:
        return _load_yaml(text)
    except (yaml.MarkedYAMLError, ValueError, OverflowError):
        return text  # plain text may look like anything
    except (yaml.YAMLError, RecursionError) as error:
        raise GovorError(f"{where}: {_place(error)}.") from None


def _place(error: Exception) -> str:
    """The parser's message on one line; it calls our text by a name of its own."""
    return shortened(" ".join(str(error).split()).replace('in "<unicode string>", ', "at "), 300)


def _sentence(cls: type[Settings], error: ValidationError) -> str:
    first = error.errors()[0]
    # Where several types are allowed, pydantic adds the name of the type it tried.
    tried = re.compile(r"constrained-\w+|literal\[.*")
    place = shortened(".".join(str(part) for part in first["loc"] if not tried.fullmatch(str(part))))
    if first["type"] == "extra_forbidden":
        return f"unknown setting '{place}'; {nearest(str(first['loc'][-1]), _names_at(cls, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"the setting '{place}' is missing."
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first.get("input"), dict) else f", found {_shown(first.get('input'))}"
    return f"{place + ': ' if place else ''}{message[0].lower() + message[1:]}{given}."


def _shown(value: Any) -> str:
    try:
        return shortened(repr(value))
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"


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
