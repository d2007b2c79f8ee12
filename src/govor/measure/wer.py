"""Word and character errors, counted once per clip; every view is derived from the counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jiwer

from govor.errors import GovorError
from govor.measure.text import scoring_text


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
    """The errors of one clip in words and in characters (spaces counted, as jiwer does)."""

    words: Counts
    characters: Counts


def score(references: Sequence[str], hypotheses: Sequence[str]) -> list[ClipScore]:
    """Errors per clip after the scoring normaliser.

    Raises:
        GovorError: the lists differ in length.
    """
    if len(references) != len(hypotheses):
        raise GovorError(
            f"{len(references)} references and {len(hypotheses)} hypotheses were given; each clip needs one of both."
        )
    pairs = [(scoring_text(r), scoring_text(h)) for r, h in zip(references, hypotheses, strict=True)]
    return [ClipScore(_words(*pair), _characters(*pair)) for pair in pairs]


def total(counts: Iterable[Counts]) -> Counts:
    """The corpus: errors and lengths summed over clips, not rates averaged."""
    result = Counts()
    for item in counts:
        result = result + item
    return result


def _words(reference: str, hypothesis: str) -> Counts:
    if not reference:
        return Counts(insertions=len(hypothesis.split()))
    output = jiwer.process_words(reference, hypothesis)
    return Counts(output.substitutions, output.deletions, output.insertions, len(output.references[0]))


def _characters(reference: str, hypothesis: str) -> Counts:
    if not reference:
        return Counts(insertions=len(hypothesis))
    output = jiwer.process_characters(reference, hypothesis)
    return Counts(output.substitutions, output.deletions, output.insertions, len(output.references[0]))


@dataclass(frozen=True, slots=True)
class Diff:
    """One step of a word diff: kind is equal, substitute, delete or insert."""

    kind: str
    reference: str
    hypothesis: str


def word_diff(reference: str, hypothesis: str) -> list[Diff]:
    """The alignment of two texts as a reader sees it: words as written, compared as scored.

    A word that is nothing but punctuation belongs to neither side of an error and is left out.
    """
    left, right = _pieces(reference), _pieces(hypothesis)
    if not left or not right:
        return [Diff("delete", shown, "") for shown, _ in left] + [Diff("insert", "", shown) for shown, _ in right]
    output = jiwer.process_words(*(" ".join(scored for _, scored in side) for side in (left, right)))
    steps: list[Diff] = []
    for chunk in output.alignments[0]:
        said = [shown for shown, _ in left[chunk.ref_start_idx : chunk.ref_end_idx]]
        heard = [shown for shown, _ in right[chunk.hyp_start_idx : chunk.hyp_end_idx]]
        if chunk.type == "substitute":
            steps += [Diff(chunk.type, *pair) for pair in zip(said, heard, strict=True)]
        else:
            steps.append(Diff(chunk.type, " ".join(said), " ".join(heard)))
    return steps


def _pieces(text: str) -> list[tuple[str, str]]:
    """(as written, as scored) of each scored word; a written word that scores as several is shown as scored."""
    pieces = []
    for word in text.split():
        scored = scoring_text(word).split()
        pieces += [(word, scored[0])] if len(scored) == 1 else [(part, part) for part in scored]
    return pieces
