"""What is asked to be forgotten, and everything in a workspace that it means."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from govor.corpus.alike import name_key
from govor.corpus.records import Row
from govor.runs import Workspace

Kind = Literal["speaker", "source"]
SPEAKER_KEYS = ("speaker", "speaker_id", "client_id")


def same_source(row: Row, wanted: str) -> bool:
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

    def covers(self, row: Row) -> bool:
        """Whether a row is meant: one who speaks in it, its source or its dataset."""
        if self.kind == "source":
            return same_source(row, self.value)
        return name_key(self.value) in _named(row)

    def nearly(self, row: Row) -> set[str]:
        """Names in a row that differ from the wish's by case alone: whose they are is for a person to say."""
        stated = {name_key(str(row[key])) for key in ("source", "dataset") if row.get(key) is not None}
        names = _named(row) if self.kind == "speaker" else stated
        wanted = name_key(self.value)
        return {name for name in names if name != wanted and name.casefold() == wanted.casefold()}


def _named(row: Row) -> set[str]:
    """Everybody who speaks in a row: its speaker, and those of its segments, of its words and of its list."""
    named = [row.get(key) for key in SPEAKER_KEYS] + _speakers_in(row, "segments") + _speakers_in(row, "words")
    named += _listed(row, "speakers")
    return {name_key(str(name)) for name in named if name is not None}


def _speakers_in(row: Row, key: str) -> list[object]:
    return [item.get("speaker") for item in _listed(row, key) if isinstance(item, dict)]


def _listed(row: Row, key: str) -> list[object]:
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
    """What forgetting would do, or did: files by their names in the workspace, and as they can be opened where they are paths."""

    workspace: Workspace
    rows: dict[str, int] = field(default_factory=dict)
    contexts: dict[str, int] = field(default_factory=dict)
    clips: set[str] = field(default_factory=set)
    said: dict[str, set[str]] = field(default_factory=dict)
    audio: set[str] = field(default_factory=set)
    similar: set[str] = field(default_factory=set)
    outputs: set[Path] = field(default_factory=set)
    sounds: set[str] = field(default_factory=set)
    tombstones: dict[str, Row] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)
    spans: set[tuple[Path, tuple[int, int]]] = field(default_factory=set)
    kept_audio: set[str] = field(default_factory=set)
    runs: list[str] = field(default_factory=list)
    unknown_runs: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    def as_dict(self) -> Row:
        """For people and machines."""
        return {
            "clips": len(self.clips),
            "rows_by_file": self.rows,
            "contexts_emptied_by_file": self.contexts,
            "outputs_removed": sorted(map(self.workspace.as_given, self.outputs)),
            "audio_files": len(self.files),
            "audio_spans_blanked": len(self.spans),
            "audio_kept_for_others": sorted(self.kept_audio),
            "runs_that_used_them": self.runs,
            "runs_that_cannot_be_checked": self.unknown_runs,
            "files_that_still_hold_them": self.left,
            "files_beside_the_audio_that_name_them": self.beside,
            "names_that_differ_by_case": sorted(self.similar),
        }
