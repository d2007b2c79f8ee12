"""Manifests out of the layouts people have, and into those that others read.

Read: a folder of `x.wav` + `x.txt`, an audiofolder (`metadata.csv` or `.jsonl` with `file_name`), NeMo JSONL
(`audio_filepath, text, duration, lang`), govor's own JSONL and inventories. Written: govor JSONL, NeMo JSONL.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from govor.audio import probe
from govor.corpus.inventory import Statement, inventory
from govor.corpus.manifests import read_rows
from govor.corpus.records import Clip
from govor.errors import AudioError, GovorError
from govor.files import workspace_path

Dropped = Callable[[dict[str, Any]], None]
_TEXT_KEYS = ("transcript", "transcription", "text", "sentence")
_NUMBERS = ("offset", "seek_time", "quality_score", "snr_db")
_AUDIO_KEYS = ("audio", "audio_filepath", "file_name", "path")


def read_source(source: Path, statement: Statement, dropped: Dropped) -> Iterator[Clip]:
    """Clips of whatever `source` is; rows that cannot be used go to `dropped` with their reason.

    Raises:
        GovorError: no known layout, or a malformed manifest line.
    """
    if source.is_dir():
        tables = [source / name for name in ("metadata.csv", "metadata.jsonl") if (source / name).exists()]
        rows = _table(tables[0]) if tables else inventory([source], statement)
        base = source
    elif source.suffix == ".csv":
        rows, base = _table(source), source.parent
    elif source.suffix in (".jsonl", ".json"):
        rows, base = (row for _, row in read_rows(source)), source.parent
    elif source.exists():
        raise GovorError(f"{source} is no manifest: a folder, .jsonl or .csv was wanted.")
    else:
        raise GovorError(f"{source} was not found.")
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        try:
            clip = _clip(dict(row), base, statement, f"{source}: row {number}")
        except AudioError as error:
            dropped({"row": row, "rule": error.rule, "measured": None, "limit": None, "message": str(error)})
            continue
        if clip.id in seen:
            dropped(
                {
                    "row": row,
                    "rule": "duplicate_id",
                    "measured": clip.id,
                    "limit": "unique",
                    "message": "the id stands twice",
                }
            )
            continue
        seen.add(clip.id)
        yield clip


def to_nemo(clip: Clip) -> dict[str, Any]:
    """A clip in NeMo's field names; all other keys ride along."""
    row = clip.to_row()
    renamed = {"audio_filepath": row.pop("audio"), "text": row.pop("transcript"), "lang": row.pop("language")}
    return {**renamed, **row}


def _table(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".jsonl":
        yield from (row for _, row in read_rows(path))
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            for row in csv.DictReader(handle):
                yield {key: value for key, value in row.items() if key and value not in ("", None)}
    except UnicodeDecodeError:
        raise GovorError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except csv.Error as error:
        raise GovorError(f"{path} is not a readable CSV table: {error}.") from None


def _clip(row: dict[str, Any], base: Path, statement: Statement, where: str) -> Clip:
    if row.get("error"):
        rule, _, message = str(row["error"]).partition(": ")
        raise AudioError(rule, message)
    audio_key = next((key for key in _AUDIO_KEYS if row.get(key)), None)
    text_key = next((key for key in _TEXT_KEYS if key in row), None)
    if audio_key is None:
        raise GovorError(f"{where}: no audio path; one of {', '.join(_AUDIO_KEYS)} was wanted.")
    text = row.pop(text_key) if text_key else None
    if text is None or not str(text).strip():
        raise AudioError("empty_transcript" if text is not None else "no_transcript", "no transcript to learn from")
    audio = _audio_path(str(row.pop(audio_key)), base)
    duration = row.pop("duration", None)
    language = statement.language or row.pop("language", None) or row.pop("lang", None)
    if not language:
        raise GovorError(f"{where}: the language is not stated; give --language, for example --language he.")
    for key in (
        "lang",
        "language",
        "filename",
        "transcript_present",
        "duplicate",
        "duplicate_of",
        "size_bytes",
        "error",
    ):
        row.pop(key, None)
    try:
        seconds = float(duration) if duration not in (None, "") else probe(audio).duration_seconds
        row |= {key: float(row[key]) for key in _NUMBERS if isinstance(row.get(key), str)}  # csv knows only text
    except ValueError:
        raise AudioError("malformed_row", f"{where}: a number of seconds was wanted, found {duration!r}.") from None
    required = {
        "id": str(row.pop("id", None) or Path(audio).with_suffix("").as_posix()),
        "audio": audio,
        "transcript": str(text),
        "duration": round(seconds, 6),
        "language": str(language),
    }
    stated = {"license": statement.license, "speaker": statement.speaker}
    rest = {key: value for key, value in row.items() if value is not None}
    return Clip.from_row({**required, **rest, **{k: v for k, v in stated.items() if v}}, where)


def _audio_path(audio: str, base: Path) -> str:
    """Manifests name audio relative to themselves or to the workspace; the file decides which."""
    path = Path(audio)
    if not path.is_absolute() and (base / path).exists():
        path = base / path
    return workspace_path(path) if "#" not in audio else audio
