"""The manifest row."""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from govor.corpus.alike import SERBIAN_TO_LATIN
from govor.errors import GovorError

Seconds = float
# One row of a manifest, or of any table, by its keys.
Row = dict[str, Any]
# A word with its times, as transcribers write it.
Word = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a clip with its words; `end` is None where the clip was cut before the segment ended."""

    start: Seconds
    end: Seconds | None
    text: str
    speaker: str | None = None


def segment_row(segment: Segment) -> Row:
    """A segment as it stands in a manifest row."""
    return {key: value for key, value in dataclasses.asdict(segment).items() if value is not None}


def audio_path(audio: str, root: Path) -> str:
    """A row's audio, bytes inside a larger file too, as it can be opened from here; `root` is the workspace's folder."""
    return str(root / audio) if root != Path() else audio


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, or a part of one, with what was said in it.

    `audio` is a path relative to the workspace, or `path#offset,length` for encoded bytes inside a larger file. With an
    `offset` (0 counts) the clip is that part of the recording, `duration` long; without one it is the whole.
    `transcript` is plain text; times stand in `segments` (those of the text before in `prev_segments`, counted from the
    start of the slice before). `labels` are what a clip is besides its words, by name. Which of the two must be there is
    the task's to say. Keys govor does not know are kept, in order, in `extra`; `root` is the workspace's folder, and no key.
    """

    id: str
    audio: str
    transcript: str
    duration: Seconds
    language: str
    offset: Seconds | None = None
    speaker: str | None = None
    source: str | None = None
    license: str | None = None
    extra_terms: str | None = None
    sha256: str | None = None
    pcm_sha256: str | None = None
    near_duplicate_group: str | None = None
    split: str | None = None
    transcript_raw: str | None = None
    segments: tuple[Segment, ...] = ()
    words: tuple[Word, ...] = ()
    prev_transcript: str | None = None
    prev_segments: tuple[Segment, ...] = ()
    seek_time: Seconds | None = None
    quality_score: float | None = None
    snr_db: float | None = None
    dialect: str | None = None
    script: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    transcribed: bool = True  # whether the row has a transcript at all, if an empty one
    root: Path = field(default=Path(), compare=False, repr=False)

    @property
    def file(self) -> str:
        """`audio` as it can be opened from here."""
        return audio_path(self.audio, self.root)

    @classmethod
    def from_row(cls, row: object, where: str, root: Path = Path()) -> Clip:
        """Read one manifest row of the workspace at `root`; `where` ("file:line") stands in every error.

        Raises:
            GovorError: a required key is missing or a value has the wrong type.
        """
        if not isinstance(row, dict):
            raise GovorError(f"{where}: a JSON object was wanted, found {type(row).__name__}.")
        needed = _REQUIRED if row.get("labels") else _WITH_WORDS
        missing = [key for key in needed if key not in row]
        if missing:
            raise GovorError(
                f"{where}: the key {' and '.join(map(repr, missing))} is missing; a manifest row needs {_REQUIRED_TEXT}."
            )
        values: dict[str, Any] = {}
        for key, value in row.items():
            if key in _CHECKS and value is not None:
                values[key] = _CHECKS[key](value, key, where)
        for key in _REQUIRED:
            if values.get(key) is None:
                raise GovorError(f"{where}: '{key}' is null; a manifest row needs {_REQUIRED_TEXT}.")
        values["extra"] = {key: value for key, value in row.items() if key not in _CHECKS}
        if _is_false(row.get("has_prev")):  # the ivrit.ai sets fill in a text that is not the one before
            values |= {"prev_transcript": None, "prev_segments": ()}
        if values.get("transcript") is None:
            if "transcript" in row:
                raise GovorError(f"{where}: 'transcript' is null; leave the key out where there is none.")
            values |= {"transcript": "", "transcribed": False}
        return cls(**values, root=root)

    def to_row(self) -> Row:
        """The row as written to a manifest: empty optional keys are left out, unknown keys come last."""
        return {**self.own_row(), **{key: value for key, value in self.extra.items() if key not in _CHECKS}}

    def own_row(self) -> Row:
        """The same without the unknown keys."""
        row: Row = {}
        for name in _CHECKS:
            value = getattr(self, name)
            if name in _REQUIRED or (self.transcribed if name == "transcript" else value not in (None, (), {})):
                row[name] = value
        for name in ("segments", "prev_segments"):
            if row.get(name):
                row[name] = [segment_row(segment) for segment in row[name]]
        if self.words:
            row["words"] = [dict(word) for word in self.words]
        return row

    def replace(self, **changes: Any) -> Clip:
        """A copy with `changes`."""
        return dataclasses.replace(self, **changes)


# Letters by their category that print nothing: fillers of Hangul, the Braille cell without dots.
_UNSEEN = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf", "Mn", "Mc", "Me"))
_PRINT_NOTHING = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: spaces of every kind, control characters, marks without a letter."""
    return all(unicodedata.category(letter) in _UNSEEN or letter in _PRINT_NOTHING for letter in text)


_POINTS = re.compile("[\u0591-\u05c7\u0610-\u061a\u064b-\u0652\u0670]")


_IN_LATIN = str.maketrans(SERBIAN_TO_LATIN)


def sentence_key(text: str) -> str:
    """What makes two transcripts the same sentence: letters, marks and digits, case folded; the vowel points that Hebrew
    and Arabic may leave out are left out, and Serbian Cyrillic is in Latin letters."""
    folded = unicodedata.normalize("NFC", text.casefold()).translate(_IN_LATIN)
    letters = (c for c in folded if c.isalnum() or (unicodedata.category(c)[0] == "M" and not _POINTS.fullmatch(c)))
    return "".join(letters) or text


def _text(value: object, key: str, where: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # numeric ids and speakers are common in other tools' manifests
    if not isinstance(value, str):
        raise GovorError(f"{where}: '{key}' must be text, found {value!r}.")
    return value


def _number(value: object, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise GovorError(f"{where}: '{key}' must be a number, found {value!r}.")
    return float(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def _seconds(value: object, key: str, where: str) -> float:
    seconds = _number(value, key, where)
    if seconds < 0:
        raise GovorError(f"{where}: '{key}' must be seconds of at least 0, found {value!r}.")
    return seconds


def _segments(value: object, key: str, where: str) -> tuple[Segment, ...]:
    if not isinstance(value, list):
        raise GovorError(f"{where}: '{key}' must be a list of {{start, end, text}}, found {value!r}.")
    return tuple(_segment(item, f"{where}: segment {index}") for index, item in enumerate(value))


def _segment(item: object, where: str) -> Segment:
    if not isinstance(item, dict) or "start" not in item or "text" not in item:
        raise GovorError(f"{where}: {{start, end, text}} was wanted, found {item!r}.")
    start = _seconds(item["start"], "start", where)
    end = None if item.get("end") is None else _seconds(item["end"], "end", where)
    if end is not None and end < start:
        raise GovorError(f"{where}: ends at {end:g} s, before it starts at {start:g} s.")
    speaker = None if item.get("speaker") is None else _text(item["speaker"], "speaker", where)
    return Segment(start, end, _text(item["text"], "text", where), speaker)


def _words(value: object, key: str, where: str) -> tuple[Word, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise GovorError(f"{where}: '{key}' must be a list of objects, found {value!r}.")
    return tuple(value)


def _is_false(value: object) -> bool:
    return value is not None and str(value).strip().casefold() in ("false", "0", "0.0", "no")


def _labels(value: object, key: str, where: str) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise GovorError(f"{where}: '{key}' must be an object of texts by name, found {value!r}.")
    return value


_WITH_WORDS = ("id", "audio", "transcript", "duration", "language")
_REQUIRED = ("id", "audio", "duration", "language")
_REQUIRED_TEXT = "id, audio, transcript (or labels), duration and language"
_SPECIAL = {
    "duration": _seconds,
    "offset": _seconds,
    "seek_time": _seconds,
    "quality_score": _number,
    "snr_db": _number,
    "segments": _segments,
    "prev_segments": _segments,
    "words": _words,
    "labels": _labels,
}
_CHECKS = {
    f.name: _SPECIAL.get(f.name, _text)
    for f in dataclasses.fields(Clip)
    if f.name not in ("extra", "transcribed", "root")
}
