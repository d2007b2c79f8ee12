"""Files that are either whole or not there: written under a temporary name, flushed, renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from govor.errors import GovorError, disk_errors


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in UTF-8 letters; a NaN or infinity is a bug of ours and raises ValueError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


@contextmanager
def atomic_file(path: Path, errors: str = "backslashreplace") -> Iterator[TextIO]:
    """A text file that appears under its name only when the block ends without an error.

    A file name that is not UTF-8 holds lone surrogates; escaped, as by default, they are valid JSON and find the file again.
    """
    temporary = _beside(path)
    with disk_errors(path, path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8", errors=errors, newline="\n") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` whole or not at all."""
    with atomic_file(path) as handle:
        handle.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, to_json(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or malformed file is one sentence."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GovorError(f"{path} was not found.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GovorError(f"{path} is not valid JSON: {error}.") from None
    except OSError as error:
        raise GovorError(f"{path} cannot be read: {error.strerror}.") from None


@contextmanager
def atomic_folder(path: Path, what: str, replace: bool = False) -> Iterator[Path]:
    """A folder that appears under its name only when the block ends without an error.

    With `replace`, an existing folder gives way at the end, not before.
    """
    temporary = _beside(path)
    with disk_errors(path, what):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            yield temporary
            # Some libraries write for the owner alone (safetensors: 0600); what the umask lets others read is theirs too.
            ours = temporary.stat().st_mode
            for file in temporary.rglob("*"):
                if not file.is_symlink():
                    file.chmod(file.stat().st_mode | (ours & (0o777 if file.is_dir() else 0o666)))
                if file.is_file():
                    fsync(file)
            if replace and path.exists():
                old = _beside(path)
                path.rename(old)
                temporary.rename(path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                temporary.rename(path)
            fsync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def fsync(path: Path) -> None:
    """Flush a file or folder to the disk (folders only where the system allows it)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_existing(path: Path, overwrite: bool, remedy: str = "--overwrite to replace it, or another --out") -> None:
    """Existing results are never replaced unasked."""
    if not overwrite and path.exists() and (path.is_file() or any(path.iterdir())):
        raise GovorError(f"{path} already exists; give {remedy}.")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_lines(lines: Iterable[str]) -> str:
    """Hex sha256 over text lines."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "backslashreplace") + b"\n")
    return digest.hexdigest()


def workspace_path(path: Path) -> str:
    """How a path is written into our files: relative to the workspace where it lies inside, else absolute."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow the user's links)
    root = Path.cwd()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else absolute.as_posix()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
