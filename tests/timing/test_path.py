"""The best path: pauses where nothing is said, words in order, no time where there is none."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govor.timing.path import best_path


def brute_force(gains: np.ndarray, owner: list[int], pause: np.ndarray) -> float:
    """The best sum over every assignment of frames to tokens (-1: pause) that the rules allow."""
    tokens, frames = gains.shape
    best = -np.inf
    for labels in itertools.product(range(-1, tokens), repeat=frames):
        said = [label for label in labels if label >= 0]
        if said != sorted(said) or set(said) != set(range(tokens)):
            continue
        # A pause stands between words, never inside of one.
        runs = [label for label, _ in itertools.groupby(labels)]
        inside = any(
            b == -1 and a >= 0 and c >= 0 and (a == c or owner[a] == owner[c])
            for a, b, c in zip(runs, runs[1:], runs[2:], strict=False)
        )
        if inside:
            continue
        best = max(best, sum(pause[f] if label < 0 else gains[label, f] for f, label in enumerate(labels)))
    return float(best)


def worth(spans: list[tuple[int, int]], gains: np.ndarray, owner: list[int], pause: np.ndarray) -> float:
    """The best sum that keeps the given spans of the words."""
    total = 0.0
    covered = np.zeros(gains.shape[1], bool)
    for piece, (a, b) in enumerate(spans):
        own = [token for token, of in enumerate(owner) if of == piece]
        covered[a:b] = True
        total += max(
            sum(gains[token, f] for f, token in zip(range(a, b), choice, strict=True))
            for choice in itertools.combinations_with_replacement(own, b - a)
            if set(choice) == set(own)
        )
    return total + float(pause[~covered].sum())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([[0], [0, 0], [0, 1], [0, 0, 1], [0, 1, 1]]), st.integers(3, 6))
def test_it_is_the_best_of_all_paths(seed: int, owner: list[int], frames: int) -> None:
    generator = np.random.default_rng(seed)
    gains = generator.normal(size=(len(owner), frames)).astype(np.float32)
    pause = generator.normal(size=frames).astype(np.float32)
    spans = best_path(gains, owner, pause)
    assert spans is not None
    assert all(a < b for a, b in spans) and all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert worth(spans, gains, owner, pause) == pytest.approx(brute_force(gains, owner, pause), abs=1e-4)


def test_silence_between_words_belongs_to_none() -> None:
    gains = np.full((2, 12), -1.0, np.float32)
    gains[0, 2:4] = gains[1, 8:10] = 3
    assert best_path(gains, [0, 1], np.zeros(12, np.float32)) == [(2, 4), (8, 10)]


def test_more_tokens_than_frames_have_no_path() -> None:
    assert best_path(np.zeros((5, 4), np.float32), [0, 1, 2, 3, 4], np.zeros(4, np.float32)) is None
    assert best_path(np.zeros((0, 4), np.float32), [], np.zeros(4, np.float32)) is None
