"""JSONL manifests: a million rows open at once, one row is read at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO, overload

import numpy as np
import numpy.typing as npt

from govor.corpus.diskmap import DiskMap
from govor.corpus.records import Clip, Row
from govor.errors import GovorError
from govor.files import atomic_file, check_ordinary, exists, sha256_of
from govor.jsons import parse_json, to_json
from govor.runs import Workspace

_HEADER = 2  # size and modification time of the manifest that the index belongs to


class Manifest(Sequence[Clip]):
    """The rows of a JSONL file by number, read when asked for.

    The offsets of the lines lie beside the file (`<name>.idx`, 8 bytes a row) and are made anew when the file has
    changed; where the folder cannot be written they stay in memory.
    """

    def __init__(self, path: Path | str, root: Path = Path()) -> None:
        """`root` is the folder of the workspace, which the rows' audio is relative to."""
        self.path, self.root = Path(path), root
        self._offsets = _offsets(self.path)
        self._handle: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = index % len(self)
        if self._handle is None:
            self._handle = self.path.open("rb")
        start, end = int(self._offsets[row]), int(self._offsets[row + 1])
        self._handle.seek(start)
        line = self._handle.read(end - start)
        return Clip.from_row(parse_row(line, f"{self.path}:{row + 1}"), f"{self.path}:{row + 1}", self.root)

    def __iter__(self) -> Iterator[Clip]:
        return (self[row] for row in range(len(self)))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_handle": None}  # each worker opens its own


def read_rows(path: Path | str) -> Iterator[tuple[int, Row]]:
    """(line number, row) of every non-blank line.

    Raises:
        GovorError: a line that is not a JSON object, with file and line number.
    """
    path = Path(path)
    if exists(path):
        check_ordinary(path)
    try:
        with path.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                if not line.isspace():
                    row = parse_row(line, f"{path}:{number}")
                    if not isinstance(row, dict):
                        raise GovorError(f"{path}:{number}: a JSON object was wanted, found {type(row).__name__}.")
                    yield number, row
    except FileNotFoundError:
        raise GovorError(f"The manifest {path} was not found.") from None
    except OSError as error:
        raise GovorError(f"The manifest {path} cannot be read: {error.strerror}.") from None


def read_clips(path: Path | str, root: Path = Path()) -> Iterator[Clip]:
    """Every row of a manifest of the workspace at `root` as a Clip; a duplicate id is refused."""
    with DiskMap() as seen:
        for number, row in read_rows(path):
            clip = Clip.from_row(row, f"{path}:{number}", root)
            if clip.id in seen:
                raise GovorError(f"{path}:{number}: the id '{clip.id}' stands twice; ids must be unique.")
            seen[clip.id] = ""
            yield clip


class Writer:
    """Appends rows to a JSONL file and counts them."""

    def __init__(self, handle: TextIO) -> None:
        self._handle, self.count = handle, 0

    def __call__(self, row: Row) -> None:
        try:
            self._handle.write(to_json(row) + "\n")
        except RecursionError:
            raise GovorError(f"The row '{row.get('id')}' is nested too deeply to be written.") from None
        self.count += 1

    def clip(self, clip: Clip) -> None:
        """Write a clip's row."""
        self(clip.to_row())


@contextmanager
def row_writer(path: Path) -> Iterator[Writer]:
    """Rows one by one into a JSONL file that appears whole or not at all."""
    with atomic_file(path) as handle:
        yield Writer(handle)


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write rows as JSONL, whole or not at all; returns how many."""
    with row_writer(path) as write:
        for row in rows:
            write(row)
    return write.count


def rejected(row: Row, rule: str, measured: object = None, limit: object = None, message: str | None = None) -> Row:
    """A row of `dropped.jsonl`: what was turned away, under which rule, with the measured value and the limit."""
    return {"row": row, "rule": rule, "measured": measured, "limit": limit, "message": message}


def write_clips(path: Path, clips: Iterable[Clip]) -> int:
    """Write clips as JSONL, whole or not at all; returns how many."""
    return write_rows(path, (clip.to_row() for clip in clips))


def fingerprint(path: Path, workspace: Workspace = Workspace()) -> Row:
    """What a run records of a manifest: path as it was given, rows, sha256."""
    return {"path": workspace.as_given(path), "rows": len(Manifest(path)), "sha256": sha256_of(path)}


def parse_row(line: bytes | str, where: str) -> Any:
    """One JSON value; what JSON does not know (NaN, a key that stands twice) is refused rather than guessed.

    Raises:
        GovorError: the line is not valid JSON.
    """
    try:
        text = line.decode("utf-8-sig") if isinstance(line, bytes) else line
    except UnicodeDecodeError:
        raise GovorError(f"{where}: the line is not UTF-8; save the manifest as UTF-8.") from None
    return parse_json(text, f"{where}: the line is not valid JSON")


def _offsets(path: Path) -> npt.NDArray[np.int64]:
    try:
        status = path.stat()
        if path.is_dir():
            raise GovorError(f"{path} is a folder; a JSONL manifest was wanted.")
        check_ordinary(path)
        stamp = [status.st_size, status.st_mtime_ns]
        beside = path.with_name(path.name + ".idx")
        if beside.exists():
            stored = np.fromfile(beside, dtype=np.int64)
            if len(stored) > _HEADER and stored[:_HEADER].tolist() == stamp:
                return stored[_HEADER:]
        offsets, at = [], 0
        with path.open("rb") as handle:
            for line in handle:
                if not line.isspace():  # a blank line belongs to the row before it, which JSON allows
                    offsets.append(at)
                at += len(line)
        offsets.append(at)
    except FileNotFoundError:
        raise GovorError(f"The manifest {path} was not found.") from None
    except OSError as error:
        raise GovorError(f"The manifest {path} cannot be read: {error.strerror}.") from None
    result = np.array(offsets, dtype=np.int64)
    try:
        temporary = beside.with_name(f".{beside.name}.{uuid.uuid4().hex[:8]}.tmp")  # several processes may open it
        np.concatenate([np.array(stamp, dtype=np.int64), result]).tofile(temporary)
        temporary.replace(beside)
    except OSError:
        pass  # a read-only folder: the index is only a convenience
    return result
