"""Alignment heads, those of a model that follow the speech: chosen by measurement, since fine-tuning moves them.

Clips whose words are known are put one after the other with next to no gap. Where one clip ends and the next begins is
then known to the millisecond, and no pause gives it away: a head that finds these borders follows the speech inside a
line too. Heads are tried alone, and the best of them are believed together: adding only those that bring the borders of
one sample nearer chose others for every sample, and worse ones for words inside of lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.families.base import Aligner, Attention, Head
from govor.families.registry import family_of, settings_of
from govor.families.task import ContextMode, DecodeOptions
from govor.jsons import read_json, write_json
from govor.runs import Json, Run
from govor.timing.align import AlignmentHeads, Curve, gains_of, prices, spans_of
from govor.timing.splice import Splice, splices
from govor.timing.words import pieces_of

FILE = "alignment.json"
MOST_HEADS = 8
SPLICES = 32
FEWEST_BORDERS = 12
_GAPS_SECONDS = (0.0, 0.04)
_LONGEST_CLIP_SECONDS = 7.0
# Of large models so many heads are tried: those that look into the right line most.
_TRIED = 48
_WORST_OF_BEST = 4.0
# What a border is off at most, so that one lost line does not decide.
_MOST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """The heads that were chosen, on how many borders, and how far from these the words began, in seconds; `alone` is that
    of each head by itself."""

    chosen: AlignmentHeads
    borders: int
    error_seconds: float
    alone: dict[Head, float]


@dataclass(frozen=True, slots=True)
class _Case:
    splice: Splice
    attention: Attention
    pieces: list[int]  # the first piece of each line but the first
    times: list[float]  # when it begins
    price: list[float]  # of something foreign before each piece


def measure_heads(
    recogniser: Aligner,
    clips: Sequence[Clip],
    context: ContextMode,
    on_done: Callable[[int], None] | None = None,
) -> HeadChoice | None:
    """Choose the heads of a model by clips that it can write (any short clips with transcripts); None where there are too few."""
    short = [clip for clip in clips if clip.duration <= _LONGEST_CLIP_SECONDS]
    made = list(splices(short, SPLICES, 0, _GAPS_SECONDS, most_lines=6))
    texts = [[piece for line in splice.lines for piece in pieces_of(line.text, splice.language)] for splice in made]
    languages = [splice.language for splice in made]
    attentions = recogniser.attend(
        [s.samples for s in made], texts, languages, DecodeOptions(context), recogniser.heads, on_done
    )
    cases = [_case(s, attention) for s, attention in zip(made, attentions, strict=True) if attention is not None]
    borders = sum(len(case.times) for case in cases)
    if borders < FEWEST_BORDERS:
        return None
    heads = cases[0].attention.heads
    tried = sorted(range(len(heads)), key=lambda place: -float(np.mean([_in_line(c, place) for c in cases])))[:_TRIED]
    alone = {place: _error(cases, [place]) for place in tried}
    ranked = sorted(alone, key=lambda place: alone[place][0])
    # A head much worse than the best follows something else.
    chosen = [place for place in ranked[:MOST_HEADS] if alone[place][0] <= _WORST_OF_BEST * alone[ranked[0]][0]]
    error, late = _error(cases, chosen)
    believed = AlignmentHeads(tuple(heads[place] for place in chosen), late)
    return HeadChoice(believed, borders, error, {heads[place]: alone[place][0] for place in ranked})


def _case(splice: Splice, attention: Attention) -> _Case:
    pieces: list[str] = []
    firsts, times = [], []
    for number, line in enumerate(splice.lines):
        if number:
            firsts.append(len(pieces))
            times.append(line.start)
        pieces += pieces_of(line.text, splice.language)
    return _Case(splice, attention, firsts, times, prices(pieces))


def _in_line(case: _Case, head: int) -> float:
    """The share of a head's attention that lies in the line of the token that is written."""
    weights = case.attention.weights[head]
    edges = [0, *(round(time / case.attention.position_seconds) for time in case.times), weights.shape[1]]
    line = np.searchsorted(case.pieces, np.asarray(case.attention.owner), side="right")
    total = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
    rows = np.arange(len(weights))
    bounds = np.minimum(np.asarray(edges), weights.shape[1])
    return float(np.mean(total[rows, bounds[line + 1]] - total[rows, bounds[line]]))


def _error(cases: Sequence[_Case], places: list[int]) -> tuple[float, float]:
    """(mean distance from the borders, how late the heads are) in seconds, the lateness taken off."""
    gains = [gains_of(case.attention.weights[places]) for case in cases]
    off = _offsets(cases, gains, 0.0)
    step = cases[0].attention.position_seconds
    late = float(np.clip(np.round(np.median(off) / step) * step, -0.2, 0.2))
    errors = {0.0: float(np.abs(off).mean())}
    if late:
        errors[late] = float(np.abs(_offsets(cases, gains, late)).mean())
    best = min(errors, key=lambda lateness: errors[lateness])
    return errors[best], best


def _offsets(cases: Sequence[_Case], gains: Sequence[Curve], late: float) -> npt.NDArray[np.float64]:
    offsets: list[float] = []
    for case, gain in zip(cases, gains, strict=True):
        spans = spans_of(gain.copy(), case.attention, case.splice.samples, case.price, late)
        if spans is None:
            offsets += [_MOST_SECONDS] * len(case.times)
            continue
        starts = [spans[piece][0] * case.attention.position_seconds for piece in case.pieces]
        offsets += [start - time for start, time in zip(starts, case.times, strict=True)]
    clipped: npt.NDArray[np.float64] = np.clip(offsets, -_MOST_SECONDS, _MOST_SECONDS)
    return clipped


def stored_heads(folder: Path, heads: Sequence[Head], context: ContextMode) -> AlignmentHeads | None:
    """What was chosen for the model in `folder` in this context, if anything was; `heads` are all that it has.

    Raises:
        GovorError: the file is not ours, or of another model.
    """
    file = folder / FILE
    entry = _contexts(file).get(context)
    if entry is None:
        return None
    try:
        chosen = AlignmentHeads(tuple((int(a), int(b)) for a, b in entry["heads"]), float(entry["late_seconds"]))
    except (KeyError, TypeError, ValueError):
        raise GovorError(f"{file} is not what govor align writes; delete it.") from None
    if not abs(chosen.late_seconds) <= _MOST_SECONDS:
        raise GovorError(f"{file} is not what govor align writes; delete it.")
    if not chosen.heads or not set(chosen.heads) <= set(heads):
        raise GovorError(f"{file} names heads that this model does not have; delete it.")
    return chosen


def stored_heads_for_padding(folders: Sequence[Path], heads: Sequence[Head]) -> tuple[Head, ...] | None:
    """What was chosen in the first of `folders`, for tools that pad every clip to 30 s: in that context if it was measured."""
    contexts: tuple[ContextMode, ...] = ("padded", "speech")
    for context in contexts:
        for folder in folders:
            chosen = stored_heads(folder, heads, context)
            if chosen is not None:
                return chosen.heads
    return None


def _contexts(file: Path) -> dict[str, Json]:
    """What is stored by context: heads that follow a clip of 5 s may look elsewhere in 30 s of padding."""
    contexts = read_json(file).get("contexts", {}) if file.exists() else {}
    if not isinstance(contexts, dict):
        raise GovorError(f"{file} is not what govor align writes; delete it.")
    return contexts


def store_heads(folder: Path, choice: HeadChoice, context: ContextMode, model: str) -> Path:
    """Write the choice for a context beside the model, and into its package where it has been packaged already."""
    file = folder / FILE
    alone = [{"layer": a, "head": b, "error_seconds": round(error, 4)} for (a, b), error in choice.alone.items()]
    entry = {
        "heads": [list(head) for head in choice.chosen.heads],
        "late_seconds": choice.chosen.late_seconds,
        "borders": choice.borders,
        "error_seconds": round(choice.error_seconds, 4),
        "alone": alone,
    }
    contexts = _contexts(file)
    write_json(file, {"model": model, "contexts": {**contexts, context: entry}})
    if Run(folder).packaged and (context == "padded" or "padded" not in contexts):
        settings_of(family_of(folder, str(folder))).write_heads(folder, choice.chosen.heads)
    return file
