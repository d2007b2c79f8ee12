"""What exists: every recording below some folders, readable or not, with or without a transcript."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from govor import engine
from govor.audio import AUDIO_SUFFIXES, probe
from govor.errors import AudioError, GovorError
from govor.files import atomic_file, sha256_of, workspace_path

COLUMNS = (
    "id",
    "audio",
    "filename",
    "size_bytes",
    "duration",
    "sample_rate_hz",
    "channels",
    "codec",
    "transcript_present",
    "transcript",
    "language",
    "speaker",
    "source",
    "duplicate",
    "duplicate_of",
    "sha256",
    "license",
    "source_url",
    "error",
)
_MAX_TRANSCRIPT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Statement:
    """What the user states about a whole folder."""

    language: str | None = None
    license: str | None = None
    speaker: str | None = None


def find_recordings(folder: Path) -> Iterator[Path]:
    """Audio files below `folder`, sorted within each folder; links to folders are not followed."""
    if not folder.exists():
        raise GovorError(f"The folder {folder} was not found.")
    if folder.is_file():
        raise GovorError(f"{folder} is a file; a folder of recordings was wanted.")
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                yield Path(root) / name


def inventory(
    folders: list[Path], statement: Statement, engine_name: engine.Engine = "processes"
) -> Iterator[dict[str, Any]]:
    """One row per recording, in a fixed order; unreadable ones carry `error`, exact duplicates `duplicate_of`."""
    labels = _labels(folders)
    pairs = (
        (path, folder, base, label)
        for (folder, base), label in zip(_bases(folders), labels, strict=True)
        for path in find_recordings(folder)
    )
    first: dict[str, str] = {}
    for row in engine.map(pairs, partial(_row, statement=statement), engine_name):
        digest = row["sha256"]
        if digest:
            kept = first.setdefault(digest, row["id"])
            row["duplicate"] = kept != row["id"]
            row["duplicate_of"] = kept if row["duplicate"] else None
        yield row


def write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """The inventory for a spreadsheet; columns as in COLUMNS."""
    with atomic_file(path) as handle:
        writer = csv.DictWriter(handle, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_transcript(audio: Path) -> str | None:
    """The text of `x.txt` beside `x.wav` (one line breaks into spaces); None without such a file.

    Raises:
        AudioError: the file is there and cannot be read as text.
    """
    file = audio.with_suffix(".txt")
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > _MAX_TRANSCRIPT_BYTES:
            raise AudioError(
                "bad_transcript",
                f"{file} is larger than {_MAX_TRANSCRIPT_BYTES} bytes; it is no transcript of a clip.",
            )
        data = file.read_bytes()
    except OSError as error:
        raise AudioError("bad_transcript", f"{file} cannot be read: {error.strerror}.") from None
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return " ".join(data.decode(encoding).split())
    except UnicodeDecodeError:
        raise AudioError("bad_transcript", f"{file} is not UTF-8 text; save it as UTF-8.") from None


def _labels(folders: list[Path]) -> list[str]:
    """What ids begin with: the folder's name, or where two folders share one, its path below what they share."""
    resolved = [folder.resolve() for folder in folders]
    names = [folder.name for folder in resolved]
    if len(set(names)) == len(names):
        return names
    return [os.path.relpath(folder, os.path.commonpath({f.parent for f in resolved})) for folder in resolved]


def _bases(folders: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Each folder with the deepest folder that holds all of its recordings: only below it do names tell apart."""
    for folder in folders:
        parents = {path.parent for path in find_recordings(folder)}
        yield folder, Path(os.path.commonpath(parents)) if parents else folder


def _row(item: tuple[Path, Path, Path, str], statement: Statement) -> dict[str, Any]:
    path, folder, base, label = item
    relative = path.relative_to(folder)
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {
        "id": f"{label}/{relative.with_suffix('').as_posix()}{_suffix_if_shared(path)}",
        "audio": workspace_path(path),
        "filename": path.name,
        "language": statement.language,
        "license": statement.license,
        "speaker": statement.speaker,
        "source": folder_source(path, base, label),
        "duplicate": False,
        "transcript_present": False,
    }
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("unreadable", f"{path} is not a regular file.")
        row["size_bytes"] = status.st_size
        row["sha256"] = sha256_of(path)
        info = probe(path)
        row |= {
            "duration": round(info.duration_seconds, 4),
            "sample_rate_hz": info.sample_rate_hz,
            "channels": info.channels,
            "codec": info.codec,
        }
        row["transcript"] = read_transcript(path)
        row["transcript_present"] = bool(row["transcript"])
    except AudioError as error:
        row["error"] = f"{error.rule}: {error}"
    except OSError as error:
        row["error"] = f"unreadable: {path} cannot be opened: {error.strerror}."
    return row


def folder_source(path: Path, folder: Path, label: str) -> str:
    """The source recording a clip is guessed to come from: its sub-folder, or itself where there is none."""
    parts = path.relative_to(folder).parent.parts
    return "/".join((label, *(parts or (path.stem,))))


def _suffix_if_shared(path: Path) -> str:
    """`a.wav` and `a.mp3` in one folder are two recordings and need two ids."""
    shared = any(path.with_suffix(suffix).exists() for suffix in AUDIO_SUFFIXES if suffix != path.suffix)
    return path.suffix if shared else ""
