"""Removing a speaker or a source on request: rows and audio go, a tombstone keeps them from coming back, and every run
whose manifests held them is named.

The tombstone holds hashes, no name: who asked to be forgotten does not stand in a file for ever. Names are the same however
their letters are composed. Text of a forgotten clip that the next one has as its context goes too, and so do results under
`outputs/`. What cannot be cleaned here (a parquet file, a report, sound that other rows need) is listed, never passed over.
"""

from __future__ import annotations

import csv
import hashlib
import html
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from govor.audio import find_audio, split_blob
from govor.corpus.alike import name_key
from govor.corpus.duplicates import with_sidecars
from govor.corpus.inventory import MOVED_JOURNAL
from govor.corpus.manifests import read_rows, row_writer
from govor.corpus.records import sentence_key
from govor.corpus.tombstones import FILE
from govor.errors import GovorError
from govor.files import atomic_file, sha256_of
from govor.jsons import read_json, to_json
from govor.machine import now

HISTORY = Path("manifests") / "forgotten_from.jsonl"
MOVES = Path("uploads") / "duplicates" / MOVED_JOURNAL
Kind = Literal["speaker", "source"]
_SPEAKERS = ("speaker", "speaker_id", "client_id")
_AUDIO = ("audio", "audio_filepath", "file_name", "path")
_HASHES = ("pcm_sha256", "sha256")
_LARGEST_FIELD = 100_000_000
# What may hold a name, a clip's id or its words beside rows of clips.
_TEXTS = frozenset(
    {".html", ".js", ".json", ".jsonl", ".md", ".yaml", ".yml", ".log", ".txt", ".srt", ".vtt", ".lrc", ".csv", ".tsv"}
)
_CONTEXT = ("prev_transcript", "prev_segments", "has_prev")
# A context so short is taken for a forgotten clip's only where it is the same.
_LONG_ENOUGH_LETTERS = 12


def same_source(row: dict[str, Any], wanted: str) -> bool:
    """Whether a row is of a source, or of a folder of sources, or of a dataset. Sources begin with the folder that was
    inventoried (`recordings/tape-3`), which need not be said."""
    source, wanted = name_key(str(row.get("source") or "")), name_key(wanted)
    below = source.partition("/")[2]
    if not wanted:
        return False
    return wanted == name_key(str(row.get("dataset") or "")) or any(
        s == wanted or s.startswith(f"{wanted}/") for s in (source, below)
    )


@dataclass(frozen=True, slots=True)
class Wish:
    """Who or what is to be forgotten."""

    kind: Kind
    value: str

    def covers(self, row: dict[str, Any]) -> bool:
        """Whether a row is meant: one who speaks in it, its source or its dataset."""
        if self.kind == "source":
            return same_source(row, self.value)
        return name_key(self.value) in _named(row)

    def nearly(self, row: dict[str, Any]) -> set[str]:
        """Names in a row that differ from the wish's by case alone: whose they are is for a person to say."""
        stated = {name_key(str(row[key])) for key in ("source", "dataset") if row.get(key) is not None}
        found = _named(row) if self.kind == "speaker" else stated
        wanted = name_key(self.value)
        return {name for name in found if name != wanted and name.casefold() == wanted.casefold()}


def _named(row: dict[str, Any]) -> set[str]:
    """Everybody who speaks in a row: its speaker, and those of its segments, of its words and of its list."""
    named = [row.get(key) for key in _SPEAKERS] + _speakers_in(row, "segments") + _speakers_in(row, "words")
    named += _listed(row, "speakers")
    return {name_key(str(name)) for name in named if name is not None}


def _speakers_in(row: dict[str, Any], key: str) -> list[Any]:
    return [item.get("speaker") for item in _listed(row, key) if isinstance(item, dict)]


def _listed(row: dict[str, Any], key: str) -> list[Any]:
    """A list of a row; tables hold it as JSON, or names of people with a sign between."""
    value = row.get(key)
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, str) and key == "speakers":
        return re.split("[;|,]", value)
    return value if isinstance(value, list) else []


@dataclass
class Plan:
    """What forgetting would do, or did."""

    rows: dict[str, int] = field(default_factory=dict)
    contexts: dict[str, int] = field(default_factory=dict)
    clips: set[str] = field(default_factory=set)
    said: dict[str, set[str]] = field(default_factory=dict)
    audio: set[str] = field(default_factory=set)
    similar: set[str] = field(default_factory=set)
    outputs: set[Path] = field(default_factory=set)
    sounds: set[str] = field(default_factory=set)
    tombstones: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)
    spans: set[tuple[Path, tuple[int, int]]] = field(default_factory=set)
    kept_audio: set[str] = field(default_factory=set)
    runs: list[str] = field(default_factory=list)
    unknown_runs: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For people and machines."""
        return {
            "clips": len(self.clips),
            "rows_by_file": self.rows,
            "contexts_emptied_by_file": self.contexts,
            "outputs_removed": sorted(map(str, self.outputs)),
            "audio_files": len(self.files),
            "audio_spans_blanked": len(self.spans),
            "audio_kept_for_others": sorted(self.kept_audio),
            "runs_that_used_them": self.runs,
            "runs_that_cannot_be_checked": self.unknown_runs,
            "files_that_still_hold_them": self.left,
            "files_beside_the_audio_that_name_them": self.beside,
            "names_that_differ_by_case": sorted(self.similar),
        }


def plan(wish: Wish) -> Plan:
    """Look through every manifest, inventory, evaluation and run of the workspace.

    Raises:
        GovorError: nothing of that name is there, or the name is blank.
    """
    if not name_key(wish.value):
        raise GovorError(f"'{wish.value}' is no name of a {wish.kind}: rows without one would all be meant.")
    found = Plan()
    for path in _row_files():
        for row in _rows_of(path):
            found.similar |= wish.nearly(row)
            if wish.covers(row):
                found.sounds |= _sounds(row)
                found.clips.add(str(row.get("id") or _audio_of(row, path)))
    if not found.clips:
        like = f"; there is {', '.join(map(repr, sorted(found.similar)))}" if found.similar else ""
        raise GovorError(f"No row has the {wish.kind} '{wish.value}' in any manifest below manifests/ or data/{like}.")
    for path in _row_files():
        for row in _rows_of(path):
            if _meant(row, wish, found):
                _hear(row, found)
    needed: set[str] = set()
    meant: dict[str, dict[str, Any]] = {}
    for path in _row_files():
        for row in _rows_of(path):
            audio = _audio_of(row, path)
            if not _meant(row, wish, found):
                needed |= {audio, str(split_blob(audio)[0])} if audio and split_blob(audio)[1] is None else {audio}
                if _quotes(row, wish, found):
                    found.contexts[str(path)] = found.contexts.get(str(path), 0) + 1
                continue
            found.rows[str(path)] = found.rows.get(str(path), 0) + 1
            _remember(row, found)
            if audio:
                found.audio.add(audio)
                meant[f"{audio}|{row.get('offset')}"] = {"audio": audio}
    moved = _moved()
    for row in meant.values():
        _plan_audio(row["audio"], needed, moved, found)
    _plan_copies(found, needed)
    _find_runs(found)
    _find_left(wish, found)
    return found


def carry_out(wish: Wish, found: Plan) -> None:
    """Do what the plan says: tombstones first, then audio, then rows, so that a crash forgets too much and never too little."""
    digest = hashlib.sha256(name_key(wish.value).encode("utf-8", "surrogateescape")).hexdigest()
    stamp = {"when": now(), "kind": wish.kind, "value_sha256": digest}
    _append(FILE, [{**row, **stamp} for row in found.tombstones.values()])
    for file in found.files:
        for beside in list(with_sidecars(file)):
            beside.unlink(missing_ok=True)
    for path, (offset, length) in found.spans:
        with path.open("r+b") as handle:
            handle.seek(offset)
            handle.write(bytes(length))
    for folder in found.outputs:
        shutil.rmtree(folder)
    for name in dict.fromkeys((*found.rows, *found.contexts)):
        path = Path(name)
        before = sha256_of(path)
        _without(path, wish, found)
        _append(HISTORY, [{"path": path.as_posix(), "before": before, "after": sha256_of(path)}])
    for partial in Path("manifests").glob(".*.partial"):
        partial.unlink()  # only a help for an inventory that was interrupted
    _forget_moves(found)


def _row_files() -> Iterator[Path]:
    for folder in (Path("manifests"), Path("data")):
        for suffix in ("jsonl", "csv", "tsv"):
            for path in sorted(folder.rglob(f"*.{suffix}")):
                if path not in (FILE, HISTORY) and not path.name.startswith("."):
                    yield path


def _rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Manifest rows; of a rejected row, the row inside."""
    if path.suffix == ".jsonl":
        for _, row in read_rows(path):
            inner = row.get("row")
            yield inner if isinstance(inner, dict) else row
        return
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        cells = _cells(handle, path)
        header = next(cells, [])
        for fields in cells:
            yield dict(zip(header, fields, strict=False))


def _cells(handle: Any, path: Path) -> Iterator[list[str]]:
    csv.field_size_limit(_LARGEST_FIELD)
    if path.suffix == ".tsv":
        return csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.reader(handle)


def _audio_of(row: dict[str, Any], path: Path) -> str:
    """The row's audio as the workspace names it; a table below a folder names it from there."""
    named = next((str(row[key]) for key in _AUDIO if row.get(key)), "")
    for base in (path.parent, path.parent / "clips"):
        if named and not Path(named).is_absolute() and not split_blob(named)[0].exists() and (base / named).exists():
            named = str(base / named)
    return _spelled(named) if named else ""


def _sounds(row: dict[str, Any]) -> set[str]:
    """What identifies the sound of a row wherever it stands; ids are unique in one manifest only."""
    known = {f"{key}:{row[key]}" for key in _HASHES if row.get(key) and (key != "sha256" or row.get("offset") is None)}
    audio = next((str(row[key]) for key in ("audio", "audio_filepath") if row.get(key)), None)
    return known | ({f"audio:{_place(Path(audio))}|{row.get('offset')}"} if audio else set())


def _meant(row: dict[str, Any], wish: Wish, found: Plan) -> bool:
    return wish.covers(row) or bool(_sounds(row) & found.sounds)


def _hear(row: dict[str, Any], found: Plan) -> None:
    """What a forgotten clip says, by where it is from."""
    for key in ("transcript", "transcript_raw", "text", "sentence"):
        written = sentence_key(str(row.get(key) or ""))
        if written:
            found.said.setdefault(_where(row), set()).add(written)


def _where(row: dict[str, Any]) -> str:
    """Neighbours share their source, or the recording that they are parts of."""
    return name_key(str(row.get("source") or row.get("audio") or ""))


def _quotes(row: dict[str, Any], wish: Wish, found: Plan) -> bool:
    """Whether a row that stays has words of a forgotten clip as its context."""
    if not any(row.get(key) for key in _CONTEXT[:2]):
        return False
    if wish.kind == "speaker" and wish.covers({"segments": row.get("prev_segments")}):
        return True
    before = sentence_key(str(row.get("prev_transcript") or ""))
    if not before:
        return False
    near = found.said.get(_where(row), set())
    return before in near or any(
        min(len(said), len(before)) >= _LONG_ENOUGH_LETTERS and (said in before or before in said) for said in near
    )


def _remember(row: dict[str, Any], found: Plan) -> None:
    hashes = {key: row[key] for key in _HASHES if row.get(key)}
    if row.get("offset") is not None:
        hashes.pop("sha256", None)  # the file is not only theirs
    if hashes:
        found.tombstones[to_json(hashes)] = hashes


def _plan_audio(audio: str, needed: set[str], moved: dict[str, Path], found: Plan) -> None:
    path, span = split_blob(audio)
    if audio in needed or (span is None and str(path) in needed):
        found.kept_audio.add(audio)
    elif span is not None:
        found.spans.add((path, span))
    elif path.is_file():
        found.files.add(path)
    elif str(path) in moved and moved[str(path)].is_file():
        found.files.add(moved[str(path)])


def _plan_copies(found: Plan, needed: set[str]) -> None:
    """The same bytes in folders that were exported, moved away as copies, or written for a page; results of such audio."""
    wanted = {_place(Path(name)) for name in needed}
    sizes = {file.stat().st_size for file in found.files}
    digests = {sha256_of(file) for file in found.files}
    for name in ("manifests", "uploads", "data", "reports", "outputs"):
        for file in find_audio(Path(name)) if Path(name).is_dir() else ():
            if _place(file) in wanted or file in found.files or file.stat().st_size not in sizes:
                continue
            if sha256_of(file) in digests:
                found.files.add(file)
    # A recording without a known hash would come back.
    known = {row.get("sha256") for row in found.tombstones.values()}
    found.tombstones |= {digest: {"sha256": digest} for digest in digests - known}
    gone = {_place(Path(name)) for name in (*map(str, found.files), *(found.audio - found.kept_audio))}
    for result in sorted(Path("outputs").glob("*/*.json")):
        try:
            about = read_json(result)
        except GovorError:
            continue
        named = about.get("audio") if isinstance(about, dict) else None
        if named and _place(Path(str(named))) in gone and not result.parent.is_symlink():
            found.outputs.add(result.parent)


def _spelled(name: str) -> str:
    """One spelling of a path, from here where it lies below."""
    place = Path(_place(Path(name)))
    return str(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place)


def _place(path: Path) -> str:
    """One spelling of a path."""
    return os.path.normpath(Path.cwd() / path)


def _moved() -> dict[str, Path]:
    """Where validation moved copies to."""
    if not MOVES.exists():
        return {}
    return {_spelled(row["from"]): Path(row["to"]) for _, row in read_rows(MOVES)}


def _forget_moves(found: Plan) -> None:
    """What is gone cannot be moved back."""
    if MOVES.exists():
        kept = [row for _, row in read_rows(MOVES) if Path(row["to"]).exists()]
        with row_writer(MOVES) as write:
            for row in kept:
                write(row)


def _find_runs(found: Plan) -> None:
    """Runs by their record: what they name must be the manifest as it was, or as it was before earlier forgetting."""
    after: dict[tuple[str, str], str] = {}
    if HISTORY.exists():
        after = {(row["path"], row["before"]): row["after"] for _, row in read_rows(HISTORY)}
    touched = {*found.rows, *found.contexts}
    for record in sorted(Path("models").glob("*/*/run_manifest.json")):
        data = read_json(record).get("data") or {}
        states = [_state(entry, after) for entry in data.values() if isinstance(entry, dict) and "path" in entry]
        if any(known and path in touched for path, known in states):
            found.runs.append(str(record.parent))
        elif not all(known for _, known in states):
            found.unknown_runs.append(str(record.parent))


def _state(entry: dict[str, Any], after: dict[tuple[str, str], str]) -> tuple[str, bool]:
    path, digest = Path(entry["path"]), str(entry.get("sha256"))
    while (path.as_posix(), digest) in after:
        digest = after[path.as_posix(), digest]
    return str(path), path.exists() and sha256_of(path) == digest


def _find_left(wish: Wish, found: Plan) -> None:
    """Files that are not ours to cut rows out of: parquet whose columns name them; pages, summaries, results and logs whose
    text does; tables and notes that lie beside their audio."""
    for path in sorted(Path("manifests").rglob("*.parquet")):
        if _parquet_holds(path, wish, found):
            found.left.append(str(path))
    named = _Names({wish.value, *found.clips} if len(wish.value) > 2 else found.clips)
    going = {beside for file in found.files for beside in with_sidecars(file)} | {FILE, HISTORY}
    rows = set(_row_files())
    # In a log, a number is rather a step than a clip's id.
    elsewhere = _Names({name for name in (wish.value, *found.clips) if len(name) > 2 and not name.isdigit()})
    for folder, names in (("reports", named), ("manifests", named), ("models", named),
                          *((other, elsewhere) for other in ("outputs", "logs", "data", "uploads"))):  # fmt: skip
        found_here = Path(folder).glob("*/*/*.md") if folder == "models" else Path(folder).rglob("*")
        for path in sorted({path for path in found_here if path.suffix.lower() in _TEXTS} - rows - going):
            inside = path == MOVES or any(gone in path.parents for gone in found.outputs)
            if path.is_file() and not inside and names.stand_in(path):
                found.left.append(str(path))
    if wish.kind == "speaker":
        folders = {folder for file in found.files for folder in (file.parent, file.parent.parent)}
        notes = {path for folder in folders for path in folder.glob("*") if path.suffix.lower() in _TEXTS}
        for path in sorted(notes - rows - going - set(map(Path, found.left))):
            if path.is_file() and _Names({wish.value}).stand_in(path):
                found.beside.append(str(path))


class _Names:
    """Names and ids looked for in texts, as whole words, whichever way their letters are composed or escaped."""

    _BREAKS = re.compile(r"""[\s"'<>,;:()\[\]{}|=&\\]+""")

    def __init__(self, names: set[str]) -> None:
        self._plain: set[str] = set()
        others: set[str] = set()
        for form in {name_key(written) for name in names for written in (name, html.escape(name))} - {""}:
            (others if self._BREAKS.search(form) else self._plain).add(form)
        self._others = sorted(others)

    def stand_in(self, path: Path) -> bool:
        """Whether any of them does. Ids by the hundred thousand are looked up, not tried one by one."""
        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
        except OSError:
            return True  # nobody can tell, so it is named
        words = {name_key(word) for word in self._BREAKS.split(text)}
        words |= {word.strip(".!?/#-") for word in words} | {part for word in words for part in word.split("/")}
        if words & self._plain:
            return True
        line = name_key(text) if self._others else ""
        return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", line) for name in self._others if name in line)


def _parquet_holds(path: Path, wish: Wish, found: Plan) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in (*_SPEAKERS, "source", "dataset", "id")]
            for batch in file.iter_batches(columns=columns):
                if any(wish.covers(row) or str(row.get("id")) in found.clips for row in batch.to_pylist()):
                    return True
    except (pa.ArrowInvalid, OSError):
        return True  # nobody can tell, so it is named
    return False


def _without(path: Path, wish: Wish, found: Plan) -> None:
    if path.suffix == ".jsonl":
        with row_writer(path) as write:
            for _, row in read_rows(path):
                inner = row.get("row")
                clip = inner if isinstance(inner, dict) else row
                if _meant(clip, wish, found):
                    continue
                if _quotes(clip, wish, found):
                    for key in _CONTEXT:
                        clip.pop(key, None)
                write(row)
        return
    with (
        path.open(encoding="utf-8", errors="surrogateescape", newline="") as handle,
        atomic_file(path, errors="surrogateescape") as target,
    ):
        cells = _cells(handle, path)
        header = next(cells, [])
        lines = [header]
        for fields in cells:
            clip = dict(zip(header, fields, strict=False))
            if _meant(clip, wish, found):
                continue
            named = itertools.zip_longest(header, fields, fillvalue="")
            quotes = _quotes(clip, wish, found)
            lines.append(["" if name in _CONTEXT else cell for name, cell in named] if quotes else fields)
        if path.suffix == ".tsv":
            target.writelines("\t".join(row) + "\n" for row in lines)
        else:
            csv.writer(target, lineterminator="\n").writerows(lines)


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    held = path.read_text(encoding="utf-8") if path.exists() else ""
    with atomic_file(path) as handle:
        handle.write(held)
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
