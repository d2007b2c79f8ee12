"""The best way through a text while a recording plays: dynamic time warping with pauses and with what the text lacks.

Every frame belongs to one token, to a pause, or to something foreign: a line that the text lacks, music. Tokens come in
order, each for at least one frame; either of the others may stand before every word and after the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Gains = npt.NDArray[np.float32]
_PAUSE, _FOREIGN = -1, -2


def best_path(
    gains: Gains, owner: Sequence[int], pause: Gains, foreign: Gains, price: Sequence[float]
) -> list[tuple[int, int]] | None:
    """Spans (first frame, one past the last) of each piece of the text, along the path of the highest sum.

    Args:
        gains: [tokens, frames], what a frame adds when it belongs to a token.
        owner: the piece of each token; pieces count up from 0, and one without tokens gets the empty span before the next.
        pause: [frames], what a frame adds when it belongs to a pause.
        foreign: [frames], what it adds when it belongs to what the text lacks.
        price: [pieces], what it costs that something foreign stands before a piece; after the last it is free.

    Returns None where there are more tokens than frames.
    """
    tokens, frames = gains.shape
    if tokens > frames or tokens == 0:
        return None
    # States: before each piece a pause and something foreign, then its tokens; a pause and something foreign after all.
    spoken: list[int] = []
    cost: list[float] = []
    for token, piece in enumerate(owner):
        if token == 0 or piece != owner[token - 1]:
            spoken += [_PAUSE, _FOREIGN]
            cost += [0.0, price[piece]]
        spoken.append(token)
        cost.append(0.0)
    kind = np.array([*spoken, _PAUSE, _FOREIGN])
    entry = -np.array([*cost, 0.0, 0.0], np.float32)
    emit = gains[np.maximum(kind, 0)].astype(np.float32)
    emit[kind == _PAUSE], emit[kind == _FOREIGN] = pause, foreign
    # From the state before; over one (into what is foreign, or from a pause to a word); from word to word over both.
    begins_word = np.concatenate([[False], (kind[:-1] == _FOREIGN) & (kind[1:] >= 0)])
    over_one = np.where(kind == _FOREIGN, entry, np.where(begins_word, 0.0, -np.inf)).astype(np.float32)
    over_both = np.where(begins_word, 0.0, -np.inf).astype(np.float32)
    came = np.zeros((frames, len(kind)), np.int8)
    best = np.full(len(kind), -np.inf, np.float32)
    best[:3] = emit[:3, 0] + entry[:3]
    options = np.full((4, len(kind)), -np.inf, np.float32)
    columns = np.arange(len(kind))
    for frame in range(1, frames):
        options[0] = best
        options[1, 1:] = best[:-1] + entry[1:]
        options[2, 2:] = best[:-2] + over_one[2:]
        options[3, 3:] = best[:-3] + over_both[3:]
        chosen = options.argmax(axis=0)
        came[frame] = chosen
        best = options[chosen, columns] + emit[:, frame]
    state = len(kind) - 1 - int(best[:-4:-1].argmax())
    if not np.isfinite(best[state]):
        return None
    path = np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(came[frame, state])
    return _spans(kind[path], owner)


def _spans(token_of_frame: npt.NDArray[np.int64], owner: Sequence[int]) -> list[tuple[int, int]]:
    owners = np.asarray(owner)
    sounding = np.flatnonzero(token_of_frame >= 0)
    piece_of = owners[token_of_frame[sounding]]
    spans: list[tuple[int, int]] = []
    for piece in range(int(owners[-1]) + 1):
        left, right = np.searchsorted(piece_of, [piece, piece + 1])
        if left == right:
            at = int(sounding[left]) if left < len(sounding) else len(token_of_frame)
            spans.append((at, at))
        else:
            spans.append((int(sounding[left]), int(sounding[right - 1]) + 1))
    return spans
