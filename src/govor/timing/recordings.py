"""A long recording and its whole text, without times: which words lie where.

The recording is cut at pauses into windows; a recogniser writes down what it hears in each, and that is laid beside the
text, character by character, so that each window gets its part. Inside a window the words are then aligned. A wrong word
costs only itself; a line that is missing from the text is heard and matches nothing; a line that was never said gets no
time; music and noise before the speech yield nothing that matches.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from govor.audio import Samples
from govor.families.base import Recogniser
from govor.families.task import ContextMode
from govor.timing.align import Aligned, AlignmentHeads, align_pieces
from govor.timing.words import Word, ordered

# A word that fewer of its letters have something heard opposite than this, in a long stretch of such, was not said.
_HEARD_SHARE = 0.34
# So many characters in a row without one that was heard are a line that nobody says.
_UNSAID_CHARACTERS = 25


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the recording: where it begins in seconds, its samples, and what a recogniser wrote for it."""

    start: float
    samples: Samples
    transcript: str


def align_recording(
    recogniser: Recogniser,
    windows: Sequence[Window],
    pieces: Sequence[str],
    language: str,
    context: ContextMode = "speech",
    heads: AlignmentHeads | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Aligned:
    """Words of the whole text, one for each of its pieces; what was not said, or could not be placed, has no times."""
    parts = share(pieces, [window.transcript for window in windows])
    nonempty = [(number, part) for number, part in enumerate(parts) if part]
    alignments = align_pieces(
        recogniser,
        [windows[number].samples for number, _ in nonempty],
        [[pieces[i] for i in part] for _, part in nonempty],
        [language] * len(nonempty),
        context,
        heads,
        on_done,
    )
    words: list[Word] = [Word(piece.strip(), None, None, None, piece.startswith(" ")) for piece in pieces]
    method = "cross-attention"
    for (number, part), aligned in zip(nonempty, alignments, strict=True):
        method = aligned.method
        for index, word in zip(part, aligned.words, strict=True):
            moved = word.moved(windows[number].start)
            words[index] = Word(words[index].text, moved.start, moved.end, moved.confidence, words[index].space)
    return Aligned(tuple(ordered(words)), "cross-attention" if method == "cross-attention" else "proportional")


def share(pieces: Sequence[str], transcripts: Sequence[str]) -> list[list[int]]:
    """Which pieces of the text belong to each window, from the transcript of each; pieces of no window were not said."""
    text, owner = _letters(pieces)
    said, window_of = _letters(transcripts)
    if not text or not transcripts:
        return [[] for _ in transcripts]
    if not said:  # nothing was understood: windows share the text by their number
        cuts = np.linspace(0, len(pieces), len(transcripts) + 1).round().astype(int)
        return [list(range(a, b)) for a, b in itertools.pairwise(cuts)]
    partner = np.full(len(text), -1)  # the heard character of each written one
    equal = np.zeros(len(text), np.bool_)
    for step in Levenshtein.opcodes(text, said):
        if step.tag in ("equal", "replace"):
            count = step.src_end - step.src_start
            partner[step.src_start : step.src_end] = np.arange(step.dest_start, step.dest_start + count)
            equal[step.src_start : step.src_end] = step.tag == "equal"
    owners = np.asarray(owner)
    windows = np.asarray(window_of)
    votes: list[int | None] = []
    for piece in range(len(pieces)):
        own = np.flatnonzero(owners == piece)
        matched = own[equal[own]]
        sure = len(own) and len(matched) >= max(1, 0.5 * len(own))
        votes.append(int(np.bincount(windows[partner[matched]]).argmax()) if sure else None)
    votes = _in_order(votes)
    # What was misheard has letters opposite, other ones; what was never said has none.
    unsaid = _unsaid(owners, partner >= 0, len(pieces))
    result: list[list[int]] = [[] for _ in transcripts]
    for piece, window in enumerate(_filled(votes, len(transcripts))):
        if piece not in unsaid:
            result[window].append(piece)
    return result


def _letters(texts: Sequence[str]) -> tuple[str, list[int]]:
    """Letters and digits of all texts in one string, folded, and the text of each."""
    letters: list[str] = []
    owner: list[int] = []
    for number, text in enumerate(texts):
        for letter in unicodedata.normalize("NFD", text.casefold()):
            if letter.isalnum():
                letters.append(letter)
                owner.append(number)
    return "".join(letters), owner


def _in_order(votes: Sequence[int | None]) -> list[int | None]:
    """The votes of the longest run that never goes back; others are withdrawn (patience sorting)."""
    tails: list[int] = []
    places: list[int] = []
    back: dict[int, int] = {}
    for place, vote in enumerate(votes):
        if vote is None:
            continue
        at = int(np.searchsorted(tails, vote, side="right"))
        back[place] = places[at - 1] if at else -1
        if at == len(tails):
            tails.append(vote)
            places.append(place)
        else:
            tails[at], places[at] = vote, place
    run: set[int] = set()
    at = places[-1] if places else -1
    while at >= 0:
        run.add(at)
        at = back[at]
    return [vote if place in run else None for place, vote in enumerate(votes)]


def _filled(votes: Sequence[int | None], windows: int) -> list[int]:
    """A window for every piece: pieces without a vote between two of one window are of it; else they are dealt in order
    to the windows from the one before to the one after."""
    known = [place for place, vote in enumerate(votes) if vote is not None]
    if not known:
        return [min(place * windows // max(len(votes), 1), windows - 1) for place in range(len(votes))]
    result = [0 if vote is None else vote for vote in votes]
    for before, after in zip([-1, *known], [*known, len(votes)], strict=True):
        low = result[before] if before >= 0 else result[known[0]]
        high = result[after] if after < len(votes) else low
        gap = after - before - 1
        for place in range(before + 1, after):
            # In the first half with the one before, in the second with the one after.
            result[place] = low if 2 * (place - before) <= gap + 1 else high
    return result


def _unsaid(owners: npt.NDArray[np.int64], answered: npt.NDArray[np.bool_], pieces: int) -> set[int]:
    """Pieces of long stretches to which nothing that was heard answers."""
    lengths = np.bincount(owners, minlength=pieces)
    matched = np.bincount(owners, weights=answered, minlength=pieces)
    unsaid: set[int] = set()
    run: list[int] = []
    for piece in range(pieces + 1):
        if piece < pieces and matched[piece] < _HEARD_SHARE * lengths[piece]:
            run.append(piece)
            continue
        if sum(lengths[i] for i in run) >= _UNSAID_CHARACTERS:
            unsaid.update(run)
        run = []
    return unsaid
