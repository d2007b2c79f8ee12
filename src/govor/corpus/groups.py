"""What dividing a manifest needs of its rows, as columns of numbers, and the groups that may not be parted."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from govor.corpus.alike import name_key
from govor.corpus.records import Clip, sentence_key
from govor.corpus.speakers import is_diarised
from govor.languages import language_key

# What may not stand in two parts. Audio is the same where stretches of one file overlap, by its path or its hash.
KINDS = ("speaker", "source", "near_duplicate_group", "pcm_sha256", "audio")
_SLACK_SECONDS = 0.1  # neighbouring slices may share so much of their edge
LENGTH_EDGES_SECONDS = (2.0, 5.0, 10.0, 20.0)
_CLASS_KEYS = ("label", "endpoint_bool", "class", "dialect")

Codes = npt.NDArray[np.int64]


@dataclass
class Table:
    """What dividing needs of a manifest's rows, one entry a row in each column; equal codes are equal values, 0 is none.

    `more_speakers` are (row, code) of those who speak in a row beside its speaker.
    """

    ids: list[str] = field(default_factory=list)
    # Packed: lists of Python numbers would take five times the memory.
    seconds: array[float] = field(default_factory=lambda: array("d"))
    starts: array[float] = field(default_factory=lambda: array("d"))
    ends: array[float] = field(default_factory=lambda: array("d"))
    columns: dict[str, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    more_speakers: array[int] = field(default_factory=lambda: array("q"))
    here: Path = field(default_factory=Path.cwd)  # two spellings of one file, relative and absolute, are equal
    language: list[str] = field(default_factory=list)
    stratum: list[str] = field(default_factory=list)

    def add(self, clip: Clip) -> None:
        """The next row."""
        self.ids.append(clip.id)
        self.seconds.append(clip.duration)
        for kind in ("speaker", "source"):
            self.columns[kind].append(_code(name_key(getattr(clip, kind) or "")))
        for name in {name_key(name) for name in _others(clip)} - {""}:
            if not is_diarised(name):  # SPEAKER_00 of one recording is not the one of the next
                self.more_speakers.extend((len(self.ids) - 1, _code(name)))
        for kind in ("near_duplicate_group", "pcm_sha256", "sha256"):
            self.columns[kind].append(_code(getattr(clip, kind)))
        path = _code(os.path.normpath(self.here / clip.root / name_key(clip.audio)) if clip.audio else None)
        self.columns["path"].append(path)
        # Parts of one file come from one recording, whatever source is stated.
        self.columns["recording"].append(path if clip.offset is not None else 0)
        self.starts.append(clip.offset or 0.0)
        self.ends.append(float("inf") if clip.offset is None else clip.offset + clip.duration)
        # Rows in which nothing is written share no sentence.
        written = any(letter.isalnum() for letter in clip.transcript)
        self.columns["sentence"].append(_code(sentence_key(clip.transcript) if written else None))
        self.columns["id"].append(_code(clip.id))
        self.language.append(_interned(language_key(clip.language)))
        band = int(np.searchsorted(LENGTH_EDGES_SECONDS, clip.duration, side="right"))
        self.stratum.append(_interned(f"{band}|{_class_of(clip)}"))

    @cached_property
    def arrays(self) -> dict[str, Codes]:
        """The columns as arrays."""
        return {kind: np.frombuffer(values, np.int64) for kind, values in self.columns.items()}

    @cached_property
    def links(self) -> dict[str, tuple[Codes, Codes]]:
        """(rows, codes) of each kind: a row may have several values, or none."""
        more = np.array(self.more_speakers, np.int64).reshape(-1, 2)
        columns = {
            kind: [(np.arange(len(self.ids)), self.arrays[kind])]
            for kind in ("speaker", "source", "near_duplicate_group", "pcm_sha256", "sentence", "id")
        }
        columns["speaker"].append((more[:, 0], more[:, 1]))
        columns["source"].append((np.arange(len(self.ids)), self.arrays["recording"]))
        columns["audio"] = [(np.arange(len(self.ids)), self._stretches(self.arrays[key])) for key in ("path", "sha256")]
        result = {}
        for kind, pairs in columns.items():
            rows, codes = (np.concatenate(side) for side in zip(*pairs, strict=True))
            result[kind] = (rows[codes != 0], codes[codes != 0])
        return result

    def _stretches(self, files: Codes) -> Codes:
        """A code for the rows of one file whose stretches of it overlap, from one to the next; 0 where a row has its file alone."""
        starts, ends = np.array(self.starts), np.array(self.ends)
        codes = np.zeros(len(files), np.int64)
        _, file_of, counts = np.unique(files, return_inverse=True, return_counts=True)
        shared = np.flatnonzero((counts[file_of] > 1) & (files != 0))
        file, until, code = 0, 0.0, 0
        for number in shared[np.lexsort((starts[shared], files[shared]))]:
            if files[number] != file or starts[number] >= until - _SLACK_SECONDS:
                file, until = int(files[number]), 0.0
                code = _code(f"{file} {starts[number]}")
            until = max(until, ends[number])
            codes[number] = code
        return codes


def groups_of(table: Table, kinds: list[str]) -> dict[str, Codes]:
    """Connected components of rows that share a value of any kind: row numbers by the smallest id among them."""
    count = len(table.ids)
    parent = np.arange(count)

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = int(parent[number])
        return number

    for kind in kinds:
        rows, codes = table.links[kind]
        order = np.argsort(codes, kind="stable")
        for place in np.flatnonzero(codes[order][1:] == codes[order][:-1]):
            first, second = sorted((root(int(rows[order[place]])), root(int(rows[order[place + 1]]))))
            parent[second] = first
    members: dict[int, list[int]] = defaultdict(list)
    for number in range(count):
        members[root(number)].append(number)
    named = ((min(table.ids[number] for number in rows), rows) for rows in members.values())
    return {name: np.array(rows, np.int64) for name, rows in sorted(named)}


def _code(value: str | None) -> int:
    """A number for a text, the same in every run; 0 for none."""
    if not value:
        return 0
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


_INTERNED: dict[str, str] = {}


def _interned(text: str) -> str:
    return _INTERNED.setdefault(text, text)


def _others(clip: Clip) -> Iterator[str]:
    """Who speaks in a row beside its speaker: in segments, in words, or in the list of a transcript without times."""
    yield from (segment.speaker for segment in clip.segments if segment.speaker)
    listed = clip.extra.get("speakers")
    named = [word.get("speaker") for word in clip.words] + (listed if isinstance(listed, list) else [])
    yield from (str(name) for name in named if name is not None)


def _class_of(clip: Clip) -> str:
    """What a clip is: its labels, or what its row names one of _CLASS_KEYS."""
    if clip.labels:
        return ", ".join(f"{name}={label}" for name, label in sorted(clip.labels.items()))
    return next((f"{clip.to_row().get(key)}" for key in _CLASS_KEYS if _has(clip, key)), "")


def _has(clip: Clip, key: str) -> bool:
    return key in clip.extra or getattr(clip, key, None) is not None
