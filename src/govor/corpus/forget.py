"""Removing a speaker or a source on request: rows and audio go, a tombstone keeps them from coming back, and every run
whose manifests held them is named.

The tombstone holds hashes, no name: who asked to be forgotten does not stand in a file for ever. Names are the same however
their letters are composed. Text of a forgotten clip that the next one has as its context goes too, and so do results under
`outputs/`. What cannot be cleaned here (a parquet file, a report, sound that other rows need) is listed, never passed over.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from govor.audio import find_audio, split_blob
from govor.corpus.alike import name_key
from govor.corpus.inventory import MOVED_JOURNAL
from govor.corpus.manifests import read_rows, row_writer
from govor.corpus.moves import duplicates_folder, with_sidecars
from govor.corpus.records import Row, sentence_key
from govor.corpus.tombstones import tombstones_file
from govor.corpus.traces import find_left, find_runs, history_file
from govor.corpus.wishes import Plan, Wish
from govor.errors import GovorError
from govor.files import atomic_file, sha256_of
from govor.jsons import read_json, to_json
from govor.machine import now
from govor.runs import Workspace

_AUDIO = ("audio", "audio_filepath", "file_name", "path")
_HASHES = ("pcm_sha256", "sha256")
_LARGEST_FIELD = 100_000_000
_CONTEXT = ("prev_transcript", "prev_segments", "has_prev")
# A context so short is taken for a forgotten clip's only where it is the same.
_LONG_ENOUGH_LETTERS = 12


def forget(workspace: Workspace, wish: Wish, dry_run: bool = False) -> Plan:
    """Remove a speaker's or a source's rows and audio from a workspace, or with `dry_run` say what that would remove.

    Raises:
        GovorError: nothing of that name is there, or the name is blank.
    """
    removal = plan(workspace, wish)
    if not dry_run:
        carry_out(wish, removal)
    return removal


def plan(workspace: Workspace, wish: Wish) -> Plan:
    """Look through every manifest, inventory, evaluation and run of the workspace.

    Raises:
        GovorError: nothing of that name is there, or the name is blank.
    """
    if not name_key(wish.value):
        raise GovorError(f"'{wish.value}' is no name of a {wish.kind}: rows without one would all be meant.")
    removal = Plan(workspace)
    for path in _row_files(workspace):
        for row in _rows_of(path):
            removal.similar |= wish.nearly(row)
            if wish.covers(row):
                removal.sounds |= _sounds(workspace, row)
                removal.clips.add(str(row.get("id") or _audio_of(workspace, row, path)))
    if not removal.clips:
        like = f"; there is {', '.join(map(repr, sorted(removal.similar)))}" if removal.similar else ""
        raise GovorError(f"No row has the {wish.kind} '{wish.value}' in any manifest below manifests/ or data/{like}.")
    for path in _row_files(workspace):
        for row in _rows_of(path):
            if _meant(row, wish, removal):
                _note_words(row, removal)
    needed: set[str] = set()
    for path in _row_files(workspace):
        _plan_rows(path, wish, removal, needed)
    moved = _moved(workspace)
    for audio in removal.audio:
        _plan_audio(audio, needed, moved, removal)
    _plan_copies(removal, needed)
    find_runs(removal)
    find_left(wish, removal, set(_row_files(workspace)))
    return removal


def _plan_rows(path: Path, wish: Wish, plan: Plan, needed: set[str]) -> None:
    """What is done with the rows of one file; the audio of those that stay is `needed`."""
    name = plan.workspace.as_given(path)
    for row in _rows_of(path):
        audio = _audio_of(plan.workspace, row, path)
        if not _meant(row, wish, plan):
            needed |= {audio, str(split_blob(audio)[0])} if audio and split_blob(audio)[1] is None else {audio}
            if _quotes(row, wish, plan):
                plan.contexts[name] = plan.contexts.get(name, 0) + 1
            continue
        plan.rows[name] = plan.rows.get(name, 0) + 1
        _remember(row, plan)
        if audio:
            plan.audio.add(audio)


def carry_out(wish: Wish, plan: Plan) -> None:
    """Do what the plan says: tombstones first, then audio, then rows, so that a crash forgets too much and never too little."""
    workspace = plan.workspace
    digest = hashlib.sha256(name_key(wish.value).encode("utf-8", "surrogateescape")).hexdigest()
    stamp = {"when": now(), "kind": wish.kind, "value_sha256": digest}
    _append(tombstones_file(workspace), [{**row, **stamp} for row in plan.tombstones.values()])
    for file in plan.files:
        for beside in list(with_sidecars(file)):
            beside.unlink(missing_ok=True)
    for path, (offset, length) in plan.spans:
        with path.open("r+b") as handle:
            handle.seek(offset)
            handle.write(bytes(length))
    for folder in plan.outputs:
        shutil.rmtree(folder)
    for name in dict.fromkeys((*plan.rows, *plan.contexts)):
        path = workspace.path(name)
        before = sha256_of(path)
        _without(path, wish, plan)
        _append(history_file(workspace), [{"path": name, "before": before, "after": sha256_of(path)}])
    for partial in workspace.manifests.glob(".*.partial"):
        partial.unlink()  # only a help for an inventory that was interrupted
    _forget_moves(workspace)


def _row_files(workspace: Workspace) -> Iterator[Path]:
    own = (tombstones_file(workspace), history_file(workspace))
    for folder in (workspace.manifests, workspace.data):
        for suffix in ("jsonl", "csv", "tsv"):
            for path in sorted(folder.rglob(f"*.{suffix}")):
                if path not in own and not path.name.startswith("."):
                    yield path


def _rows_of(path: Path) -> Iterator[Row]:
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


def _cells(handle: TextIO, path: Path) -> Iterator[list[str]]:
    csv.field_size_limit(_LARGEST_FIELD)
    if path.suffix == ".tsv":
        return csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.reader(handle)


def _audio_of(workspace: Workspace, row: Row, path: Path) -> str:
    """The row's audio as the workspace names it; a table below a folder names it from there."""
    named = next((str(row[key]) for key in _AUDIO if row.get(key)), "")
    for base in (path.parent, path.parent / "clips"):
        if named and not Path(named).is_absolute() and not workspace.path(split_blob(named)[0]).exists():
            named = workspace.relative(base / named) if (base / named).exists() else named
    return workspace.relative(workspace.path(named)) if named else ""


def _sounds(workspace: Workspace, row: Row) -> set[str]:
    """What identifies the sound of a row wherever it stands; ids are unique in one manifest only."""
    known = {f"{key}:{row[key]}" for key in _HASHES if row.get(key) and (key != "sha256" or row.get("offset") is None)}
    audio = next((str(row[key]) for key in ("audio", "audio_filepath") if row.get(key)), None)
    return known | ({f"audio:{_place(workspace.path(audio))}|{row.get('offset')}"} if audio else set())


def _meant(row: Row, wish: Wish, plan: Plan) -> bool:
    return wish.covers(row) or bool(_sounds(plan.workspace, row) & plan.sounds)


def _note_words(row: Row, plan: Plan) -> None:
    """What a forgotten clip says, by where it is from."""
    for key in ("transcript", "transcript_raw", "text", "sentence"):
        written = sentence_key(str(row.get(key) or ""))
        if written:
            plan.said.setdefault(_where(row), set()).add(written)


def _where(row: Row) -> str:
    """Neighbours share their source, or the recording that they are parts of."""
    return name_key(str(row.get("source") or row.get("audio") or ""))


def _quotes(row: Row, wish: Wish, plan: Plan) -> bool:
    """Whether a row that stays has words of a forgotten clip as its context."""
    if not any(row.get(key) for key in _CONTEXT[:2]):
        return False
    if wish.kind == "speaker" and wish.covers({"segments": row.get("prev_segments")}):
        return True
    before = sentence_key(str(row.get("prev_transcript") or ""))
    if not before:
        return False
    near = plan.said.get(_where(row), set())
    return before in near or any(
        min(len(said), len(before)) >= _LONG_ENOUGH_LETTERS and (said in before or before in said) for said in near
    )


def _remember(row: Row, plan: Plan) -> None:
    hashes = {key: row[key] for key in _HASHES if row.get(key)}
    if row.get("offset") is not None:
        hashes.pop("sha256", None)  # the file is not only theirs
    if hashes:
        plan.tombstones[to_json(hashes)] = hashes


def _plan_audio(audio: str, needed: set[str], moved: dict[str, Path], plan: Plan) -> None:
    path, span = split_blob(audio)
    if audio in needed or (span is None and str(path) in needed):
        plan.kept_audio.add(audio)
    elif span is not None:
        plan.spans.add((plan.workspace.path(path), span))
    elif plan.workspace.path(path).is_file():
        plan.files.add(plan.workspace.path(path))
    elif str(path) in moved and moved[str(path)].is_file():
        plan.files.add(moved[str(path)])


def _plan_copies(plan: Plan, needed: set[str]) -> None:
    """The same bytes in folders that were exported, moved away as copies, or written for a page; results of such audio."""
    workspace = plan.workspace
    wanted = {_place(workspace.path(name)) for name in needed}
    sizes = {file.stat().st_size for file in plan.files}
    digests = {sha256_of(file) for file in plan.files}
    for folder in (workspace.manifests, workspace.uploads, workspace.data, workspace.reports, workspace.outputs):
        for file in find_audio(folder) if folder.is_dir() else ():
            if _place(file) in wanted or file in plan.files or file.stat().st_size not in sizes:
                continue
            if sha256_of(file) in digests:
                plan.files.add(file)
    # A recording without a known hash would come back.
    known = {row.get("sha256") for row in plan.tombstones.values()}
    plan.tombstones |= {digest: {"sha256": digest} for digest in digests - known}
    gone = {_place(path) for path in (*plan.files, *map(workspace.path, plan.audio - plan.kept_audio))}
    for result in sorted(workspace.outputs.glob("*/*.json")):
        try:
            about = read_json(result)
        except GovorError:
            continue
        named = about.get("audio") if isinstance(about, dict) else None
        if named and _place(workspace.path(str(named))) in gone and not result.parent.is_symlink():
            plan.outputs.add(result.parent)


def _place(path: Path) -> str:
    """One spelling of a path."""
    return os.path.abspath(path)  # noqa: PTH100  (resolve() would follow the user's links)


def _journal(workspace: Workspace) -> Path:
    return duplicates_folder(workspace) / MOVED_JOURNAL


def _moved(workspace: Workspace) -> dict[str, Path]:
    """Where validation moved copies to."""
    journal = _journal(workspace)
    if not journal.exists():
        return {}
    rows = (row for _, row in read_rows(journal))
    return {workspace.relative(workspace.path(row["from"])): workspace.path(row["to"]) for row in rows}


def _forget_moves(workspace: Workspace) -> None:
    """What is gone cannot be moved back."""
    journal = _journal(workspace)
    if journal.exists():
        there = [row for _, row in read_rows(journal) if workspace.path(row["to"]).exists()]
        with row_writer(journal) as write:
            for row in there:
                write(row)


def _without(path: Path, wish: Wish, plan: Plan) -> None:
    if path.suffix == ".jsonl":
        with row_writer(path) as write:
            for _, row in read_rows(path):
                inner = row.get("row")
                clip = inner if isinstance(inner, dict) else row
                if _meant(clip, wish, plan):
                    continue
                if _quotes(clip, wish, plan):
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
            if _meant(clip, wish, plan):
                continue
            named = itertools.zip_longest(header, fields, fillvalue="")
            quotes = _quotes(clip, wish, plan)
            lines.append(["" if name in _CONTEXT else cell for name, cell in named] if quotes else fields)
        if path.suffix == ".tsv":
            target.writelines("\t".join(row) + "\n" for row in lines)
        else:
            csv.writer(target, lineterminator="\n").writerows(lines)


def _append(path: Path, rows: list[Row]) -> None:
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    with atomic_file(path) as handle:
        handle.write(before)
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
