"""Forced alignment of a known text: which stretch of a clip each word takes.

A Whisper is made to write the text while its cross-attention is read; the heads that follow speech say where each token
was heard, and the best path through them (pauses allowed) gives each word its time. Other families have no such heads:
there words share the time in which somebody speaks by their length, and the result says that it is approximate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from govor.audio import SAMPLE_RATE, Samples
from govor.families.base import Aligner, Attention, Head
from govor.families.task import ContextMode, DecodeOptions
from govor.silence import Sound, levels_db, stretches
from govor.timing.path import best_path
from govor.timing.words import Method, Word, ends_sentence, ordered, pieces_of

Curve = npt.NDArray[np.float32]
# What a frame is worth to a token is the logarithm of how much more the heads listen there than on average, held between
# these. A pause gains as much as any token where nothing sounds, since heads listen to the quiet before a word too, and
# hardly more than a token that hears nothing where something does (a breath). Longer sound that no word claims is foreign;
# inside of a sentence that has a price, since the first word of a text is drawn to the first speech, wherever the rest of
# its sentence lies. Chosen on some splices of Czech, judged on others: docs/log.md.
FLOOR, CEILING = -1.5, 5.0
SMOOTH_FRAMES = 3
QUIET_GAIN, SOUND_GAIN, FOREIGN_GAIN = 5.0, -1.4, 0.0
FOREIGN_PRICE = 150.0
_SHORTEST_PAUSE_FRAMES = 3
_LEVEL_FRAME_SECONDS = 0.01
_LEVEL_FRAME = int(_LEVEL_FRAME_SECONDS * SAMPLE_RATE)
_SOUND = Sound(under_peak_db=40.0, over_floor_db=6.0, floor_percentile=5, least_range_db=12.0)
# A word's edge is moved to where the sound begins or ends when that is as near as this.
SNAP_SECONDS = 0.15
# The fastest speech stays far below this.
_MOST_CHARACTERS_PER_SECOND = 40.0
# So many letters in a row that are faster, of words less probable than this, are a line that nobody says.
_FEWEST_UNSAID_LETTERS = 12
_DOUBTED = 0.22


@dataclass(frozen=True, slots=True)
class AlignmentHeads:
    """The heads of a model whose cross-attention follows the speech, and how late they are: what they attend to at t was said
    that much earlier."""

    heads: tuple[Head, ...]
    late_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Aligned:
    """The words of one clip; `refused` says why they have no times, if so."""

    words: tuple[Word, ...]
    method: Method
    refused: str | None = None


def align(
    recogniser: object,
    clips: Sequence[Samples],
    texts: Sequence[str],
    languages: Sequence[str],
    context: ContextMode = "speech",
    heads: AlignmentHeads | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[Aligned]:
    """Words with times for each clip and its text.

    Args:
        recogniser: an `Aligner`, or anything else for approximate times.
        heads: which of its heads are believed, and how late they are; the configuration's, on time, if None.
    """
    pieces = [pieces_of(text, language) for text, language in zip(texts, languages, strict=True)]
    return align_pieces(recogniser, clips, pieces, languages, context, heads, on_done)


def align_pieces(
    recogniser: object,
    clips: Sequence[Samples],
    pieces: Sequence[Sequence[str]],
    languages: Sequence[str],
    context: ContextMode = "speech",
    heads: AlignmentHeads | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[Aligned]:
    """`align` of texts that are cut already (see `pieces_of`): one word for each piece."""
    if not isinstance(recogniser, Aligner):
        return [align_by_length(samples, parts) for samples, parts in zip(clips, pieces, strict=True)]
    late = heads.late_seconds if heads else 0.0
    attentions = recogniser.attend(
        clips, pieces, languages, DecodeOptions(context), heads.heads if heads else None, on_done
    )
    return [align_by_attention(*row, late) for row in zip(clips, pieces, attentions, strict=True)]


def align_by_attention(
    samples: Samples, pieces: Sequence[str], attention: Attention | None, late_seconds: float = 0.0
) -> Aligned:
    """Words of one clip from the cross-attention of heads that are late by so much."""
    seconds = len(samples) / SAMPLE_RATE
    if not pieces:
        return Aligned((), "cross-attention")
    if attention is None:
        return _refused(pieces, f"{len(pieces)} words are more than the model writes for one clip")
    refusal = _nothing_to_align(samples, pieces)
    if refusal:
        return _refused(pieces, refusal)
    groups = _groups(len(pieces), attention.owner)
    group_of = {piece: number for number, group in enumerate(groups) for piece in group}
    owners = np.array([group_of[piece] for piece in attention.owner])
    by_group = replace(attention, owner=tuple(owners.tolist()))
    price = prices([pieces[group[-1]] for group in groups])
    spans = spans_of(gains_of(attention.weights), by_group, samples, price, late_seconds)
    if spans is None:
        return _refused(pieces, f"{len(attention.owner)} tokens cannot be said in {seconds:.2f} s")
    step = attention.position_seconds
    times = snapped([(a * step, min(b * step, seconds)) for a, b in spans], samples)
    words: list[Word] = []
    for number, (group, (start, end)) in enumerate(zip(groups, times, strict=True)):
        confidence = float(np.exp(attention.logprobs[owners == number].mean()))
        # Pieces that share a token share its time by their characters.
        lengths = np.cumsum([0, *(len(pieces[piece].strip()) for piece in group)])
        edges = start + (end - start) * lengths / max(int(lengths[-1]), 1)
        for place, piece in enumerate(group):
            text = pieces[piece]
            words.append(
                Word(text.strip(), float(edges[place]), float(edges[place + 1]), confidence, text.startswith(" "))
            )
    return Aligned(tuple(_without_unsaid(ordered(words))), "cross-attention")


def _without_unsaid(words: Sequence[Word]) -> list[Word]:
    """A stretch of words that the model doubts and that nobody could say so fast is a line that nobody says: it loses its
    times. Every token gets a frame, so the path itself cannot leave one out."""
    timed = list(words)
    run: list[int] = []
    for place, word in enumerate([*words, None]):
        if word is not None and word.start is not None and word.end is not None and word.confidence is not None:
            letters = _letters(word)
            if word.confidence < _DOUBTED and letters > _MOST_CHARACTERS_PER_SECOND * (word.end - word.start):
                run.append(place)
                continue
        if sum(_letters(words[i]) for i in run) >= _FEWEST_UNSAID_LETTERS:
            for i in run:
                timed[i] = replace(words[i], start=None, end=None, confidence=None)
        run = []
    return timed


def _letters(word: Word) -> int:
    return sum(letter.isalnum() for letter in word.text)


def _groups(pieces: int, owner: Sequence[int]) -> list[list[int]]:
    """Pieces that are aligned together: one in which no token begins (a token may hold several characters) goes with the one
    before it, at the beginning with the one after."""
    begins = set(owner)
    groups: list[list[int]] = []
    for piece in range(pieces):
        if groups and (piece not in begins or not begins & set(groups[-1])):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _nothing_to_align(samples: Samples, pieces: Sequence[str]) -> str | None:
    if not any(letter.isalnum() for piece in pieces for letter in piece):
        return "the text holds no word"
    return None if audible(samples).any() else "nothing is audible"


def prices(pieces: Sequence[str]) -> list[float]:
    """What something foreign costs before each piece: nothing where a sentence begins."""
    begins = [True, *map(ends_sentence, pieces)]
    return [0.0 if first else FOREIGN_PRICE for first in begins[: len(pieces)]]


def spans_of(
    gains: Curve, attention: Attention, samples: Samples, price: Sequence[float], late_seconds: float = 0.0
) -> list[tuple[int, int]] | None:
    """Frames of each piece: the best path, gains moved to when the sound was, pauses where it is quiet.

    `price` is that of something foreign before each piece.
    """
    shift = round(late_seconds / attention.position_seconds)
    if shift:
        gains = np.roll(gains, -shift, axis=1)
        if shift > 0:
            gains[:, -shift:] = FLOOR
        else:
            gains[:, :-shift] = FLOOR
    quiet = is_quiet(samples, gains.shape[1])
    pause, foreign = (np.where(quiet, QUIET_GAIN, gain).astype(np.float32) for gain in (SOUND_GAIN, FOREIGN_GAIN))
    return best_path(gains, attention.owner, pause, foreign, price)


def is_quiet(samples: Samples, frames: int) -> npt.NDArray[np.bool_]:
    """In which frames of 20 ms [frames] nothing sounds; quiet of less than 60 ms is none."""
    loud = audible(samples)
    sounding = np.zeros(frames, np.bool_)
    whole = min(len(loud) // 2, frames)
    sounding[:whole] = loud[: 2 * whole].reshape(-1, 2).any(axis=1)
    for start, end in stretches(~sounding):
        if end - start < _SHORTEST_PAUSE_FRAMES:
            sounding[start:end] = True
    return ~sounding


def gains_of(weights: Curve) -> Curve:
    """[tokens, frames] from the attention [heads, tokens, frames] of heads that follow the speech."""
    frames = weights.shape[2]
    mean = smoothed(weights, SMOOTH_FRAMES).mean(axis=0)
    # A head that looks at the end of the clip, or at one loud spot, for every token says nothing there.
    mean = mean / np.maximum(mean.mean(axis=0, keepdims=True), 1 / frames / 4)
    mean = mean / np.maximum(mean.sum(axis=1, keepdims=True), 1e-9)
    gains: Curve = np.clip(np.log(np.maximum(mean * frames, 1e-6)), FLOOR, CEILING).astype(np.float32)
    return gains


def smoothed(weights: Curve, width: int) -> Curve:
    """A running median of `width` frames along the last axis, edges repeated."""
    half = width // 2
    padded = np.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(half, half)], mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1)
    result: Curve = np.median(views, axis=-1).astype(np.float32)
    return result


def audible(samples: Samples) -> npt.NDArray[np.bool_]:
    """Which 10 ms are sound and no pause: within 40 dB of the loudest and over the noise."""
    return _SOUND.of(levels_db(samples, _LEVEL_FRAME).astype(np.float32))


def snapped(times: Sequence[tuple[float, float]], samples: Samples) -> list[tuple[float, float]]:
    """Times whose edges lie in or near a pause, moved to where the sound begins or ends."""
    loud = audible(samples)
    if not len(loud) or loud.all() or not loud.any():
        return list(times)
    onsets, stops = (stretches(loud) * _LEVEL_FRAME_SECONDS).T
    moved = []
    for place, (start, end) in enumerate(times):
        # No edge is moved over a neighbour's.
        before = times[place - 1][1] if place else 0.0
        after = times[place + 1][0] if place + 1 < len(times) else len(samples) / SAMPLE_RATE
        near, far = _nearest(onsets, start), _nearest(stops, end)
        begin = near if abs(near - start) <= SNAP_SECONDS and before <= near < end else start
        stop = far if abs(far - end) <= SNAP_SECONDS and begin < far <= after else end
        moved.append((begin, max(begin, stop)))
    return moved


def _nearest(places: npt.NDArray[np.floating], wanted: float) -> float:
    return float(places[np.abs(places - wanted).argmin()])


def align_by_length(samples: Samples, pieces: Sequence[str]) -> Aligned:
    """Words that share the time in which there is sound, by their number of characters: a guess, and called one."""
    if not pieces:
        return Aligned((), "proportional")
    refusal = _nothing_to_align(samples, pieces)
    if refusal:
        return _refused(pieces, refusal, "proportional")
    loud = audible(samples)
    most = _MOST_CHARACTERS_PER_SECOND * max(float(loud.sum()) * _LEVEL_FRAME_SECONDS, 0.5)
    if sum(len(piece.strip()) for piece in pieces) > most:
        return _refused(
            pieces, f"{len(pieces)} words cannot be said in {len(samples) / SAMPLE_RATE:.2f} s", "proportional"
        )
    sounding = (np.flatnonzero(loud) + 0.5) * _LEVEL_FRAME_SECONDS
    lengths = np.array([max(len(piece.strip()), 1) for piece in pieces], dtype=np.float64)
    shares = np.concatenate([[0.0], np.cumsum(lengths) / lengths.sum()])
    at = np.clip((shares * len(sounding)).astype(int), 0, len(sounding) - 1)
    words = []
    for place, piece in enumerate(pieces):
        start = float(sounding[at[place]])
        end = max(start, float(sounding[max(at[place], at[place + 1] - 1)]))
        words.append(Word(piece.strip(), start, end, None, piece.startswith(" ")))
    return Aligned(tuple(words), "proportional")


def _refused(pieces: Sequence[str], why: str, method: Method = "cross-attention") -> Aligned:
    words = tuple(Word(piece.strip(), None, None, None, piece.startswith(" ")) for piece in pieces)
    return Aligned(words, method, why)
