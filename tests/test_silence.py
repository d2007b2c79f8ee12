"""Loudness of frames, what of it is sound, and its stretches."""

from __future__ import annotations

import numpy as np
import pytest

from govor.silence import Sound, levels_db, peak_dbfs, stretches

QUIET, LOUD = np.full(160, 1e-4, np.float32), np.full(160, 0.1, np.float32)  # -80 and -20 dB


def test_levels_are_of_whole_frames() -> None:
    levels = levels_db(np.concatenate([QUIET, LOUD, LOUD[:100]]), 160)
    assert levels == pytest.approx([-80.0, -20.0], abs=0.01)
    assert levels_db(np.zeros(160, np.float32), 160) == pytest.approx([-120.0])
    assert peak_dbfs(LOUD) == pytest.approx(-20.0, abs=0.01) and peak_dbfs(LOUD[:0]) == pytest.approx(-240.0)
    assert peak_dbfs(np.zeros(160, np.float32), 1e-9) == pytest.approx(-180.0)


@pytest.mark.parametrize(
    ("levels", "sounds"),
    [
        ([], []),
        ([-80.0, -20.0, -50.0, -80.0], [False, True, True, False]),
        ([-80.0, -20.0, -59.9, -60.1], [False, True, True, False]),  # under the peak by 40 dB is silence
        ([-50.0, -45.0, -43.0, -40.0], [True, True, True, True]),  # no pause anywhere
        ([-90.0, -85.0, -83.0, -80.0], [False, False, False, False]),  # nothing but silence
        ([-40.0, -35.0, -33.0, -20.0], [False, False, True, True]),  # over the noise floor by 6 dB is sound
    ],
)
def test_sound_is_near_the_loudest_and_over_the_noise(levels: list[float], sounds: list[bool]) -> None:
    sound = Sound(under_peak_db=40.0, over_floor_db=6.0, floor_percentile=0, least_range_db=12.0)
    assert sound.of(np.array(levels)).tolist() == sounds


def test_without_a_floor_only_the_loudest_counts() -> None:
    assert Sound(under_peak_db=35.0).of(np.array([-90.0, -80.0, -60.0, -50.0])).tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("frames", "runs"),
    [("", []), ("..", []), ("##", [(0, 2)]), (".##.#", [(1, 3), (4, 5)])],
)
def test_stretches_are_begin_and_end_of_each_run(frames: str, runs: list[tuple[int, int]]) -> None:
    found = stretches(np.array([frame == "#" for frame in frames], np.bool_))
    assert [tuple(run) for run in found.tolist()] == runs
