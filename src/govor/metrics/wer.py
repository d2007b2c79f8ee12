"""Word and character errors, counted once per clip; every view is derived from the counts.

Where a language puts no spaces between words, a word is no unit: its words are characters with their marks, and spaces
do not count in its characters.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter

import jiwer
import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from govor.errors import GovorError
from govor.languages import language_key, without_spaces
from govor.metrics.text import LENIENT, NAME, characters_as_words, normaliser
from govor.runs import Json


@dataclass(frozen=True, slots=True)
class Counts:
    """Edit counts against a reference of `length` units (words or characters)."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    def to_row(self) -> dict[str, int]:
        """As a clip's row keeps it."""
        return {
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
            "length": self.length,
        }

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )

    @property
    def rate(self) -> float | None:
        """Errors per reference unit; None where there is nothing to divide by and nothing was said wrongly.

        Words put where the reference is empty count as one whole error rate, never as a perfect score.
        """
        if self.length:
            return self.errors / self.length
        return 1.0 if self.errors else None


_IN_ROW = itemgetter("substitutions", "deletions", "insertions", "length")


@dataclass(frozen=True, slots=True)
class ClipScore:
    """The errors of one clip in words and in characters (spaces counted, as jiwer does, where words are spaced)."""

    words: Counts
    characters: Counts


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    languages: Sequence[str | None] | None = None,
    by: str = NAME,
) -> list[ClipScore]:
    """Errors per clip after the normaliser named `by`.

    Raises:
        GovorError: the lists differ in length.
    """
    if len(references) != len(hypotheses) or (languages is not None and len(languages) != len(references)):
        raise GovorError(
            f"{len(references)} references and {len(hypotheses)} hypotheses were given; each clip needs one of both."
        )
    codes = languages if languages is not None else [None] * len(references)
    said, heard = (
        [scored_words(text, code, by) for text, code in zip(texts, codes, strict=True)]
        for texts in (references, hypotheses)
    )
    words = map(_counts, *_spelled_by_words(said, heard))
    said, heard = (
        [text.replace(" ", "") if without_spaces(code) else text for text, code in zip(texts, codes, strict=True)]
        for texts in (said, heard)
    )
    return [ClipScore(*pair) for pair in zip(words, map(_counts, said, heard), strict=True)]


def scored_words(text: str, language: str | None = None, by: str = NAME) -> str:
    """A text's words as they are counted, with single spaces between."""
    scored = normaliser(by)(text, language)
    return characters_as_words(scored) if without_spaces(language) else scored


def about_units(languages: Iterable[str | None]) -> str | None:
    """What is to be said of a WER over texts in these languages; None where every word is a word."""
    codes = sorted({language_key(language) for language in languages if without_spaces(language)})
    if not codes:
        return None
    written = f"{', '.join(codes)} {'is' if len(codes) == 1 else 'are'} written without spaces"
    return f"{written}: there WER counts characters with their marks as words, and CER leaves spaces out"


def total(counts: Iterable[Counts]) -> Counts:
    """The corpus: errors and lengths summed over clips, not rates averaged."""
    substitutions = deletions = insertions = length = 0
    for item in counts:
        substitutions += item.substitutions
        deletions += item.deletions
        insertions += item.insertions
        length += item.length
    return Counts(substitutions, deletions, insertions, length)


@dataclass(frozen=True, slots=True)
class Counted:
    """The counts of many clips [clips, 4], in the order of `Counts`."""

    table: npt.NDArray[np.int64]

    @property
    def errors(self) -> npt.NDArray[np.int64]:
        """Substitutions, deletions and insertions [clips]."""
        errors: npt.NDArray[np.int64] = self.table[:, :3].sum(axis=1)
        return errors

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Units of the references [clips]."""
        return self.table[:, 3]

    def total(self) -> Counts:
        """The corpus."""
        return Counts(*self.table.sum(axis=0).tolist())


def counted(rows: Sequence[Json], unit: str) -> Counted:
    """What rows keep of one unit: words, characters, or one of the lenient ones."""
    table = np.array([_IN_ROW(row[unit]) for row in rows], np.int64)
    return Counted(table.reshape(-1, 4))


class _Letters(dict[str, str]):
    """A letter for every word."""

    def __missing__(self, word: str) -> str:
        letter = self[word] = chr(len(self))
        return letter


def _spelled_by_words(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both with one letter in place of each word: such texts align as their words do, and quickly."""
    letters = _Letters()
    said, heard = [], []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        left, right = reference.split(), hypothesis.split()
        if len(letters) + len(left) + len(right) > sys.maxunicode:
            letters.clear()
        said.append("".join(map(letters.__getitem__, left)))
        heard.append("".join(map(letters.__getitem__, right)))
    return said, heard


def _counts(said: str, heard: str) -> Counts:
    """Errors by letter, of the alignment that jiwer takes (which leaves out texts where nothing was said)."""
    if said == heard:
        return Counts(length=len(said))
    steps = Levenshtein.editops(said, heard)
    errors, longer = len(steps), len(heard) - len(said)
    substitutions = errors - abs(longer)
    if substitutions > 1:  # a word left out and another put in are two errors too
        substitutions = [tag for tag, _, _ in steps.as_list()].count("replace")
    deletions = (errors - substitutions - longer) // 2
    return Counts(substitutions, deletions, deletions + longer, len(said))


# What stands in a clip's row, and the normaliser that it was counted with.
COUNTED = {"words": (NAME, "words"), "characters": (NAME, "characters")}
COUNTED |= {f"lenient_{unit}": (LENIENT, unit) for unit in ("words", "characters")}


@dataclass(frozen=True, slots=True)
class Diff:
    """One step of a word diff: kind is equal, substitute, delete or insert."""

    kind: str
    reference: str
    hypothesis: str


def word_diff(reference: str, hypothesis: str, language: str | None = None) -> list[Diff]:
    """The alignment of two texts as a reader sees it: words as written, compared as scored.

    A word that is nothing but punctuation belongs to neither side of an error and is left out.
    """
    return word_diffs([(reference, hypothesis)], [language])[0]


def word_diffs(pairs: Sequence[tuple[str, str]], languages: Sequence[str | None] | None = None) -> list[list[Diff]]:
    """`word_diff` of many pairs, in one call of jiwer."""
    codes = languages if languages is not None else [None] * len(pairs)
    sides = [tuple(_pieces(text, code) for text in pair) for pair, code in zip(pairs, codes, strict=True)]
    results = [
        [Diff("delete", shown, "") for shown, _ in left] + [Diff("insert", "", shown) for shown, _ in right]
        for left, right in sides
    ]
    both = [i for i, (left, right) in enumerate(sides) if left and right]
    if not both:
        return results
    output = jiwer.process_words(
        [" ".join(scored for _, scored in sides[i][0]) for i in both],
        [" ".join(scored for _, scored in sides[i][1]) for i in both],
    )
    for i, chunks in zip(both, output.alignments, strict=True):
        left, right = sides[i]
        steps: list[Diff] = []
        for chunk in chunks:
            said = [shown for shown, _ in left[chunk.ref_start_idx : chunk.ref_end_idx]]
            heard = [shown for shown, _ in right[chunk.hyp_start_idx : chunk.hyp_end_idx]]
            if chunk.type == "substitute":
                steps += [Diff(chunk.type, *pair) for pair in zip(said, heard, strict=True)]
            else:
                steps.append(Diff(chunk.type, " ".join(said), " ".join(heard)))
        results[i] = steps
    return results


@lru_cache(maxsize=200_000)
def _scored_word(word: str, language: str | None) -> tuple[str, ...]:
    return tuple(scored_words(word, language).split())


def _pieces(text: str, language: str | None) -> list[tuple[str, str]]:
    """(as written, as scored) of each scored word; a written word that scores as several is shown as scored."""
    pieces = []
    for word in text.split():
        scored = _scored_word(word, language)
        pieces += [(word, scored[0])] if len(scored) == 1 else [(part, part) for part in scored]
    return pieces
