"""The best path: pauses where nothing is said, words in order, no time where there is none."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govor.timing.path import best_path

PAUSE, FOREIGN = -1, -2


def brute_force(
    gains: np.ndarray, owner: list[int], pause: np.ndarray, foreign: np.ndarray, price: list[float]
) -> float:
    """The best sum over every assignment of frames to tokens, pauses and what is foreign that the rules allow."""
    tokens, frames = gains.shape
    best = -np.inf
    for labels in itertools.product(range(-2, tokens), repeat=frames):
        said = [label for label in labels if label >= 0]
        if said != sorted(said) or set(said) != set(range(tokens)):
            continue
        # Neither stands inside of a word, and between two words the pause comes before the rest.
        allowed, paid = True, 0.0
        words = [(place, owner[label]) for place, label in enumerate(labels) if label >= 0]
        edges = [(-1, -1), *words, (frames, len(price))]
        for (left, before), (right, after) in itertools.pairwise(edges):
            gap = labels[left + 1 : right]
            allowed &= not gap or before != after
            allowed &= list(gap) == sorted(gap, reverse=True)
            paid += price[after] if FOREIGN in gap and after < len(price) else 0.0
        if allowed:
            kinds = {PAUSE: pause, FOREIGN: foreign}
            total = sum(kinds[label][f] if label < 0 else gains[label, f] for f, label in enumerate(labels))
            best = max(best, total - paid)
    return float(best)


def worth(
    spans: list[tuple[int, int]],
    gains: np.ndarray,
    owner: list[int],
    pause: np.ndarray,
    foreign: np.ndarray,
    price: list[float],
) -> float:
    """The best sum that keeps the given spans of the words."""
    total = 0.0
    for piece, (a, b) in enumerate(spans):
        own = [token for token, of in enumerate(owner) if of == piece]
        total += max(
            sum(gains[token, f] for f, token in zip(range(a, b), choice, strict=True))
            for choice in itertools.combinations_with_replacement(own, b - a)
            if set(choice) == set(own)
        )
    edges = [0, *itertools.chain(*spans), gains.shape[1]]
    for number, (a, b) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        cost = price[number] if number < len(price) else 0.0
        total += max(pause[a:cut].sum() + foreign[cut:b].sum() - (cost if cut < b else 0.0) for cut in range(a, b + 1))
    return float(total)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([[0], [0, 0], [0, 1], [0, 0, 1], [0, 1, 1]]), st.integers(3, 6))
def test_it_is_the_best_of_all_paths(seed: int, owner: list[int], frames: int) -> None:
    generator = np.random.default_rng(seed)
    gains = generator.normal(size=(len(owner), frames)).astype(np.float32)
    pause, foreign = generator.normal(size=(2, frames)).astype(np.float32)
    price = list(generator.choice([0.0, 0.5, 2.0], size=owner[-1] + 1))
    spans = best_path(gains, owner, pause, foreign, price)
    assert spans is not None
    assert all(a < b for a, b in spans) and all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    found = worth(spans, gains, owner, pause, foreign, price)
    assert found == pytest.approx(brute_force(gains, owner, pause, foreign, price), abs=1e-4)


def test_silence_between_words_belongs_to_none() -> None:
    gains = np.full((2, 12), -1.0, np.float32)
    gains[0, 2:4] = gains[1, 8:10] = 3
    quiet = np.zeros(12, np.float32)
    assert best_path(gains, [0, 1], quiet, quiet, [0.0, 0.0]) == [(2, 4), (8, 10)]


def test_what_is_foreign_stands_where_it_is_cheapest() -> None:
    # The first word gains in two places; between them sounds what nobody claims.
    gains = np.full((2, 12), -1.0, np.float32)
    gains[0, 0], gains[0, 8], gains[1, 9:11] = 4.0, 3.0, 4.0
    sound, foreign = np.full(12, -1.5, np.float32), np.zeros(12, np.float32)
    assert best_path(gains, [0, 1], sound, foreign, [0.0, 0.0]) == [(0, 1), (9, 11)]
    assert best_path(gains, [0, 1], sound, foreign, [0.0, 5.0]) == [(8, 9), (9, 11)]


def test_more_tokens_than_frames_have_no_path() -> None:
    none = np.zeros(4, np.float32)
    assert best_path(np.zeros((5, 4), np.float32), [0, 1, 2, 3, 4], none, none, [0.0] * 5) is None
    assert best_path(np.zeros((0, 4), np.float32), [], none, none, []) is None
