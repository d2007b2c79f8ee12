"""Word and character errors, counted once per clip; every view is derived from the counts.

Where a language puts no spaces between words, a word is no unit: its words are characters with their marks, and spaces
do not count in its characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jiwer

from govor.errors import GovorError
from govor.languages import language_key, without_spaces
from govor.metrics.text import LENIENT, NAME, characters_as_words, normaliser

Process = Callable[[list[str], list[str]], jiwer.WordOutput] | Callable[[list[str], list[str]], jiwer.CharacterOutput]


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
    words = _counts(said, heard, jiwer.process_words, str.split)
    said, heard = (
        [text.replace(" ", "") if without_spaces(code) else text for text, code in zip(texts, codes, strict=True)]
        for texts in (said, heard)
    )
    characters = _counts(said, heard, jiwer.process_characters, list)
    return [ClipScore(*pair) for pair in zip(words, characters, strict=True)]


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


def _counts(
    references: list[str], hypotheses: list[str], process: Process, units: Callable[[str], list[str]]
) -> list[Counts]:
    """Counts per clip in one call of jiwer, which refuses empty references: those are counted here."""
    spoken = [i for i, reference in enumerate(references) if reference]
    results = [Counts(insertions=len(units(hypothesis))) for hypothesis in hypotheses]
    if not spoken:
        return results
    output = process([references[i] for i in spoken], [hypotheses[i] for i in spoken])
    for i, chunks, reference in zip(spoken, output.alignments, output.references, strict=True):
        substitutions = deletions = insertions = 0
        for chunk in chunks:
            if chunk.type == "substitute":
                substitutions += chunk.ref_end_idx - chunk.ref_start_idx
            elif chunk.type == "delete":
                deletions += chunk.ref_end_idx - chunk.ref_start_idx
            elif chunk.type == "insert":
                insertions += chunk.hyp_end_idx - chunk.hyp_start_idx
        results[i] = Counts(substitutions, deletions, insertions, len(reference))
    return results


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
