"""Where files of copies go: moved out of the way, never deleted, with a journal that moves them back."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from govor.audio import AUDIO_SUFFIXES, split_blob
from govor.corpus.inventory import MOVED_JOURNAL, transcripts_beside
from govor.corpus.manifests import read_rows
from govor.corpus.provenance import item_file, there
from govor.corpus.records import Row, audio_path
from govor.errors import GovorError
from govor.jsons import parse_json, to_json
from govor.runs import Workspace


@dataclass(frozen=True, slots=True)
class Move:
    """A file that goes out of the way, with its transcript and provenance; both paths are relative to the workspace."""

    source: Path
    target: Path
    reason: str


def duplicates_folder(workspace: Workspace) -> Path:
    """Where copies are moved to."""
    return workspace.uploads / "duplicates"


def move_duplicates(workspace: Workspace, validated: Path, dry_run: bool = False) -> list[Move]:
    """Move the files of the copies that validation dropped; `validated` is the folder of its kept.jsonl and dropped.jsonl.
    Returns the moves, which `dry_run` does not carry out."""
    dropped = (row for _, row in read_rows(validated / "dropped.jsonl"))
    staying = (row["audio"] for _, row in read_rows(validated / "kept.jsonl"))
    folder = duplicates_folder(workspace)
    moves = list(plan_moves(workspace, dropped, staying, folder))
    if moves and not dry_run:
        move(workspace, moves, folder)
    return moves


def plan_moves(workspace: Workspace, dropped: Iterable[Row], kept: Iterable[str], folder: Path) -> Iterator[Move]:
    """What moving the copies would do. A file that a kept clip still needs, or a part of a larger file, stays.

    Args:
        dropped: rows of dropped.jsonl.
        kept: the audio of every kept clip.
        folder: where copies go (`uploads/duplicates`).
    """
    needed = {str(split_blob(audio)[0]) for audio in kept}
    for item in dropped:
        row = item["row"]
        if item["rule"] not in ("duplicate_file", "duplicate_audio", "near_duplicate"):
            continue
        path, span = split_blob(row["audio"])
        there_now = Path(audio_path(str(path), workspace.root))
        if span is not None or row.get("offset") is not None or str(path) in needed or not there_now.is_file():
            continue
        inside = Path(*[part for part in path.parts if part not in (path.anchor, "..")])
        for file in with_sidecars(there_now):
            target = Path(workspace.as_given(folder / inside.with_name(file.name)))
            yield Move(path.with_name(file.name), target, item["message"])


def with_sidecars(audio: Path) -> Iterator[Path]:
    """The recording and what stands beside it for it alone: `a.txt` stays where `a.flac` needs it after `a.wav` goes."""
    shared = any(there(audio.with_suffix(suffix)) for suffix in AUDIO_SUFFIXES if suffix != audio.suffix.lower())
    words = () if shared else (*(file for _, file in transcripts_beside(audio)), audio.with_suffix(".norm.txt"))
    for file in (audio, *words, item_file(audio)):
        if there(file):
            yield file


def move(workspace: Workspace, moves: Iterable[Move], folder: Path) -> int:
    """Carry moves out; each is written to the journal before it happens. Returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with (folder / MOVED_JOURNAL).open("a", encoding="utf-8", errors="backslashreplace") as journal:
        for item in moves:
            source, target = workspace.path(item.source), workspace.path(item.target)
            if target.exists():
                raise GovorError(f"{target} already exists; undo the earlier moves first (govor validate --undo).")
            entry = {"from": str(item.source), "to": str(item.target), "reason": item.reason}
            journal.write(to_json(entry) + "\n")
            journal.flush()
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)
            count += 1
    return count


def undo(workspace: Workspace, folder: Path | None = None) -> tuple[int, list[str]]:
    """Move everything in the journal of `folder` (`uploads/duplicates`) back; returns how many, and what could not be moved."""
    journal = (folder or duplicates_folder(workspace)) / MOVED_JOURNAL
    if not journal.exists():
        raise GovorError(f"{journal} was not found: no duplicates have been moved.")
    back, failed = 0, []
    for line in reversed(journal.read_text(encoding="utf-8").splitlines()):
        entry = parse_json(line, f"{journal} is damaged")
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("from", "to")):
            raise GovorError(f"{journal} is damaged: a line names no 'from' and 'to'; move the files back by hand.")
        source, target = workspace.path(entry["from"]), workspace.path(entry["to"])
        if not target.exists():
            if not source.exists():
                failed.append(f"{entry['to']} is gone")
        elif source.exists():
            failed.append(f"{entry['from']} exists again, so {entry['to']} stays where it is")
        else:
            source.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(target, source)
            back += 1
    if not failed:
        journal.unlink()
    return back, failed
