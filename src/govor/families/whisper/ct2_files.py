"""The files of a CTranslate2 Whisper, read within their bounds."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from govor.errors import GovorError
from govor.families.checking import check_ids, stay_inside
from govor.files import check_ordinary
from govor.jsons import read_json
from govor.runs import Json

Array = npt.NDArray[np.generic]
Taken = TypeVar("Taken")

_CT2_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_CT2_WIDTHS = {kind: int(name[-1]) for kind, name in _CT2_TYPES.items()}
# Longer than any name that a Whisper has: the file is damaged or hostile.
MAX_NAME_BYTES = 4096


class BoundedFile:
    """Reads a file from its beginning and never asks for more than is left of it: what a header announces is not yet there."""

    def __init__(self, file: Path) -> None:
        self.file, self.left = file, check_ordinary(file).st_size

    def __enter__(self) -> BoundedFile:
        self._handle = self.file.open("rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def read(self, count: int) -> bytes:
        """So many bytes.

        Raises:
            ValueError: fewer are left.
        """
        self._take(count)
        return self._handle.read(count)

    def skip(self, count: int) -> None:
        """Pass over so many bytes."""
        self._take(count)
        self._handle.seek(count, 1)

    def numbers(self, form: str) -> tuple[int, ...]:
        """Little-endian numbers."""
        return struct.unpack("<" + form, self.read(struct.calcsize("<" + form)))

    def number(self, form: str) -> int:
        """One number."""
        return int(self.numbers(form)[0])

    def _take(self, count: int) -> None:
        if not 0 <= count <= self.left:
            raise ValueError(f"it announces {count:,} bytes where {self.left:,} are left")
        self.left -= count


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    shape: tuple[int, ...]
    kind: int
    size_bytes: int


def check_ctranslate2(folder: Path) -> None:
    """Refuse a `model.bin` whose parts do not fit into it, before the engine, which believes it, makes room for them.

    Raises:
        GovorError: it is damaged, or no Whisper.
    """
    file = folder / "model.bin"
    read_settings(folder)
    with BoundedFile(file) as source:
        for _ in _variables(source, lambda variable: source.skip(variable.size_bytes), {}):
            pass


def read_settings(folder: Path) -> Json:
    """`config.json` of a CTranslate2 folder; an absent one says nothing.

    Raises:
        GovorError: it is damaged.
    """
    stay_inside(folder)
    file = folder / "config.json"
    if not file.exists():
        return {}
    settings = read_json(file)
    check_ids(file, settings)
    return settings


def _variables(
    source: BoundedFile, take: Callable[[_Variable], Taken], aliases: dict[str, str]
) -> Iterator[tuple[_Variable, Taken]]:
    """Every variable of a CTranslate2 file with what `take` makes of its bytes; `aliases` is filled at the end."""

    def string() -> str:
        length = source.number("H")
        if length > MAX_NAME_BYTES:
            raise ValueError("a name is too long")
        return source.read(length).rstrip(b"\0").decode()

    try:
        version = source.number("I")
        if not 4 <= version <= 6 or string() != "WhisperSpec":
            raise GovorError(f"{source.file} is no CTranslate2 Whisper of format 4 to 6.")
        source.number("I")
        seen: set[str] = set()
        for _ in range(source.number("I")):
            name = string()
            shape = source.numbers(f"{source.number('B')}I")
            variable = _Variable(name, shape, source.number("B"), source.number("I"))
            if name in seen:
                raise ValueError(f"'{name}' stands twice")
            seen.add(name)
            width = _CT2_WIDTHS.get(variable.kind)
            if width is not None and math.prod(shape) * width != variable.size_bytes:
                raise ValueError(f"'{name}' has {variable.size_bytes:,} bytes for {math.prod(shape):,} numbers")
            yield variable, take(variable)
        for _ in range(source.number("I")):
            alias, name = string(), string()
            if name not in seen:
                raise ValueError(f"'{alias}' stands for '{name}', which is not there")
            aliases[alias] = name
    except (struct.error, ValueError) as error:
        raise GovorError(f"{source.file} ends too early or is damaged ({error}); fetch it again.") from None


def read_variables(file: Path) -> dict[str, Array]:
    """Every variable of a `model.bin` by name, and by each of its aliases.

    Raises:
        GovorError: it is damaged, no Whisper, or quantised to integers.
    """
    variables: dict[str, Array] = {}
    aliases: dict[str, str] = {}
    with BoundedFile(file) as source:

        def array(variable: _Variable) -> Array:
            kind = _CT2_TYPES.get(variable.kind)
            if kind is None:
                raise GovorError(f"{file}: '{variable.name}' has a type that is not float16, float32 or integer.")
            return np.frombuffer(source.read(variable.size_bytes), dtype=kind).reshape(variable.shape)

        for variable, values in _variables(source, array, aliases):
            variables[variable.name] = values
    quantised = [name for name, value in variables.items() if value.ndim == 2 and value.dtype.kind == "i"]
    if any(name.endswith("weight") for name in quantised):
        raise GovorError(f"{file} is quantised to integers; convert from its float16 or float32 version.")
    return variables | {alias: variables[name] for alias, name in aliases.items()}
