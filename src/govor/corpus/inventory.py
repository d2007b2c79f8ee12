"""What exists: every recording below some folders, readable or not, with or without a transcript."""

from __future__ import annotations

import csv
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from govor import engine
from govor.audio import AUDIO_SUFFIXES, find_audio, probe
from govor.corpus import timed
from govor.corpus.language import guess, language_code
from govor.corpus.ondisk import DiskMap
from govor.corpus.provenance import Provenance, item_file, of_recording, there
from govor.corpus.records import Segment
from govor.errors import AudioError, GovorError
from govor.files import sha256_of, workspace_path

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
    "language_guess",
    "speaker",
    "source",
    "dataset",
    "date",
    "duplicate",
    "duplicate_of",
    "sha256",
    "license",
    "extra_terms",
    "source_url",
    "stamp",
    "error",
)
# Stands where copies were moved to (`govor validate --move-duplicates`); they are not inventoried again.
MOVED_JOURNAL = "moves.jsonl"
# What a manifest row does not need of an inventory row.
INVENTORY_ONLY = (
    "filename",
    "transcript_present",
    "duplicate",
    "duplicate_of",
    "error",
    "size_bytes",
    "stamp",
    "language_guess",
)
TRANSCRIPT_SUFFIXES = (".json", ".srt", ".vtt", ".lrc", ".txt")
_MAX_TRANSCRIPT_BYTES = 1_000_000
_LEGACY_ENCODINGS = {"he": "cp1255", "yi": "cp1255", "ru": "cp1251", "ar": "cp1256", "el": "cp1253", "tr": "cp1254"}


@dataclass(frozen=True, slots=True)
class Statement:
    """What the user states about a whole folder; it wins over what is written beside the recordings."""

    language: str | None = None
    license: str | None = None
    speaker: str | None = None
    encoding: str | None = None


def find_recordings(folder: Path) -> Iterator[Path]:
    """Audio files below `folder`, sorted within each folder; links to folders are not followed."""
    if not folder.exists():
        raise GovorError(f"The folder {folder} was not found.")
    if folder.is_file():
        raise GovorError(f"{folder} is a file; a folder of recordings was wanted.")
    yield from find_audio(folder, unless=MOVED_JOURNAL)


def inventory(
    folders: list[Path],
    statement: Statement,
    engine_name: engine.Engine = "processes",
    known: DiskMap | None = None,
    unless: Callable[[Path], bool] | None = None,
) -> Iterator[dict[str, Any]]:
    """One row per recording, in a fixed order; unreadable ones carry `error`, exact duplicates `duplicate_of`.

    Args:
        known: JSON rows of an earlier run by audio path; where neither the recording nor what stands beside it has
            changed since, its row is taken over and the file is not read.
        unless: recordings to leave out.
    """
    labels = _labels(folders)
    pairs = (
        (path, folder, base, label)
        for (folder, base), label in zip(_bases(folders), labels, strict=True)
        for path in find_recordings(folder)
        if unless is None or not unless(path)
    )
    work = ((item, known.get(workspace_path(item[0])) if known else None) for item in pairs)
    with DiskMap() as first:
        for row in engine.map(work, partial(_row, statement=statement), engine_name):
            digest = row["sha256"]
            if digest:
                kept = first.setdefault(digest, row["id"])
                row["duplicate"] = kept != row["id"]
                row["duplicate_of"] = kept if row["duplicate"] else None
            yield row


def is_inventory_row(row: Mapping[str, Any]) -> bool:
    """Whether a row is of our own inventory; in any other table a key like `error` means something else."""
    return all(key in row for key in INVENTORY_ONLY)


class CsvTable:
    """The inventory for a spreadsheet; columns as in COLUMNS."""

    def __init__(self, handle: TextIO) -> None:
        self._writer = csv.DictWriter(handle, COLUMNS, extrasaction="ignore", lineterminator="\n")
        self._writer.writeheader()

    def __call__(self, row: dict[str, Any]) -> None:
        self._writer.writerow(row)


def write_csv(handle: TextIO, rows: Iterable[dict[str, Any]]) -> None:
    """All rows at once."""
    table = CsvTable(handle)
    for row in rows:
        table(row)


def read_transcript(
    audio: Path, encoding: str | None = None, language: str | None = None
) -> tuple[str, tuple[Segment, ...]] | None:
    """Words and times that stand beside `x.wav`: `x.json`, `.srt`, `.vtt`, `.lrc` or `.txt`, the first there is.

    Returns None without such a file (a `.json` without segments is no transcript).

    Raises:
        AudioError: the file is there and cannot be read as a transcript.
    """
    no_transcript: AudioError | None = None
    for suffix in TRANSCRIPT_SUFFIXES:
        file = audio.with_suffix(suffix)
        if not there(file):
            continue
        text = _text_of(file, encoding, language)
        if suffix == ".json" and '"segments"' not in text:
            continue
        try:
            return timed.parse(text, suffix)
        except AudioError as error:
            no_transcript = AudioError(error.rule, f"{file}: {error}")
            if suffix != ".json":  # a .json may be about anything; the words may stand in another file
                raise no_transcript from None
    if no_transcript:
        raise no_transcript
    return None


def _text_of(file: Path, encoding: str | None, language: str | None) -> str:
    try:
        if file.stat().st_size > _MAX_TRANSCRIPT_BYTES:
            raise AudioError(
                "bad_transcript",
                f"{file} is larger than {_MAX_TRANSCRIPT_BYTES} bytes; it is no transcript of a clip.",
            )
        data = file.read_bytes()
    except OSError as error:
        raise AudioError("bad_transcript", f"{file} cannot be read: {error.strerror}.") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        wanted = "utf-16"
    else:
        wanted = encoding or "utf-8-sig"
    try:
        text = data.decode(wanted)
    except LookupError:
        raise GovorError(f"'{wanted}' is no text encoding; cp1250, cp1255 and utf-16-le are some.") from None
    except UnicodeDecodeError:
        likely = _likely_encoding(data, language)
        named = "UTF-8" if wanted == "utf-8-sig" else wanted
        raise AudioError(
            "bad_transcript", f"{file} is not {named} text; save it as UTF-8, or try --encoding {likely}."
        ) from None
    if "\0" in text:
        side = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
        raise AudioError("bad_transcript", f"{file} holds NUL characters; save it as UTF-8, or try --encoding {side}.")
    return text


def _likely_encoding(data: bytes, language: str | None) -> str:
    if b"\0" in data:
        return "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    if language in _LEGACY_ENCODINGS:
        return _LEGACY_ENCODINGS[language]
    # Windows-1255 keeps the Hebrew letters at E0-FA, and a Hebrew text is almost nothing else.
    high = [byte for byte in data if byte >= 0x80]
    hebrew = sum(0xE0 <= byte <= 0xFA for byte in high)
    letters = sum(chr(byte).isalpha() for byte in data if byte < 0x80)
    return "cp1255" if high and hebrew > 0.9 * len(high) and len(high) > letters else "cp1250"


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
        common: str | None = None
        for path in find_recordings(folder):
            parent = str(path.parent)
            common = parent if common is None else os.path.commonpath((common, parent))
        yield folder, Path(common) if common else folder


def _row(work: tuple[tuple[Path, Path, Path, str], str | None], statement: Statement) -> dict[str, Any]:
    (path, folder, base, label), earlier = work
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    relative = path.relative_to(folder)
    row |= {
        "id": f"{label}/{relative.with_suffix('').as_posix()}{_suffix_if_shared(path)}",
        "audio": workspace_path(path),
        "filename": path.name,
        "source": folder_source(path, base, label),
        "dataset": label,
        "duplicate": False,
        "transcript_present": False,
    }
    try:
        status = path.stat()
        row["stamp"] = _stamp(path, status)
        stated = of_recording(path, folder)
        row |= _stated(statement, stated)
        taken = _taken_over(earlier, row, status.st_size)
        if taken is not None:
            return taken
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
        found = read_transcript(path, statement.encoding, row["language"])
        if found is not None:
            row["transcript"], segments = found
            row["transcript_present"] = bool(found[0])
            row["language_guess"] = guess(found[0])
            if segments:
                row["segments"] = [
                    {"start": s.start, **({} if s.end is None else {"end": s.end}), "text": s.text} for s in segments
                ]
    except AudioError as error:
        row["error"] = f"{error.rule}: {error}"
    except GovorError as error:
        row["error"] = f"bad_provenance: {error}"
    except OSError as error:
        row["error"] = f"unreadable: {path} cannot be opened: {error.strerror}."
    except (ValueError, OverflowError, RecursionError) as error:  # whatever stands beside it must not stop the others
        row["error"] = f"bad_transcript: what stands beside {path} cannot be read: {str(error)[:100]}."
    return row


def _stated(statement: Statement, stated: Provenance) -> dict[str, Any]:
    return {
        "language": statement.language or (stated.language and language_code(stated.language)),
        "license": statement.license or stated.license,
        "speaker": statement.speaker or stated.speaker,
        "extra_terms": stated.extra_terms,
        "source_url": stated.source_url,
        "date": stated.date,
        **({"dataset": stated.dataset} if stated.dataset else {}),
    }


def _taken_over(earlier: str | None, row: dict[str, Any], size_bytes: int) -> dict[str, Any] | None:
    """An earlier row where nothing has changed; what is stated now replaces what was stated then."""
    if earlier is None:
        return None
    import json

    held: dict[str, Any] = json.loads(earlier)
    same = held.get("stamp") == row["stamp"] and held.get("size_bytes") in (size_bytes, None)
    if not same or not held.get("sha256") or str(held.get("error") or "").startswith("bad_"):
        return None
    now = ("id", "source", "dataset", "language", "license", "speaker", "extra_terms", "source_url", "date")
    return {**held, **{name: row[name] for name in now}, "duplicate": False, "duplicate_of": None}


def _stamp(path: Path, status: os.stat_result) -> str:
    """Changes whenever the recording, or anything beside it that states something of it, does."""
    parts = [f"{status.st_mtime_ns} {status.st_size}"]
    for beside in (*(path.with_suffix(suffix) for suffix in TRANSCRIPT_SUFFIXES), item_file(path)):
        if there(beside):
            held = beside.stat()
            parts.append(f"{beside.suffix} {held.st_mtime_ns} {held.st_size}")
    return hashlib.blake2b("|".join(parts).encode(), digest_size=8).hexdigest()


def folder_source(path: Path, folder: Path, label: str) -> str:
    """The source recording a clip is guessed to come from: its sub-folder, or itself where there is none."""
    parts = path.relative_to(folder).parent.parts
    return "/".join((label, *(parts or (path.stem,))))


def _suffix_if_shared(path: Path) -> str:
    """`a.wav` and `a.mp3` in one folder are two recordings and need two ids."""
    shared = any(path.with_suffix(suffix).exists() for suffix in AUDIO_SUFFIXES if suffix != path.suffix)
    return path.suffix if shared else ""
