"""Long recordings are cut in their pauses."""

from __future__ import annotations

import itertools

import numpy as np

from govor.audio import SAMPLE_RATE, cut_at_pauses


def test_long_recordings_are_cut_in_their_pauses_and_nothing_is_lost() -> None:
    rate = SAMPLE_RATE
    noise = np.random.default_rng(0).normal(0, 0.2, 70 * rate).astype(np.float32)
    for start in (20, 44):
        noise[start * rate : (start + 1) * rate] *= 0.001
    pieces = cut_at_pauses(noise, 30.0)
    assert pieces[0][0] == 0 and pieces[-1][1] == len(noise)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(pieces))
    assert all(end - start <= 30 * rate for start, end in pieces)
    assert [20 <= end / rate <= 21 or 44 <= end / rate <= 45 for _, end in pieces[:2]] == [True, True]
    assert cut_at_pauses(noise[: 5 * rate], 30.0) == [(0, 5 * rate)]
