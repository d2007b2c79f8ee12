"""What exists: every recording below some folders, readable or not, with or without a transcript."""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TextIO

from govor import engine
from govor.audio import AUDIO_SUFFIXES, find_audio, probe
from govor.corpus import transcripts
from govor.corpus.cells import to_cell
from govor.corpus.diskmap import DiskMap
from govor.corpus.language import guess
from govor.corpus.provenance import Provenance, item_file, of_recording, there
from govor.corpus.records import Row, segment_row
from govor.corpus.speakers import one_person
from govor.corpus.transcripts import Transcript
from govor.errors import AudioError, GovorError
from govor.files import sha256_of
from govor.jsons import to_json
from govor.languages import language_code, language_key
from govor.runs import Workspace

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
    "transcript_note",
    "speaker_prefixes",
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
    "speaker_prefixes",
)
# The first that can be read is taken: what carries most comes first, words without times last.
TRANSCRIPT_SUFFIXES = (
    ".json",
    ".srt",
    ".vtt",
    ".lrc",
    ".ass",
    ".ssa",
    ".ttml",
    ".dfxp",
    ".sbv",
    ".json3",
    ".TextGrid",
    ".eaf",
    ".tsv",
    ".txt",
)
# These may be about anything; only what is a transcript is one.
_OF_ANYTHING = (".json", ".tsv")
_MAX_TRANSCRIPT_BYTES = 1_000_000
_MAX_TIMED_BYTES = 20_000_000  # a time for every word of some hours
_LEGACY_ENCODINGS = {"he": "cp1255", "yi": "cp1255", "ru": "cp1251", "ar": "cp1256", "el": "cp1253", "tr": "cp1254"}


@dataclass(frozen=True, slots=True)
class Statement:
    """What the user states about a whole folder; it wins over what is written beside the recordings."""

    language: str | None = None
    license: str | None = None
    speaker: str | None = None
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """The transcript beside a recording, and what was passed over before it was found."""

    transcript: Transcript
    file: Path
    note: str | None = None


def find_recordings(folder: Path) -> Iterator[Path]:
    """Audio files below `folder`, sorted within each folder; links to folders are not followed."""
    if not folder.exists():
        raise GovorError(f"The folder {folder} was not found.")
    if folder.is_file():
        raise GovorError(f"{folder} is a file; a folder of recordings was wanted.")
    yield from find_audio(folder, unless=MOVED_JOURNAL)


# What may stand beside recordings without being one, or the words of one.
_COMPANIONS = frozenset(
    {".md", ".yaml", ".yml", ".csv", ".jsonl", ".tsv", ".parquet", ".blob", ".idx", ".log", ".html"}
)


def passed_over(folder: Path) -> Counter[str]:
    """How many files below `folder` are neither recordings nor transcripts, by suffix: what may be a recording that cannot be
    read, or a text in a format that is not."""
    known = {*AUDIO_SUFFIXES, *_COMPANIONS, *map(str.lower, TRANSCRIPT_SUFFIXES)}
    suffix_counts: Counter[str] = Counter()
    for _, folders, files in os.walk(folder):
        if MOVED_JOURNAL in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        suffixes = (Path(name).suffix.lower() for name in files if not name.startswith("."))
        suffix_counts.update(suffix for suffix in suffixes if suffix not in known)
    return suffix_counts


def notes_on(prefixes: Counter[str], passed: Counter[str]) -> Iterator[str]:
    """What people should know of a look through folders: the names that were taken for speakers, the files passed over."""
    if prefixes:
        yield f"rule speaker_prefix: names before a colon were taken for speakers: {_most(prefixes)}"
    if passed:
        yield f"passed over, neither recordings nor transcripts that can be read: {_most(passed)}"


def _most(counted: Counter[str]) -> str:
    """The ten most frequent."""
    named = ((name or "without a suffix", count) for name, count in counted.most_common(10))
    first = ", ".join(f"{count} {name if name.isprintable() else ascii(name)}" for name, count in named)
    return first + (f" and {len(counted) - 10} more kinds" if len(counted) > 10 else "")


def inventory(
    workspace: Workspace,
    folders: list[Path],
    statement: Statement,
    engine_name: engine.Engine = "processes",
    known: DiskMap | None = None,
    unless: Callable[[Path], bool] | None = None,
) -> Iterator[Row]:
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
    work = ((item, known.get(workspace.relative(item[0])) if known else None) for item in pairs)
    with DiskMap() as first:
        for row in engine.map(work, partial(_row, statement=statement, workspace=workspace), engine_name):
            digest = row["sha256"]
            if digest:
                original = first.setdefault(digest, row["id"])
                row["duplicate"] = original != row["id"]
                row["duplicate_of"] = original if row["duplicate"] else None
            yield row


def is_inventory_row(row: Mapping[str, object]) -> bool:
    """Whether a row is of our own inventory; in any other table a key like `error` means something else."""
    return all(key in row for key in INVENTORY_ONLY)


class CsvTable:
    """The inventory for a spreadsheet; columns as in COLUMNS. `from_cell` brings a text back."""

    def __init__(self, handle: TextIO) -> None:
        self._writer = csv.DictWriter(handle, COLUMNS, extrasaction="ignore", lineterminator="\n")
        self._writer.writeheader()

    def __call__(self, row: Row) -> None:
        shown = {key: to_json(value) if isinstance(value, dict) else value for key, value in row.items()}
        self._writer.writerow({key: to_cell(value) for key, value in shown.items()})


def transcripts_beside(audio: Path) -> Iterator[tuple[str, Path]]:
    """(suffix, file) of every transcript of `audio`, the one that is taken first; `REC1.WAV` has `REC1.TXT`, `rec1.txt` or
    `REC1.WAV.txt`, as whisper.cpp names what it writes."""
    stems = dict.fromkeys((audio.stem, audio.stem.lower(), audio.stem.upper(), audio.name))
    for suffix in TRANSCRIPT_SUFFIXES:
        suffixes = dict.fromkeys(
            (suffix, suffix.lower(), suffix.upper(), suffix.capitalize(), f".{suffix[1:].title()}")
        )
        for stem, ending in itertools.product(stems, suffixes):
            file = audio.with_name(stem + ending)
            if there(file):
                yield suffix.lower(), file
                break


def read_transcript(audio: Path, encoding: str | None = None, language: str | None = None) -> Beside | None:
    """Words and times that stand beside `x.wav`, in the first file of TRANSCRIPT_SUFFIXES that holds any: one that is empty
    or cannot be read gives way to the next, and the note says so.

    Returns None without such a file (a `.json` may be about anything).

    Raises:
        AudioError: files are there, and none can be read as a transcript.
    """
    refused: AudioError | None = None
    empty: Beside | None = None
    passed: list[str] = []
    for suffix, file in transcripts_beside(audio):
        try:
            text = _text_of(file, encoding, language)
            if suffix in _OF_ANYTHING and transcripts.is_about_else(text, suffix):
                continue
            candidate = Beside(transcripts.read(text, suffix), file)
        except AudioError as error:
            message = str(error) if str(error).startswith(str(file)) else f"{file}: {error}"
            refused = refused or AudioError(error.rule, message)
            passed.append(message)
            continue
        if candidate.transcript.text:
            note = f"{file.name} was read, since {'; '.join(passed)}" if passed else None
            return replace(candidate, note=note)
        empty = empty or candidate
        passed.append(f"{file} holds no words")
    if refused:
        raise refused
    return empty


def _text_of(file: Path, encoding: str | None, language: str | None) -> str:
    most = _MAX_TRANSCRIPT_BYTES if file.suffix.lower() == ".txt" else _MAX_TIMED_BYTES
    try:
        if file.stat().st_size > most:
            raise AudioError("bad_transcript", f"{file} is larger than {most} bytes; it is no transcript of a clip.")
        data = file.read_bytes()
    except OSError as error:
        raise AudioError("bad_transcript", f"{file} cannot be read: {error.strerror}.") from None
    # A byte order mark tells more surely than anybody can state.
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        wanted = "utf-32"
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        wanted = "utf-16"
    elif data.startswith(b"\xef\xbb\xbf"):
        wanted = "utf-8-sig"
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
    usual = _LEGACY_ENCODINGS.get(language_key(language))
    if usual:
        return usual
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


def _row(work: tuple[tuple[Path, Path, Path, str], str | None], statement: Statement, workspace: Workspace) -> Row:
    (path, folder, base, label), earlier = work
    row: Row = dict.fromkeys(COLUMNS)
    relative = path.relative_to(folder)
    row |= {
        "id": f"{label}/{relative.with_suffix('').as_posix()}{_suffix_if_shared(path)}",
        "audio": workspace.relative(path),
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
        beside = read_transcript(path, statement.encoding, row["language"])
        if beside is not None:
            row |= _said(beside, info.duration_seconds, row["speaker"])
    except AudioError as error:
        row["error"] = f"{error.rule}: {error}"
    except GovorError as error:
        row["error"] = f"bad_provenance: {error}"
    except OSError as error:
        row["error"] = f"unreadable: {path} cannot be opened: {error.strerror}."
    except (ValueError, OverflowError, RecursionError) as error:  # whatever stands beside it must not stop the others
        row["error"] = f"bad_transcript: what stands beside {path} cannot be read: {str(error)[:100]}."
    return row | {key: workspace.in_words(row[key]) for key in ("error", "transcript_note") if row[key]}


def _said(beside: Beside, seconds: float, speaker: str | None) -> Row:
    """What a transcript says of a recording of that length."""
    said = beside.transcript
    row: Row = {
        "transcript": said.text,
        "transcript_present": bool(said.text),
        "language_guess": guess(said.text),
        "transcript_note": beside.note,
    }
    if said.segments:
        row["segments"] = [segment_row(segment) for segment in transcripts.closed(said.segments, seconds)]
    if said.words:
        row["words"] = [dict(word) for word in said.words]
    if said.prefixes:
        row["speaker_prefixes"] = dict(said.prefixes)
    if speaker is None:
        names = [segment.speaker for segment in said.segments] or list(said.speakers)
        row["speaker"] = one_person(names)
    if not said.segments and len(said.speakers) > 1:
        row["speakers"] = list(said.speakers)
    return row


def _stated(statement: Statement, stated: Provenance) -> Row:
    return {
        "language": statement.language or (stated.language and language_code(stated.language)),
        "license": statement.license or stated.license,
        "speaker": statement.speaker or stated.speaker,
        "extra_terms": stated.extra_terms,
        "source_url": stated.source_url,
        "date": stated.date,
        **({"dataset": stated.dataset} if stated.dataset else {}),
    }


def _taken_over(earlier: str | None, row: Row, size_bytes: int) -> Row | None:
    """An earlier row where nothing has changed; what is stated now replaces what was stated then."""
    if earlier is None:
        return None
    import json

    before: Row = json.loads(earlier)
    same = before.get("stamp") == row["stamp"] and before.get("size_bytes") in (size_bytes, None)
    if not same or not before.get("sha256") or str(before.get("error") or "").startswith("bad_"):
        return None
    now = ("id", "source", "dataset", "language", "license", "speaker", "extra_terms", "source_url", "date")
    stated = {name: row[name] for name in now}
    if stated["speaker"] is None:  # whoever alone speaks in the transcript
        names = [s.get("speaker") for s in before.get("segments") or () if isinstance(s, dict)]
        stated["speaker"] = one_person(names or list(before.get("speaker_prefixes") or ()))
    return {**dict.fromkeys(COLUMNS), **before, **stated, "duplicate": False, "duplicate_of": None}


def _stamp(path: Path, status: os.stat_result) -> str:
    """Changes whenever the recording, or anything beside it that states something of it, does."""
    parts = [f"{status.st_mtime_ns} {status.st_size}"]
    statements = (item_file(path),) if there(item_file(path)) else ()
    for beside in (*(file for _, file in transcripts_beside(path)), *statements):
        state = beside.stat()
        parts.append(f"{beside.suffix} {state.st_mtime_ns} {state.st_size}")
    return hashlib.blake2b("|".join(parts).encode(), digest_size=8).hexdigest()


def folder_source(path: Path, folder: Path, label: str) -> str:
    """The source recording a clip is guessed to come from: its sub-folder, or itself where there is none."""
    parts = path.relative_to(folder).parent.parts
    return "/".join((label, *(parts or (path.stem,))))


def _suffix_if_shared(path: Path) -> str:
    """`a.wav` and `a.mp3` in one folder are two recordings and need two ids."""
    shared = any(path.with_suffix(suffix).exists() for suffix in AUDIO_SUFFIXES if suffix != path.suffix)
    return path.suffix if shared else ""
