"""The best way through a text while a recording plays: dynamic time warping with pauses.

Every frame belongs to one token or to a pause. Tokens come in order, each for at least one frame; a pause may stand
before every word and after the last. What lies in a pause (silence, music, a line that the text lacks) belongs to no
word.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Gains = npt.NDArray[np.float32]


def best_path(gains: Gains, owner: Sequence[int], pause: Gains) -> list[tuple[int, int]] | None:
    """Spans (first frame, one past the last) of each piece of the text, along the path of the highest sum.

    Args:
        gains: [tokens, frames], what a frame adds when it belongs to a token.
        owner: the piece of each token; pieces count up from 0, and one without tokens gets the empty span before the next.
        pause: [frames], what a frame adds when it belongs to none.

    Returns None where there are more tokens than frames.
    """
    tokens, frames = gains.shape
    if tokens > frames or tokens == 0:
        return None
    # States: a pause before each piece, its tokens, and a pause after all.
    state_token: list[int] = []  # -1 is a pause
    first_of_piece = []
    for token, piece in enumerate(owner):
        if token == 0 or piece != owner[token - 1]:
            state_token.append(-1)
            first_of_piece.append(len(state_token))
        state_token.append(token)
    state_token.append(-1)
    spoken = np.array(state_token)
    is_pause = spoken < 0
    emit = np.where(is_pause[:, None], pause[None, :], gains[np.maximum(spoken, 0)]).astype(np.float32)
    # A word may follow another without a pause between: over the pause's state.
    leap = np.full(len(spoken), -np.inf, np.float32)
    leap[[state for state in first_of_piece if state > 1]] = 0.0
    came = np.zeros((frames, len(spoken)), np.int8)
    best = np.full(len(spoken), -np.inf, np.float32)
    best[0], best[1] = emit[0, 0], emit[1, 0]
    options = np.empty((3, len(spoken)), np.float32)
    columns = np.arange(len(spoken))
    for frame in range(1, frames):
        options[0] = best
        options[1, 0], options[2, :2] = -np.inf, -np.inf
        options[1, 1:] = best[:-1]
        options[2, 2:] = best[:-2] + leap[2:]
        chosen = options.argmax(axis=0)
        came[frame] = chosen
        best = options[chosen, columns] + emit[:, frame]
    state = len(spoken) - 1 if best[-1] >= best[-2] else len(spoken) - 2
    if not np.isfinite(best[state]):
        return None
    path = np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(came[frame, state])
    return _spans(spoken[path], owner)


def _spans(token_of_frame: npt.NDArray[np.int64], owner: Sequence[int]) -> list[tuple[int, int]]:
    owners = np.asarray(owner)
    heard = np.flatnonzero(token_of_frame >= 0)
    piece_of = owners[token_of_frame[heard]]
    spans: list[tuple[int, int]] = []
    for piece in range(int(owners[-1]) + 1):
        left, right = np.searchsorted(piece_of, [piece, piece + 1])
        if left == right:
            at = int(heard[left]) if left < len(heard) else len(token_of_frame)
            spans.append((at, at))
        else:
            spans.append((int(heard[left]), int(heard[right - 1]) + 1))
    return spans
