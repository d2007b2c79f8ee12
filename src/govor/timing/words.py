"""Words with times, and the lines that people read them in."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from govor.corpus.records import Segment
from govor.languages import without_spaces

# What subtitles may hold, by common practice of broadcasters: 42 characters a line, 7 seconds.
MAX_LINE_CHARACTERS = 42
MAX_LINE_SECONDS = 7.0
LINE_PAUSE_SECONDS = 0.7

_SENTENCE_ENDS = frozenset(".?!…。！？؟۔।॥։።፧؛")

Method = Literal["cross-attention", "proportional"]


@dataclass(frozen=True, slots=True)
class Word:
    """A word as written, its times in seconds, and how sure the model was of it (0 to 1; None where nothing can be said).

    `space` is whether a space stands before it in its line. A word that could not be placed has neither start nor end.
    """

    text: str
    start: float | None
    end: float | None
    confidence: float | None = None
    space: bool = True

    def moved(self, seconds: float) -> Word:
        """The same, later."""
        if self.start is None or self.end is None:
            return self
        return Word(self.text, self.start + seconds, self.end + seconds, self.confidence, self.space)

    def to_row(self) -> dict[str, object]:
        """As JSON has it, times in milliseconds' steps."""
        row: dict[str, object] = {"word": self.text, "start": _rounded(self.start), "end": _rounded(self.end)}
        if self.confidence is not None:
            row["confidence"] = round(self.confidence, 4)
        return row


@dataclass(frozen=True, slots=True)
class Line:
    """Words that are shown together, and who says them where that is known."""

    words: tuple[Word, ...]
    speaker: str | None = None

    @property
    def text(self) -> str:
        """As written."""
        return joined(self.words)

    @property
    def start(self) -> float | None:
        """Where its first placed word begins."""
        return next((word.start for word in self.words if word.start is not None), None)

    @property
    def end(self) -> float | None:
        """Where its last placed word ends."""
        return next((word.end for word in reversed(self.words) if word.end is not None), None)

    def to_row(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "start": _rounded(self.start),
            "end": _rounded(self.end),
            "text": self.text,
            **({} if self.speaker is None else {"speaker": self.speaker}),
            "words": [word.to_row() for word in self.words],
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def joined(words: Iterable[Word]) -> str:
    """Words as a text."""
    return "".join((" " if word.space else "") + word.text for word in words).strip()


def pieces_of(text: str, language: str | None) -> list[str]:
    """What of a text gets a time of its own, each with the space before it; together they are the text, spaces collapsed.

    Words where words are spaced, else characters with their marks. What holds neither letter nor digit (a dash, a stop)
    goes with the piece before it, or with the one after at the beginning.
    """
    spaced = [f" {word}" for word in text.split()]
    if without_spaces(language):  # what is timed there is the character
        spaced = [cluster for word in spaced for cluster in _clusters(word)]
    pieces: list[str] = []
    waiting = ""
    for piece in spaced:
        if any(unicodedata.category(letter)[0] in "LN" for letter in piece):
            pieces.append(waiting + piece)
            waiting = ""
        elif pieces:
            pieces[-1] += piece
        else:
            waiting += piece
    if waiting:
        pieces.append(waiting)
    return pieces


def ends_sentence(text: str) -> bool:
    """Whether its last mark, quotes and brackets aside, ends a sentence."""
    return text.rstrip().rstrip("\"'»”’)]}")[-1:] in _SENTENCE_ENDS


def _clusters(word: str) -> list[str]:
    """Characters with the marks that follow them; a leading space and runs of Latin letters or digits stay together."""
    clusters: list[str] = []
    for letter in word:
        follows = unicodedata.category(letter)[0] == "M" or letter == "\u200d"
        latin = letter.isascii() and letter.isalnum()
        if clusters and (
            follows or clusters[-1] == " " or (latin and clusters[-1][-1].isascii() and clusters[-1][-1].isalnum())
        ):
            clusters[-1] += letter
        else:
            clusters.append(letter)
    return clusters


def make_lines(words: Sequence[Word]) -> list[Line]:
    """Lines broken at pauses, ends of sentences and before they grow too long to read."""
    lines: list[Line] = []
    line: list[Word] = []
    for word in words:
        if line and _breaks(line, word):
            lines.append(Line(tuple(line)))
            line = []
        line.append(word)
    if line:
        lines.append(Line(tuple(line)))
    return lines


def lines_of_speakers(words: Sequence[Word], segments: Sequence[Segment]) -> list[Line]:
    """`make_lines` of each speaker's words, where the words are those of `segments` that know their speakers."""
    letters = [segment.speaker for segment in segments for _ in "".join(segment.text.split())]
    said = "".join("".join(word.text.split()) for word in words)
    if not any(letters) or said != "".join("".join(segment.text.split()) for segment in segments):
        return make_lines(words)
    ends = itertools.accumulate(len("".join(word.text.split())) for word in words)
    speaking = [letters[max(end - 1, 0)] for end in ends]
    runs = itertools.groupby(zip(words, speaking, strict=True), lambda pair: pair[1])
    return [Line(line.words, speaker) for speaker, run in runs for line in make_lines([word for word, _ in run])]


def _breaks(line: list[Word], word: Word) -> bool:
    # What nobody says is no part of a line that somebody does.
    if (line[-1].start is None) != (word.start is None):
        return True
    last_end = next((w.end for w in reversed(line) if w.end is not None), None)
    first = next((w.start for w in line if w.start is not None), None)
    length = len(joined([*line, word]))
    if length > MAX_LINE_CHARACTERS:
        return True
    if ends_sentence(line[-1].text) and length > MAX_LINE_CHARACTERS // 2:
        return True
    if word.start is None or last_end is None or first is None:
        return False
    return word.start - last_end > LINE_PAUSE_SECONDS or (word.end or word.start) - first > MAX_LINE_SECONDS


def filled(words: Sequence[Word], start: float, end: float) -> list[Word]:
    """Words of what was said between `start` and `end`: those that could not be placed share, by their length, the time
    between the placed ones around them, since they were said."""
    placed: list[Word] = []
    for timed, run in itertools.groupby(words, lambda word: word.start is not None):
        some = list(run)
        if timed:
            placed += some
            continue
        left = placed[-1].end if placed and placed[-1].end is not None else start
        after = words[len(placed) + len(some)] if len(placed) + len(some) < len(words) else None
        right = max(left, end if after is None or after.start is None else after.start)
        shares = [0, *itertools.accumulate(max(len(word.text), 1) for word in some)]
        edges = [left + (right - left) * share / shares[-1] for share in shares]
        placed += [
            Word(word.text, a, b, None, word.space)
            for word, (a, b) in zip(some, itertools.pairwise(edges), strict=True)
        ]
    return placed


def ordered(words: Sequence[Word]) -> list[Word]:
    """The words with times that never run back: each ends where the next begins at the latest."""
    placed = [word for word in words if word.start is not None and word.end is not None]
    starts = list(itertools.accumulate((word.start or 0.0 for word in placed), max))
    follow: list[float | None] = [*starts[1:], None] if starts else []
    fixed = iter(
        Word(
            word.text,
            start,
            max(start, (word.end or 0.0) if after is None else min(word.end or 0.0, after)),
            word.confidence,
            word.space,
        )
        for word, start, after in zip(placed, starts, follow, strict=True)
    )
    return [next(fixed) if word.start is not None and word.end is not None else word for word in words]


def segments_of(lines: Sequence[Line]) -> tuple[Segment, ...]:
    """Segments of a manifest, from the placed words of each line."""
    return tuple(
        Segment(
            round(line.start, 3), round(line.end, 3), joined(w for w in line.words if w.start is not None), line.speaker
        )
        for line in lines
        if line.start is not None and line.end is not None
    )
