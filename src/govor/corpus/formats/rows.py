"""One row of any table → one `Clip`: the names others use for the same thing, text for numbers, times inside text.

The first name that holds something is taken, govor's own name first. Every other key is kept as it is, also where it is
another name for what has been taken.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from govor.audio import probe
from govor.corpus import transcripts
from govor.corpus.inventory import INVENTORY_ONLY, Statement, is_inventory_row
from govor.corpus.records import Clip, Row, Segment, audio_path, segment_row
from govor.errors import AudioError, GovorError
from govor.jsons import parse_json
from govor.languages import language_code
from govor.runs import Workspace

AUDIO_KEYS = ("audio", "audio_filepath", "file_name", "path")
TEXT_KEYS = ("transcript", "transcription", "text", "sentence")
LANGUAGE_KEYS = ("language", "lang", "locale")
SPEAKER_KEYS = ("speaker", "speaker_id", "client_id")
# Holds what a layout has no place for, under govor's own names: what stands there is read as it is.
EXTRA_KEY = "govor_extra"
OWN = frozenset(field.name for field in dataclasses.fields(Clip)) - {"extra", "transcribed", "root"}
# Keys that reading gives a meaning. Where somebody uses one for something else, it is written below EXTRA_KEY.
INTERPRETED = frozenset(
    {
        *(*AUDIO_KEYS, *TEXT_KEYS, *LANGUAGE_KEYS, *SPEAKER_KEYS, EXTRA_KEY, *INVENTORY_ONLY),
        *("seek", "entry_id", "prompt", "supervisions", "recording", "tracks", "type", "metadata", "uuid"),
    }
)
_NUMBERS = ("offset", "seek_time", "quality_score", "snr_db")
_LISTS = ("segments", "words")


class LackingError(AudioError):
    """The row lacks what its whole table may lack (audio, language). Where every row does, the table is refused."""


def clip_of(workspace: Workspace, row: Row, base: Path, statement: Statement, where: str) -> Clip:
    """Build a clip; `base` is the folder that relative audio paths may start from.

    A reader that finds a row unusable puts the `AudioError` under the row's key `error`.

    Raises:
        AudioError: this row cannot be used; its rule says why.
        GovorError: a value that no clip can have.
    """
    if isinstance(row.get("error"), AudioError):
        raise row["error"]
    if is_inventory_row(row):
        row = of_inventory(row)
        if isinstance(row.get("error"), AudioError):
            raise row["error"]
    row, unknown = _unpacked(row, where)
    row = _labelled(_renamed(row))
    audio = _first(row, AUDIO_KEYS, where, numbers=False)
    if audio is None:
        raise LackingError(
            "malformed_row",
            f"{where}: no audio path; one of {', '.join(AUDIO_KEYS)} was wanted, found {', '.join(list(row)[:20]) or 'nothing'}.",
        )
    text = _first(row, TEXT_KEYS, where, empty=True)
    segments = _segments(row, where)
    if text is None and segments:
        text = transcripts.plain(segments)
    if (text is None or not text.strip()) and not row.get("labels"):
        raise AudioError("empty_transcript" if text is not None else "no_transcript", "no transcript to learn from")
    if any("\ud800" <= letter <= "\udfff" for letter in text or ""):
        raise AudioError("bad_transcript", f"{where}: the transcript holds half a character.")
    text, inline = transcripts.from_inline(text) if text and transcripts.has_inline(text) else (text, ())
    _split_before(row, where)
    audio = _audio_path(workspace, audio, base)
    stated = {
        "language": _first(row, LANGUAGE_KEYS, where, numbers=False, instead=statement.language),
        "speaker": _first(row, SPEAKER_KEYS, where, instead=statement.speaker),
        "license": _first(row, ("license",), where, numbers=False, instead=statement.license),
    }
    required = {
        "id": _first(row, ("id",), where),
        "audio": audio,
        **({} if text is None else {"transcript": text}),
        "duration": _duration(row, audio_path(audio, workspace.root), where),
        "language": _code(stated.pop("language"), where),
    }
    required["id"] = required["id"] or made_id(audio, row.get("offset"))
    rest = {key: value for key, value in {**row, **stated}.items() if value is not None}
    if segments or inline:
        length = float(str(required["duration"]))
        rest["segments"] = [segment_row(segment) for segment in transcripts.closed(segments or inline, length)]
    return Clip.from_row({**unknown, **rest, **required}, where, workspace.root)


def made_id(audio: str, offset: object = None, duration: float | None = None, suffix: bool = False) -> str:
    """The id of a row that has none: its file, and where its part of the file begins."""
    path = Path(audio) if suffix or "#" in audio else Path(audio).with_suffix("")
    parts = [path.as_posix(), *(f"{number:.3f}" for number in (offset, duration) if isinstance(number, int | float))]
    return "-".join(parts)


def made_ids(clip: Clip) -> Iterator[str]:
    """More and more precise ids for a clip whose row has none, for where the first is taken."""
    for suffix in (False, True):
        yield made_id(clip.audio, clip.offset, suffix=suffix)
    yield made_id(clip.audio, clip.offset or 0.0, clip.duration, suffix=True)


def layout_row(clip: Clip, names: Mapping[str, str] | None = None) -> Row:
    """A clip's fields by the `names` a layout has for them; unknown keys beside them, but below EXTRA_KEY where a reader
    would take them for something else."""
    row = {(names or {}).get(key, key): value for key, value in clip.own_row().items()}
    apart = {key: value for key, value in clip.extra.items() if key in INTERPRETED or key in row}
    beside = {key: value for key, value in clip.extra.items() if key not in apart}
    return {**row, **beside, **({EXTRA_KEY: apart} if apart else {})}


def of_inventory(row: Row) -> Row:
    """A row of our own inventory without what only an inventory needs; its error as an AudioError."""
    own = {key: value for key, value in row.items() if key not in INVENTORY_ONLY}
    if row.get("error"):
        rule, _, message = str(row["error"]).partition(": ")
        own["error"] = AudioError(rule, message)
    return own


def shown(row: Mapping[str, object]) -> Row:
    """A row as it may stand in `dropped.jsonl`: without bytes and without what a reader noted."""
    return {key: value for key, value in row.items() if not isinstance(value, bytes | AudioError)}


def _renamed(row: Row) -> Row:
    """The ivrit.ai sets name a slice's place `seek` and its recording `entry_id`, below a `source` of many recordings."""
    if "seek" in row and row.get("seek_time") is None:
        row["seek_time"] = row.pop("seek")
    entry = row.get("entry_id")
    if isinstance(entry, str | int) and not isinstance(entry, bool) and str(entry):
        source = row.get("source")
        named = source is not None and (str(source) == str(entry) or str(source).endswith(f"/{entry}"))
        if not named:  # a manifest of our own has it already
            row["source"] = "/".join(str(part) for part in (source, entry) if part)
    return row


def _labelled(row: Row) -> Row:
    """Labels are an object, in a table its JSON. What another corpus calls labels is kept and labels nothing."""
    labels = row.pop("labels", None)
    if isinstance(labels, str) and labels.startswith("{"):
        with suppress(ValueError, RecursionError):
            labels = json.loads(labels)
    return row if labels is None else {**row, "labels" if isinstance(labels, dict) else "labels_stated": labels}


def _unpacked(row: Row, where: str) -> tuple[Row, Row]:
    """What had to be written as text in a table becomes lists and objects again; (row, keys that govor does not know and
    that mean nothing here)."""
    row = dict(row)
    for key in (*_LISTS, EXTRA_KEY):
        if isinstance(row.get(key), str):
            try:
                row[key] = parse_json(row[key], f"{where}: '{key}' is not valid JSON")
            except GovorError as error:
                raise AudioError("malformed_row", str(error)) from None
    extra = row.pop(EXTRA_KEY, None)
    if extra is not None and not isinstance(extra, dict):
        raise AudioError("malformed_row", f"{where}: '{EXTRA_KEY}' must be an object, found {_kind(extra)}.")
    extra = extra or {}
    own = {key: value for key, value in extra.items() if key in OWN}
    return {**row, **own}, {key: value for key, value in extra.items() if key not in OWN}


def _segments(row: Row, where: str) -> tuple[Segment, ...]:
    value = row.pop("segments", None)
    if not value:
        return ()
    try:
        return transcripts.from_json(json.dumps(value))
    except AudioError as error:
        raise AudioError(error.rule, f"{where}: segments: {error}") from None
    except (TypeError, ValueError, RecursionError):
        raise AudioError("malformed_row", f"{where}: 'segments' must be a list of {{start, end, text}}.") from None


def _split_before(row: Row, where: str) -> None:
    """The text before without its times, which stand in `prev_segments`."""
    before = _first(row, ("prev_transcript",), where)
    if not before:
        row.pop("prev_transcript", None)
        return
    row["prev_transcript"], timed_before = transcripts.from_inline(before)
    if timed_before:
        row["prev_segments"] = [segment_row(segment) for segment in timed_before]


def _first(
    row: Row,
    keys: tuple[str, ...],
    where: str,
    *,
    numbers: bool = True,
    empty: bool = False,
    instead: str | None = None,
) -> str | None:
    """The first of `keys` that holds something, taken out of the row, as text; None where none does.

    Args:
        numbers: whole numbers are taken as text too.
        empty: an empty text holds something.
        instead: what the user states; the row's own value is taken out and replaced.
    """
    for key in keys:
        value = row.get(key)
        if value is None or (value == "" and not empty):
            continue
        del row[key]
        return instead if instead is not None else _text(value, key, where, numbers)
    return instead


def _text(value: object, key: str, where: str, numbers: bool) -> str:
    if isinstance(value, str):
        return value
    if numbers and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if numbers and isinstance(value, float) and value.is_integer():  # a column of numbers with gaps, out of pandas
        return str(int(value))
    raise AudioError("malformed_row", f"{where}: '{key}' must be text, found {_kind(value)}.")


def _kind(value: object) -> str:
    kinds = {list: "a list", dict: "an object", bool: "true or false", float: "a number", int: "a number"}
    return kinds.get(type(value), type(value).__name__)


def _code(stated: str | None, where: str) -> str:
    if stated is None or stated.lower() in ("und", "mul"):
        raise LackingError(
            "language_unknown", f"{where}: the language is not stated; give --language, for example --language he."
        )
    try:
        return language_code(stated)
    except GovorError as error:
        raise AudioError("language_unknown", f"{where}: {error}") from None


def _duration(row: Row, audio: str, where: str) -> float:
    value = row.pop("duration", None)
    row |= {key: _seconds(row[key], key, where) for key in _NUMBERS if isinstance(row.get(key), str)}
    if value not in (None, ""):
        seconds = _seconds(value, "duration", where)
    else:
        offset = row.get("offset")
        begins = float(offset) if isinstance(offset, int | float) and not isinstance(offset, bool) else 0.0
        seconds = max(probe(audio).duration_seconds - begins, 0.0)
    if seconds < 0:
        raise AudioError("malformed_row", f"{where}: a duration of {value!r} s is none.")
    return round(seconds, 6)


def _seconds(value: object, key: str, where: str) -> float:
    """A number, also one that a table had to write as text."""
    try:
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        number = float(str(value)) if plain or (isinstance(value, str) and "_" not in value) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        shown = repr(value[:40]) if isinstance(value, str) else _kind(value)
        raise AudioError("malformed_row", f"{where}: '{key}' must be a number, found {shown}.")
    return number


def _audio_path(workspace: Workspace, audio: str, base: Path) -> str:
    """Manifests name audio relative to themselves or to the workspace; the file decides which."""
    path = workspace.path(audio)
    try:
        if not Path(audio).is_absolute() and (base / audio).exists():
            path = base / audio
    except (OSError, ValueError):  # no name that a file can have: whoever opens it says so
        return audio
    return workspace.relative(path) if "#" not in audio else audio
