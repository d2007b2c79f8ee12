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

from govor.audio import AUDIO_SUFFIXES
from govor.corpus.diskmap import DiskMap
from govor.corpus.formats.cuts import from_cut, is_cut
from govor.corpus.formats.rows import AUDIO_KEYS, LackingError, clip_of, made_ids, shown
from govor.corpus.formats.tables import table_rows
from govor.corpus.inventory import Statement, find_recordings, inventory, notes_on, passed_over
from govor.corpus.manifests import rejected
from govor.corpus.records import Clip, Row
from govor.corpus.sources import split_of
from govor.errors import AudioError, GovorError
from govor.languages import language_code
from govor.runs import Workspace

Dropped = Callable[[Row], None]
Notice = Callable[[str], None]
_QWEN = re.compile(r"language (?P<language>[^<]*)<asr_text>(?P<text>.*)", re.DOTALL)
_CLIP_FOLDER = "clips"
_TABLES = ("metadata.csv", "metadata.jsonl")
_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class _SourceRow:
    """A row as it stands somewhere, the folder its paths may start from, and where it stands."""

    row: Row
    base: Path
    where: str


def read_source(
    workspace: Workspace,
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
    with DiskMap() as parts, DiskMap() as named:
        reader = _Reader(workspace, source, statement, dropped, blob, known_as or blob, notice, named)
        for item in reader.rows():
            try:
                clip = clip_of(workspace, item.row, item.base, statement, item.where)
            except LackingError as error:
                lacking = lacking or error
                dropped(rejected(shown(item.row), error.rule, message=str(error)))
                continue
            except GovorError as error:
                others = True
                rule = error.rule if isinstance(error, AudioError) else "malformed_row"
                dropped(rejected(shown(item.row), rule, message=str(error)))
                continue
            others = True
            part = f"{clip.audio} {clip.offset} {clip.duration}"
            made = item.row.get("id") in (None, "")
            name = next(
                (name for name in (clip.id, *(made_ids(clip) if made else ())) if parts.get(name) in (None, part)), ""
            )
            if not name or name in parts:
                why = "the row has no id, and its part of the file stands twice" if made else "the id stands twice"
                dropped(rejected(shown(item.row), "duplicate_id", clip.id, "unique", why))
                continue
            parts[name] = part
            yield clip if name == clip.id else clip.replace(id=name)
    if lacking and not others:
        raise GovorError(str(lacking))


def source_holds_audio(source: Path) -> bool:
    """Whether reading `source` means taking audio out of parquet."""
    return source.suffix == ".parquet" or (source.is_dir() and any(source.glob("**/*.parquet")))


@dataclass(frozen=True, slots=True)
class _Reader:
    """The rows of a source, whatever layouts lie there; `named` holds the absolute path of every recording that a row names."""

    workspace: Workspace
    source: Path
    statement: Statement
    dropped: Dropped
    blob: Path | None
    known_as: Path | None
    notice: Notice
    named: DiskMap

    def rows(self) -> Iterator[_SourceRow]:
        """Every row, in a fixed order."""
        source = self.source
        if source.is_dir():
            yield from self._folder()
        elif not source.exists():
            raise GovorError(f"{source} was not found.")
        elif source.suffix == ".parquet":
            yield from self._parquet([source], source.parent)
        else:
            clips = source.parent / _CLIP_FOLDER
            yield from self._table(source, clips if source.suffix == ".tsv" and clips.is_dir() else source.parent)
            if source.name in _TABLES:  # a list of what lies beside it
                unnamed = [path for path in find_recordings(source.parent) if not self._is_named(path)]
                if unnamed:
                    self.notice(f"{len(unnamed)} recordings beside {source} are named by no row: {_some(unnamed)}")

    def _folder(self) -> Iterator[_SourceRow]:
        """Every layout that lies in a folder, then the recordings that nothing has named: pairs, unless a table stands in
        their folder or above."""
        source = self.source
        tables = [table for name in _TABLES for table in sorted(source.glob(f"**/{name}")) if table.is_file()]
        strict = {table.parent for table in tables}  # their tables are lists of all there is
        for table in tables:
            split = split_of(table.relative_to(source).as_posix())
            for item in self._table(table, table.parent):
                yield _SourceRow({"split": split, **item.row}, item.base, item.where) if split else item
        loose: set[Path] = set()  # their tables name some of what is there
        voices = [source / name for name in ("validated.tsv", "train.tsv", "dev.tsv", "test.tsv")]
        voices = self._free([voice for voice in voices if voice.is_file()], strict, "Common Voice tables")
        clips = source / _CLIP_FOLDER
        if voices and clips.is_dir():
            loose.add(clips)
            for table in voices[:1] if voices[0].name == "validated.tsv" else voices:
                yield from self._table(table, clips)
        shards = self._free(sorted(source.glob("**/*.parquet")), strict, "parquet files")
        if shards:
            yield from self._parquet(shards, source)
        for cuts in self._free(sorted(source.glob("*cuts*.jsonl*")), strict, "files of cuts"):
            loose.add(source)
            yield from self._table(cuts, source)
        earlier = self._free(sorted(source.glob("*/transcription*.json")), strict, "earlier results")
        yield from self._noting(self._outputs(earlier))
        yield from self._left_over(strict, loose, {file.parent for file in earlier})

    def _free(self, paths: list[Path], strict: set[Path], what: str) -> list[Path]:
        """Those that no table speaks for; the others are named."""
        free: list[Path] = []
        passed: list[Path] = []
        for path in paths:
            (passed if any(folder in path.parents for folder in strict) else free).append(path)
        if passed:
            self.notice(f"{len(passed)} {what} beside a metadata table were not read: {_some(passed)}")
        return free

    def _left_over(self, strict: set[Path], loose: set[Path], results: set[Path]) -> Iterator[_SourceRow]:
        """Recordings that no row has named: listed as dropped where a table should have, counted where it need not have, and
        read as pairs elsewhere. What an earlier result separated a recording into is no recording."""
        unnamed: list[Path] = []
        count, pairs = 0, 0
        for path in find_recordings(self.source):
            above = set(path.parents)
            if self._is_named(path) or above & results:
                continue
            if not above & (strict | loose):
                pairs += 1
                continue
            count += 1
            unnamed = [*unnamed, path] if len(unnamed) < _NAMED_AT_MOST else unnamed
            if above & strict:
                message = "no row of the table in its folder names this recording"
                row = {"audio": self.workspace.relative(path)}
                self.dropped(rejected(row, "named_by_no_row", message=message))
        if count:
            self.notice(f"{count} recordings below {self.source} are named by no row: {_some(unnamed, count)}")
        if pairs or not (strict or loose or results):
            skip = strict | loose | results
            yield from self._pairs(lambda path: self._is_named(path) or bool(skip & set(path.parents)))

    def _pairs(self, unless: Callable[[Path], bool]) -> Iterator[_SourceRow]:
        """Recordings with their words beside them."""
        prefixes: Counter[str] = Counter()
        for row in inventory(self.workspace, [self.source], self.statement, unless=unless):
            prefixes.update(row.get("speaker_prefixes") or {})
            yield _SourceRow(row, self.source, str(row["audio"]))
        for note in notes_on(prefixes, passed_over(self.source)):
            self.notice(note)

    def _table(self, path: Path, base: Path) -> Iterator[_SourceRow]:
        return self._noting(
            _SourceRow(
                _known(row if row.get("line") != where else {**row, "line": self.workspace.in_words(where)}),
                base,
                where,
            )
            for row, where in table_rows(path, self.statement.encoding)
        )

    def _noting(self, rows: Iterable[_SourceRow]) -> Iterator[_SourceRow]:
        """The same rows; the recordings they name are noted."""
        for item in rows:
            value = next((item.row[key] for key in AUDIO_KEYS if item.row.get(key)), None)
            if isinstance(value, str):
                for path in (item.base / value, self.workspace.path(value)):
                    self.named[os.path.abspath(path)] = ""  # noqa: PTH100
            yield item

    def _is_named(self, path: Path) -> bool:
        return os.path.abspath(path) in self.named  # noqa: PTH100  (resolve() would follow the user's links)

    def _outputs(self, files: list[Path]) -> Iterator[_SourceRow]:
        """Earlier results: `outputs/<file_id>/transcription*.json` with separated vocals or the audio it names."""
        for file in files:
            try:
                loaded = json.loads(file.read_text(encoding="utf-8-sig"))
            except (OSError, ValueError, RecursionError):
                problem = AudioError("bad_transcript", f"{file} is not valid JSON.")
                named = self.workspace.as_given(file)
                yield _SourceRow({"error": problem, "id": file.parent.name, "audio": named}, file.parent, str(file))
                continue
            inside = sorted(path for path in file.parent.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
            vocals = next((path for path in inside if "vocals" in path.stem.lower()), inside[0] if inside else None)
            audio = loaded.get("audio") if isinstance(loaded, dict) else None
            row: Row = {
                "id": file.parent.name,
                "audio": str(vocals.resolve())
                if vocals
                else audio or self.workspace.as_given(file.parent / "audio.wav"),
                "draft": True,
                "source": file.parent.name,
            }
            for key in ("text", "language", "segments", "license", "speaker"):
                if isinstance(loaded, dict) and loaded.get(key):
                    row[key] = loaded[key]
            yield _SourceRow(row, file.parent, str(file))

    def _parquet(self, shards: list[Path], folder: Path) -> Iterator[_SourceRow]:
        from govor.corpus.formats.parquet import rows_into_blob

        if self.blob is None or self.known_as is None:
            raise GovorError(
                "Parquet holds the audio itself; name a manifest to write (--out), the audio goes beside it."
            )
        rows = rows_into_blob(shards, self.blob, self.workspace.relative(self.known_as))
        for number, row in enumerate(rows, start=1):
            yield _SourceRow(row, self.blob.parent, f"{folder if len(shards) > 1 else shards[0]}: row {number}")


def _some(paths: list[Path], count: int = 0) -> str:
    shown = ", ".join(str(path) for path in paths[:_NAMED_AT_MOST])
    return shown + (", …" if max(count, len(paths)) > _NAMED_AT_MOST else "")


def _known(row: Row) -> Row:
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
    named: Row = {"transcript": match["text"]}
    try:
        language: str | None = language_code(match["language"])
    except GovorError:
        language = None
        named["qwen_language"] = match["language"]  # a language we have no code for keeps its name
    if row.get("prompt"):
        named["prev_transcript"] = row["prompt"]
    return {"language": language, **rest, **named}
