"""One row of any table → one `Clip`: the names others use for the same thing, text for numbers, times inside text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from govor.audio import probe
from govor.corpus import timed
from govor.corpus.inventory import INVENTORY_ONLY, Statement
from govor.corpus.records import Clip, Segment
from govor.errors import AudioError, GovorError
from govor.files import parse_json, workspace_path

AUDIO_KEYS = ("audio", "audio_filepath", "file_name", "path")
TEXT_KEYS = ("transcript", "transcription", "text", "sentence")
EXTRA_KEY = "govor_extra"
_LANGUAGE_KEYS = ("language", "lang", "locale")
_SPEAKER_KEYS = ("speaker", "speaker_id", "client_id")
_NUMBERS = ("offset", "seek_time", "quality_score", "snr_db")
_LISTS = ("segments", "words")


def clip_of(row: dict[str, Any], base: Path, statement: Statement, where: str) -> Clip:
    """Build a clip; `base` is the folder that relative audio paths may start from.

    Raises:
        AudioError: this row cannot be used; its rule says why.
        GovorError: the table as a whole lacks something (audio column, language).
    """
    if row.get("error"):
        rule, _, message = str(row["error"]).partition(": ")
        raise AudioError(rule, message)
    row = _renamed(_unpacked(row, where))
    audio_key = next((key for key in AUDIO_KEYS if row.get(key)), None)
    if audio_key is None:
        raise GovorError(f"{where}: no audio path; one of {', '.join(AUDIO_KEYS)} was wanted.")
    text_key = next((key for key in TEXT_KEYS if key in row), None)
    text = row.pop(text_key) if text_key else None
    segments = _segments(row, where)
    if text is None and segments:
        text = timed.plain(segments)
    if text is None or not str(text).strip():
        raise AudioError("empty_transcript" if text is not None else "no_transcript", "no transcript to learn from")
    text, inline = timed.from_inline(str(text)) if timed.has_inline(str(text)) else (str(text), ())
    before, before_timed = timed.from_inline(str(row.get("prev_transcript") or ""))
    row["prev_transcript"] = before or None
    if before_timed:
        row["prev_segments"] = [segment_row(segment) for segment in before_timed]
    audio = _audio_path(str(row.pop(audio_key)), base)
    stated = {
        "language": statement.language or _first(row, _LANGUAGE_KEYS),
        "speaker": statement.speaker or _first(row, _SPEAKER_KEYS),
        "license": statement.license or row.pop("license", None),
    }
    if not stated["language"]:
        raise GovorError(f"{where}: the language is not stated; give --language, for example --language he.")
    for key in INVENTORY_ONLY:
        row.pop(key, None)
    required = {
        "id": str(row.pop("id", None) or Path(audio).with_suffix("").as_posix()),
        "audio": audio,
        "transcript": text,
        "duration": _duration(row, audio, where),
        "language": str(stated.pop("language")),
    }
    rest = {key: value for key, value in {**row, **stated}.items() if value is not None}
    if segments or inline:
        rest["segments"] = [segment_row(segment) for segment in segments or inline]
    return Clip.from_row({**required, **rest}, where)


def segment_row(segment: Segment) -> dict[str, Any]:
    """A segment as it stands in a manifest row."""
    row: dict[str, Any] = {"start": segment.start, "end": segment.end, "text": segment.text, "speaker": segment.speaker}
    return {key: value for key, value in row.items() if value is not None}


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    """The ivrit.ai sets name a slice's place `seek` and its recording `entry_id`, below a `source` of many recordings."""
    if "seek" in row and "seek_time" not in row:
        row["seek_time"] = row.pop("seek")
    if row.get("entry_id"):
        row["source"] = "/".join(str(part) for part in (row.get("source"), row["entry_id"]) if part)
    return row


def _unpacked(row: dict[str, Any], where: str) -> dict[str, Any]:
    """What had to be written as text in a table becomes lists and objects again."""
    row = dict(row)
    for key in (*_LISTS, EXTRA_KEY):
        if isinstance(row.get(key), str):
            try:
                row[key] = parse_json(row[key], "no JSON")
            except GovorError:
                raise AudioError("malformed_row", f"{where}: '{key}' is not valid JSON.") from None
    extra = row.pop(EXTRA_KEY, None)
    return {**row, **extra} if isinstance(extra, dict) else row


def _segments(row: dict[str, Any], where: str) -> tuple[Segment, ...]:
    value = row.pop("segments", None)
    if not value:
        return ()
    try:
        return timed.from_json(json.dumps(value))
    except AudioError as error:
        raise AudioError(error.rule, f"{where}: segments: {error}") from None


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    values = [row.pop(key, None) for key in keys]
    if any(isinstance(value, list | dict) for value in values):
        raise AudioError("malformed_row", f"{' or '.join(keys)} must be text.")
    return next((str(value) for value in values if value not in (None, "")), None)


def _duration(row: dict[str, Any], audio: str, where: str) -> float:
    value = row.pop("duration", None)
    try:
        seconds = float(value) if value not in (None, "") else probe(audio).duration_seconds
        row |= {key: float(row[key]) for key in _NUMBERS if isinstance(row.get(key), str)}  # csv knows only text
    except (ValueError, TypeError, OverflowError):
        shown = str(value)[:40] if isinstance(value, str | float) else type(value).__name__
        raise AudioError("malformed_row", f"{where}: a number of seconds was wanted, found {shown}.") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise AudioError("malformed_row", f"{where}: a duration of {value!r} s is none.")
    return round(seconds, 6)


def _audio_path(audio: str, base: Path) -> str:
    """Manifests name audio relative to themselves or to the workspace; the file decides which."""
    path = Path(audio)
    if not path.is_absolute() and (base / path).exists():
        path = base / path
    return workspace_path(path) if "#" not in audio else audio
