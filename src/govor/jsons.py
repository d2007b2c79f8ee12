"""JSON that comes from outside: bounded, no key twice, and what a record lacks is one sentence."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from govor.errors import GovorError
from govor.files import exists, read_text, shortened, write_text

# Deeper than any record: a recursion of ours over one that lies deeper would end in a traceback.
MOST_DEPTH = 64
# Of what kind a record's values are, by dotted name; a star is any name or item.
Kinds = Mapping[str, type | tuple[type, ...]]


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in UTF-8 letters; a NaN or infinity is a bug of ours and raises ValueError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def script_json(value: object) -> str:
    """JSON that cannot end the script it stands in."""
    return to_json(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, to_json(value, indent=2) + "\n")


class MissingKeyError(GovorError, LookupError):
    """A record lacks a key. Templates, which may ask whether there is one, know it as a failed look-up."""


class Record(dict[str, Any]):
    """A JSON object of a file; a key that is asked for and is not there is one sentence."""

    where = ""

    def __missing__(self, key: str) -> Any:
        raise MissingKeyError(
            f"{self.where} lacks '{key}'; it is damaged or no file of this kind: bring the right one back."
        )


def read_json(path: Path, kinds: Kinds | None = None, **required: type | tuple[type, ...]) -> Record:
    """A file that holds one JSON object. A key that is asked for later and is not there is one sentence as well.

    Args:
        kinds: of what kind the values are that are there, by dotted name; a star is any name or item.
        required: keys that must be there as well, and of what kind.

    Raises:
        GovorError: it is missing or malformed, or a value is of another kind.
    """
    record = parse_json(read_text(path), f"{path} is not valid JSON", Record)
    if not isinstance(record, Record):
        raise GovorError(
            f"{path} holds {_kind(record)} where an object with names was wanted; bring the right file back."
        )
    for item in _objects(record):
        item.where = str(path)
    for key in required:
        _ = record[key]
    for name, kind in {**(kinds or {}), **required}.items():
        for value in _at(record, name.split(".")):
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise GovorError(f"{path}: '{name}' is {_kind(value)}, which it cannot be; bring the right file back.")
    return record


def _at(value: Any, names: list[str]) -> Iterator[Any]:
    if not names:
        yield value
    elif names[0] == "*":
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from _at(inner, names[1:])
    elif isinstance(value, dict) and names[0] in value:
        yield from _at(value[names[0]], names[1:])


def read_log(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL log, none if it is not there; a line that was cut by a crash is left out."""
    rows: list[dict[str, Any]] = []
    for line in read_text(path, 1 << 30).split("\n") if exists(path) else ():
        try:
            row = parse_json(line, str(path), Record)
        except GovorError:
            continue
        for item in _objects(row) if isinstance(row, Record) else ():
            item.where = str(path)
        rows += [row] if isinstance(row, Record) else []
    return rows


def parse_json(text: str, problem: str, kind: type[dict[str, Any]] = dict) -> Any:
    """JSON as it was meant: no key twice, no NaN or infinity, no more than `MOST_DEPTH` levels.

    Args:
        problem: what the message begins with, for example "x.json is not valid JSON".

    Raises:
        GovorError: it is not.
    """
    try:
        value = (_RECORDS if kind is Record else _OBJECTS).decode(text)
        # As many brackets as levels are needed at least; most rows have few.
        if text.count("[") + text.count("{") > MOST_DEPTH and depth_of(value) > MOST_DEPTH:
            raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels")
    except json.JSONDecodeError as error:
        at = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise GovorError(f"{problem} ({error.msg} at {at}).") from None
    except RecursionError:
        raise GovorError(f"{problem} (it is nested deeper than {MOST_DEPTH} levels).") from None
    except ValueError as error:
        raise GovorError(f"{problem} ({str(error)[:100]}).") from None
    return value


def depth_of(value: Any) -> int:
    """How many levels of mappings and lists a value has, without recursion."""
    deepest, layer = 0, [value]
    while layer := [part for part in layer if isinstance(part, dict | list)]:
        deepest += 1
        if deepest > MOST_DEPTH:
            break
        layer = [inner for part in layer for inner in (part.values() if isinstance(part, dict) else part)]
    return deepest


def _objects(value: Any) -> Iterator[Record]:
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, Record):
            yield part
        if isinstance(part, dict | list):
            left.extend(part.values() if isinstance(part, dict) else part)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a number")


def _once(kind: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> Any:
    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = kind(pairs)
        if len(values) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"the key '{shortened(twice, 60)}' stands twice")
        return values

    return made


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _decoder(kind: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_once(kind), parse_float=_finite, parse_constant=_no_number)


_OBJECTS, _RECORDS = _decoder(dict), _decoder(Record)
