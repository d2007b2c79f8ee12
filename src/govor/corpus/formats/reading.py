"""Which layout a path holds, and its rows.

Read: folders of `x.wav` + `x.txt|srt|vtt|lrc|json`, audiofolder (`metadata.csv|jsonl`, also below `train/`, `test/`),
NeMo and govor JSONL, Common Voice TSV, lhotse cuts, parquet with embedded audio, Qwen3-ASR JSONL, earlier results under
`outputs/<file_id>/`. A folder may hold several of them; a recording that none of its tables names is not passed over in
silence.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from govor.audio import AUDIO_SUFFIXES
from govor.corpus.formats.cuts import from_cut, is_cut
from govor.corpus.formats.rows import AUDIO_KEYS, LackingError, clip_of, made_ids, shown
from govor.corpus.formats.tables import table_rows
from govor.corpus.inventory import Statement, find_recordings, inventory, notes_on, passed_over
from govor.corpus.manifests import rejected
from govor.corpus.ondisk import DiskMap
from govor.corpus.records import Clip
from govor.corpus.sources import split_of
from govor.errors import AudioError, GovorError
from govor.files import workspace_path
from govor.languages import language_code

Dropped = Callable[[dict[str, Any]], None]
Notice = Callable[[str], None]
_QWEN = re.compile(r"language (?P<language>[^<]*)<asr_text>(?P<text>.*)", re.DOTALL)
_CLIP_FOLDER = "clips"
_TABLES = ("metadata.csv", "metadata.jsonl")
_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class _Found:
    """A row as it stands somewhere, the folder its paths may start from, and where it stands."""

    row: dict[str, Any]
    base: Path
    where: str


def read_source(
    source: Path,
    statement: Statement,
    dropped: Dropped,
    blob: Path | None = None,
    known_as: Path | None = None,
    notice: Notice = lambda _: None,
) -> Iterator[Clip]:
    """Clips of whatever `source` is; rows that cannot be used go to `dropped` with their reason.

    Args:
        blob: where audio embedded in parquet is put, as it is encoded; needed for parquet alone.
        known_as: what rows call the blob, where it is to be renamed.
        notice: is told what lies there and was not read.

    Raises:
        GovorError: no known layout, a table whose rows cannot be told apart, or one in which every row lacks its audio or
            its language.
    """
    lacking: LackingError | None = None
    others = False
    with DiskMap() as seen:
        for found in _rows(source, statement, blob, known_as, notice, dropped):
            try:
                clip = clip_of(found.row, found.base, statement, found.where)
            except LackingError as error:
                lacking = lacking or error
                dropped(rejected(shown(found.row), error.rule, message=str(error)))
                continue
            except GovorError as error:
                others = True
                rule = error.rule if isinstance(error, AudioError) else "malformed_row"
                dropped(rejected(shown(found.row), rule, message=str(error)))
                continue
            others = True
            part = f"{clip.audio} {clip.offset} {clip.duration}"
            made = found.row.get("id") in (None, "")
            name = next(
                (name for name in (clip.id, *(made_ids(clip) if made else ())) if seen.get(name) in (None, part)), ""
            )
            if not name or name in seen:
                why = "the row has no id, and its part of the file stands twice" if made else "the id stands twice"
                dropped(rejected(shown(found.row), "duplicate_id", clip.id, "unique", why))
                continue
            seen[name] = part
            yield clip if name == clip.id else clip.replace(id=name)
    if lacking and not others:
        raise GovorError(str(lacking))


def source_holds_audio(source: Path) -> bool:
    """Whether reading `source` means taking audio out of parquet."""
    return source.suffix == ".parquet" or (source.is_dir() and any(source.glob("**/*.parquet")))


def _rows(
    source: Path, statement: Statement, blob: Path | None, known_as: Path | None, notice: Notice, dropped: Dropped
) -> Iterator[_Found]:
    if source.is_dir():
        with DiskMap() as named:
            yield from _folder(source, statement, blob, known_as, notice, dropped, named)
    elif not source.exists():
        raise GovorError(f"{source} was not found.")
    elif source.suffix == ".parquet":
        yield from _parquet([source], source.parent, blob, known_as)
    else:
        clips = source.parent / _CLIP_FOLDER
        base = clips if source.suffix == ".tsv" and clips.is_dir() else source.parent
        with DiskMap() as named:
            yield from _noting(_table(source, base, statement), named)
            if source.name in _TABLES:  # a list of what lies beside it
                unnamed = [path for path in find_recordings(source.parent) if os.path.abspath(path) not in named]  # noqa: PTH100
                if unnamed:
                    notice(f"{len(unnamed)} recordings beside {source} are named by no row: {_some(unnamed)}")


def _folder(
    source: Path,
    statement: Statement,
    blob: Path | None,
    known_as: Path | None,
    notice: Notice,
    dropped: Dropped,
    named: DiskMap,
) -> Iterator[_Found]:
    """Every layout that lies in a folder, then the recordings that nothing has named: pairs, unless a table stands in
    their folder or above."""
    tables = [table for name in _TABLES for table in sorted(source.glob(f"**/{name}")) if table.is_file()]
    strict = {table.parent for table in tables}  # their tables are lists of all there is
    for table in tables:
        split = split_of(table.relative_to(source).as_posix())
        for found in _noting(_table(table, table.parent, statement), named):
            yield _Found({"split": split, **found.row}, found.base, found.where) if split else found

    def free(paths: Iterable[Path], what: str) -> list[Path]:
        """Those that no table speaks for; the others are named."""
        kept: list[Path] = []
        passed: list[Path] = []
        for path in paths:
            (passed if any(folder in path.parents for folder in strict) else kept).append(path)
        if passed:
            notice(f"{len(passed)} {what} beside a metadata table were not read: {_some(passed)}")
        return kept

    loose: set[Path] = set()  # their tables name some of what is there
    voices = [source / name for name in ("validated.tsv", "train.tsv", "dev.tsv", "test.tsv")]
    voices = free([voice for voice in voices if voice.is_file()], "Common Voice tables")
    clips = source / _CLIP_FOLDER
    if voices and clips.is_dir():
        loose.add(clips)
        for table in voices[:1] if voices[0].name == "validated.tsv" else voices:
            yield from _noting(_table(table, clips, statement), named)
    shards = free(sorted(source.glob("**/*.parquet")), "parquet files")
    if shards:
        yield from _parquet(shards, source, blob, known_as)
    for cuts in free(sorted(source.glob("*cuts*.jsonl*")), "files of cuts"):
        loose.add(source)
        yield from _noting(_table(cuts, source, statement), named)
    earlier = free(sorted(source.glob("*/transcription*.json")), "earlier results")
    results = {file.parent for file in earlier}
    yield from _noting(_outputs(earlier), named)
    yield from _left_over(source, statement, named, strict, loose, results, notice, dropped)


def _left_over(
    source: Path,
    statement: Statement,
    named: DiskMap,
    strict: set[Path],
    loose: set[Path],
    results: set[Path],
    notice: Notice,
    dropped: Dropped,
) -> Iterator[_Found]:
    """Recordings that no row has named: listed as dropped where a table should have, counted where it need not have, and
    read as pairs elsewhere. What an earlier result separated a recording into is no recording."""
    unnamed: list[Path] = []
    passed, count, pairs = 0, 0, False
    for path in find_recordings(source):
        above = set(path.parents)
        if os.path.abspath(path) in named or above & results:  # noqa: PTH100
            continue
        if above & (strict | loose):
            count += 1
            unnamed = [*unnamed, path] if len(unnamed) < _NAMED_AT_MOST else unnamed
            if above & strict:
                message = "no row of the table in its folder names this recording"
                dropped(rejected({"audio": workspace_path(path)}, "named_by_no_row", message=message))
            else:
                passed += 1
        else:
            pairs = True
    if count:
        notice(f"{count} recordings below {source} are named by no row: {_some(unnamed, count)}")
    if pairs or not (strict or loose or results):
        skip = strict | loose | results

        def unless(path: Path) -> bool:
            return os.path.abspath(path) in named or bool(skip & set(path.parents))  # noqa: PTH100

        prefixes: Counter[str] = Counter()
        for row in inventory([source], statement, unless=unless):
            prefixes.update(row.get("speaker_prefixes") or {})
            yield _Found(row, source, str(row["audio"]))
        for note in notes_on(prefixes, passed_over(source)):
            notice(note)


def _noting(rows: Iterable[_Found], named: DiskMap) -> Iterator[_Found]:
    """The same rows; the recordings they name are noted."""
    for found in rows:
        value = next((found.row[key] for key in AUDIO_KEYS if found.row.get(key)), None)
        if isinstance(value, str):
            for path in (found.base / value, Path(value)):
                named[os.path.abspath(path)] = ""  # noqa: PTH100
        yield found


def _some(paths: list[Path], count: int = 0) -> str:
    shown = ", ".join(str(path) for path in paths[:_NAMED_AT_MOST])
    return shown + (", …" if max(count, len(paths)) > _NAMED_AT_MOST else "")


def _table(path: Path, base: Path, statement: Statement) -> Iterator[_Found]:
    return (_Found(_known(row), base, where) for row, where in table_rows(path, statement.encoding))


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """A row of lhotse or Qwen3-ASR in plain keys; every other row as it is."""
    if isinstance(row.get("error"), AudioError):
        return row
    if is_cut(row):
        return from_cut(row)
    text = row.get("text")
    match = _QWEN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return row
    rest = {key: value for key, value in row.items() if key not in ("text", "prompt")}
    named: dict[str, Any] = {"transcript": match["text"]}
    try:
        language: str | None = language_code(match["language"])
    except GovorError:
        language = None
        named["qwen_language"] = match["language"]  # a language we have no code for keeps its name
    if row.get("prompt"):
        named["prev_transcript"] = row["prompt"]
    return {"language": language, **rest, **named}


def _outputs(files: list[Path]) -> Iterator[_Found]:
    """Earlier results: `outputs/<file_id>/transcription*.json` with separated vocals or the audio it names."""
    for file in files:
        try:
            loaded = json.loads(file.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            problem = AudioError("bad_transcript", f"{file} is not valid JSON.")
            yield _Found({"error": problem, "id": file.parent.name, "audio": str(file)}, file.parent, str(file))
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
        yield _Found(row, file.parent, str(file))


def _parquet(shards: list[Path], folder: Path, blob: Path | None, known_as: Path | None) -> Iterator[_Found]:
    from govor.corpus.formats.parquet import rows_into_blob

    if blob is None:
        raise GovorError("Parquet holds the audio itself; name a manifest to write (--out), the audio goes beside it.")
    for number, row in enumerate(rows_into_blob(shards, blob, known_as), start=1):
        yield _Found(row, blob.parent, f"{folder if len(shards) > 1 else shards[0]}: row {number}")
