"""Texts that go in circles, as models write them where they lost their way."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

# A block of tokens said so often in a row, and so long in all, is a loop and no emphasis.
_LOOP_TIMES = 4
_LOOP_TOKENS = 12
_LONGEST_PERIOD = 40
# So many tokens at least were said before, in the shortest of loops.
_FEWEST_AGAIN = 9
# OpenAI's limit: a text that compresses better than this repeats itself.
COMPRESSION = 2.4


def loop_at(tokens: Sequence[int] | Sequence[str]) -> int | None:
    """Where the text begins to go in circles: the token after the first of at least four equal blocks in a row, of twelve
    tokens in all; None where it does not."""
    if len(tokens) - len(set(tokens)) < _FEWEST_AGAIN:
        return None
    ids = np.asarray(tokens)
    for period in range(1, min(_LONGEST_PERIOD, len(ids) // _LOOP_TIMES) + 1):
        same = ids[:-period] == ids[period:]
        wanted = max((_LOOP_TIMES - 1) * period, _LOOP_TOKENS - period)
        run = 0
        for place, equal in enumerate(same):
            run = run + 1 if equal else 0
            if run >= wanted:
                return place - run + 1 + period
    return None


def compression_ratio(text: str) -> float:
    """How much shorter zlib makes a text; 0 of an empty one.

    Of Latin letters it is OpenAI's figure. Every other letter counts as one byte too: of three bytes each, two of which are
    the same for all of a script, a sentence of Georgian would compress like a loop.
    """
    codes = {letter: place for place, letter in enumerate(dict.fromkeys(text))}
    if text.isascii():
        data = text.encode()
    elif len(codes) <= 256:
        data = bytes(codes[letter] for letter in text)
    else:
        data = text.encode("utf-16-le", "surrogatepass")
    return len(data) / len(zlib.compress(data)) if data else 0.0
