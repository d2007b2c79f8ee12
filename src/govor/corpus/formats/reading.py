"""Which layout a path holds, and its rows.

Read: folders of `x.wav` + `x.txt|srt|vtt|lrc|json`, audiofolder (`metadata.csv|jsonl`, also below `train/`, `test/`),
NeMo and govor JSONL, Common Voice TSV, lhotse cuts, parquet with embedded audio, Qwen3-ASR JSONL, earlier results under
`outputs/<file_id>/`.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from govor.audio import AUDIO_SUFFIXES
from govor.corpus.formats.rows import clip_of
from govor.corpus.inventory import Statement, inventory
from govor.corpus.manifests import read_rows, rejected
from govor.corpus.ondisk import DiskMap
from govor.corpus.records import Clip
from govor.errors import AudioError, GovorError
from govor.files import check_ordinary, parse_json, read_text

Dropped = Callable[[dict[str, Any]], None]
_QWEN = re.compile(r"language (?P<language>[^<]*)<asr_text>(?P<text>.*)", re.DOTALL)
_CLIP_FOLDER = "clips"


def read_source(source: Path, statement: Statement, dropped: Dropped, blob: Path | None = None) -> Iterator[Clip]:
    """Clips of whatever `source` is; rows that cannot be used go to `dropped` with their reason.

    Args:
        blob: where audio embedded in parquet is put, as it is encoded; needed for parquet alone.

    Raises:
        GovorError: no known layout, or a malformed manifest line.
    """
    good = False
    with DiskMap() as seen:
        for number, (row, base) in enumerate(_rows(source, statement, blob), start=1):
            try:
                clip = clip_of(row, base, statement, f"{source}: row {number}")
            except AudioError as error:
                dropped(rejected(row, error.rule, message=str(error)))
                continue
            except GovorError as error:
                if not good:  # the table as a whole lacks something; a later row is wrong on its own
                    raise
                dropped(rejected(row, "malformed_row", message=str(error)))
                continue
            good = True
            if clip.id in seen:
                dropped(rejected(row, "duplicate_id", clip.id, "unique", "the id stands twice"))
                continue
            seen[clip.id] = ""
            yield clip


def source_holds_audio(source: Path) -> bool:
    """Whether reading `source` means taking audio out of parquet."""
    return source.suffix == ".parquet" or (source.is_dir() and any(source.glob("**/*.parquet")))


def _rows(source: Path, statement: Statement, blob: Path | None) -> Iterator[tuple[dict[str, Any], Path]]:
    if source.is_dir():
        yield from _folder(source, statement, blob)
    elif not source.exists():
        raise GovorError(f"{source} was not found.")
    elif source.suffix == ".parquet":
        yield from _parquet([source], blob)
    else:
        rows = _table(source)
        yield from ((row, _base(source)) for row in rows)


def _folder(source: Path, statement: Statement, blob: Path | None) -> Iterator[tuple[dict[str, Any], Path]]:
    tables = [table for name in ("metadata.csv", "metadata.jsonl") for table in sorted(source.glob(f"**/{name}"))]
    if tables:
        for table in tables:
            part = table.parent.name if table.parent != source else None
            for row in _table(table):
                yield ({"split": part, **row} if part else row), table.parent
        return
    voices = [
        source / name for name in ("validated.tsv", "train.tsv", "dev.tsv", "test.tsv") if (source / name).exists()
    ]
    if voices and (source / _CLIP_FOLDER).is_dir():
        chosen = voices[:1] if voices[0].name == "validated.tsv" else voices
        for table in chosen:
            yield from ((row, source / _CLIP_FOLDER) for row in _table(table))
        return
    shards = sorted(source.glob("**/*.parquet"))
    if shards:
        yield from _parquet(shards, blob)
        return
    cuts = next((path for path in sorted(source.glob("*cuts*.jsonl*"))), None)
    if cuts:
        yield from ((row, source) for row in _table(cuts))
        return
    earlier = sorted(path for path in source.glob("*/transcription*.json"))
    if earlier:
        yield from ((row, source) for row in _outputs(earlier))
        return
    yield from ((row, source) for row in inventory([source], statement))


def _base(source: Path) -> Path:
    clips = source.parent / _CLIP_FOLDER
    return clips if source.suffix == ".tsv" and clips.is_dir() else source.parent


def _table(path: Path) -> Iterator[dict[str, Any]]:
    check_ordinary(path)
    if path.suffix in (".csv", ".tsv"):
        yield from _separated(path, "\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".gz":
        yield from (_known(row) for row in _gzipped(path))
    elif path.suffix in (".jsonl", ".json"):
        yield from (_known(row) for _, row in read_rows(path))
    else:
        raise GovorError(f"{path} is no manifest: a folder, .jsonl, .csv, .tsv or .parquet was wanted.")


def _separated(path: Path, delimiter: str) -> Iterator[dict[str, Any]]:
    # Common Voice writes quotes as they are.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            for row in csv.DictReader(handle, delimiter=delimiter, quoting=quoting):
                yield {key: value for key, value in row.items() if key and value not in ("", None)}
    except UnicodeDecodeError:
        raise GovorError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except csv.Error as error:
        raise GovorError(f"{path} is not a readable table: {error}.") from None


def _gzipped(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            for number, line in enumerate(handle, start=1):
                yield parse_json(line, f"{path}:{number}: the line is not valid JSON")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise GovorError(f"{path} cannot be read as gzip: {error}.") from None


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """A JSONL row of lhotse or Qwen3-ASR in plain keys; every other row as it is."""
    if "supervisions" in row or ("recording" in row and "start" in row):
        try:
            return _from_cut(row)
        except (AttributeError, KeyError, TypeError, ValueError):
            return {
                "id": row.get("id"),
                "audio": "?",
                "error": "malformed_row: it looks like a lhotse cut and is none.",
            }
    match = _QWEN.fullmatch(str(row.get("text", ""))) if "text" in row else None
    if match is None:
        return row
    rest = {key: value for key, value in row.items() if key not in ("text", "prompt")}
    named = {"transcript": match["text"]}
    if _code_of(match["language"]) is None:
        named["qwen_language"] = match["language"]  # a language we have no code for keeps its name
    if row.get("prompt"):
        named["prev_transcript"] = row["prompt"]
    return {"language": _code_of(match["language"]), **rest, **named}


def _from_cut(cut: dict[str, Any]) -> dict[str, Any]:
    """A lhotse cut: recording, start and duration, supervisions as segments."""
    recording = cut.get("recording") or {}
    sources = recording.get("sources") or []
    if not sources or sources[0].get("type") != "file":
        return {"error": "unreadable: the cut has no recording in a file.", "id": cut.get("id"), "audio": "?"}
    channels = recording.get("channel_ids") or [0]
    wanted = cut.get("channel", 0)
    if len(channels) > 1 and sorted(wanted if isinstance(wanted, list) else [wanted]) != sorted(channels):
        message = f"one_channel: the cut is channel {wanted} of {len(channels)}; write each channel as a file first."
        return {"error": message, "id": cut.get("id"), "audio": sources[0]["source"]}
    supervisions = sorted(cut.get("supervisions") or [], key=lambda item: item.get("start", 0.0))
    first = supervisions[0] if supervisions else {}
    custom = {**(cut.get("custom") or {}), **(first.get("custom") or {})}
    row: dict[str, Any] = {
        "id": cut.get("id"),
        "audio": sources[0]["source"],
        "duration": cut.get("duration"),
        "transcript": custom.pop("transcript", None)
        or " ".join(str(s.get("text") or "") for s in supervisions).strip()
        or None,
        "language": first.get("language"),
        "speaker": custom.pop("speaker", None) or first.get("speaker"),
    }
    whole = abs(float(recording.get("duration", 0)) - float(cut.get("duration", 0))) < 0.01 and not cut.get("start")
    if not whole:
        row["offset"] = cut.get("start", 0.0)
    timed = len(supervisions) > 1 or custom.pop("timed", False)
    if timed:
        row["segments"] = [
            {
                "start": s["start"],
                "end": s["start"] + s["duration"],
                "text": s.get("text") or "",
                "speaker": s.get("speaker") if s.get("speaker") != row["speaker"] else None,
            }
            for s in supervisions
        ]
    return {**{key: value for key, value in row.items() if value is not None}, **custom}


def _outputs(files: list[Path]) -> Iterator[dict[str, Any]]:
    """Earlier results: `outputs/<file_id>/transcription*.json` with separated vocals or the audio it names."""
    for file in files:
        try:
            loaded = parse_json(read_text(file), "no JSON")
        except GovorError:
            yield {"error": f"bad_transcript: {file} is not valid JSON.", "id": file.parent.name, "audio": str(file)}
            continue
        inside = sorted(path for path in file.parent.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        vocals = next((path for path in inside if "vocals" in path.stem.lower()), inside[0] if inside else None)
        audio = loaded.get("audio") if isinstance(loaded, dict) else None
        row: dict[str, Any] = {
            "id": file.parent.name,
            "audio": str(vocals.resolve()) if vocals else audio or str(file.parent / "audio.wav"),
            "draft": True,
            "source": file.parent.name,
        }
        for key in ("text", "language", "segments", "license", "speaker"):
            if isinstance(loaded, dict) and loaded.get(key):
                row[key] = loaded[key]
        yield row


def _parquet(shards: list[Path], blob: Path | None) -> Iterator[tuple[dict[str, Any], Path]]:
    from govor.corpus.formats.parquet import rows_into_blob

    if blob is None:
        raise GovorError("Parquet holds the audio itself; name a manifest to write (--out), the audio goes beside it.")
    for shard in shards:
        check_ordinary(shard)
    yield from ((row, blob.parent) for row in rows_into_blob(shards, blob))


def _code_of(name: str) -> str | None:
    """The code of a language that Qwen3-ASR's format names in English."""
    return _CODES.get(name.strip().lower())


LANGUAGE_NAMES = {
    "he": "Hebrew",
    "bs": "Bosnian",
    "hr": "Croatian",
    "sr": "Serbian",
    "mg": "Malagasy",
    "en": "English",
    "cs": "Czech",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "ru": "Russian",
    "ar": "Arabic",
    "pl": "Polish",
    "pt": "Portuguese",
    "nl": "Dutch",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "sl": "Slovenian",
    "mk": "Macedonian",
    "bg": "Bulgarian",
    "yi": "Yiddish",
    "sw": "Swahili",
    "hi": "Hindi",
    "am": "Amharic",
    "th": "Thai",
    "zh": "Chinese",
    "ja": "Japanese",
    "ko": "Korean",
    "vi": "Vietnamese",
    "id": "Indonesian",
    "fa": "Persian",
    "el": "Greek",
    "hu": "Hungarian",
    "ro": "Romanian",
    "sv": "Swedish",
    "da": "Danish",
    "fi": "Finnish",
}
_CODES = {name.lower(): code for code, name in LANGUAGE_NAMES.items()}
