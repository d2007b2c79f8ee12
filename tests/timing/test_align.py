"""Words lie where they are heard."""

from typing import Any

import numpy as np
import pytest

from following import TEXT, Following, said
from govor.audio import SAMPLE_RATE
from govor.families.base import Attention
from govor.families.whisper.tiny import tiny
from govor.timing.align import AlignmentHeads, align, align_by_attention, align_by_length, snapped


def test_words_lie_where_they_are_heard() -> None:
    (found,) = align(Following(), [said(TEXT)], [TEXT], ["en"])
    assert found.method == "cross-attention" and found.refused is None
    starts = [word.start for word in found.words]
    assert starts == pytest.approx([0.5, 0.8, 1.1, 1.4], abs=0.06)
    assert [word.end for word in found.words] == pytest.approx([0.75, 1.05, 1.35, 1.65], abs=0.06)
    assert all(word.confidence == pytest.approx(0.905, abs=1e-3) for word in found.words)


def test_late_heads_are_put_right() -> None:
    (found,) = align(Following(late_frames=6), [said(TEXT)], [TEXT], ["en"], heads=AlignmentHeads(((0, 0),), 0.12))
    assert [word.start for word in found.words] == pytest.approx([0.5, 0.8, 1.1, 1.4], abs=0.06)


def test_what_cannot_be_aligned_says_why() -> None:
    samples = said(TEXT)[:SAMPLE_RATE]
    words = " ".join(["sol"] * 500)
    (found,) = align(Following(), [samples], [words], ["en"])
    assert "500 tokens cannot be said in 1.00 s" in str(found.refused)
    assert all(word.start is None for word in found.words) and len(found.words) == 500
    (real,) = align(tiny(), [samples], [words], ["en"])
    assert "more than the model writes" in str(real.refused)
    (empty,) = align(Following(), [samples], [""], ["en"])
    assert empty.words == () and empty.refused is None
    assert align_by_attention(samples, ["a"], None).refused


def test_a_family_without_an_aligner_is_approximate_and_says_so() -> None:
    (found,) = align(object(), [said("sol luna")], ["sol luna"], ["en"])
    assert found.method == "proportional" and found.words[0].start == pytest.approx(0.5, abs=0.05)
    assert found.words[-1].end == pytest.approx(1.1, abs=0.1)
    assert align_by_length(np.zeros(16_000, np.float32), ["a"]).refused == "nothing is audible"


def attention(owner: list[int], frames: int = 50) -> Attention:
    weights = np.full((1, len(owner), frames), 1e-4, np.float32)
    for token in range(len(owner)):
        weights[0, token, 10 * token : 10 * token + 10] = 0.1
    return Attention(weights, 0.02, tuple(owner), np.full(len(owner), -0.1, np.float32), ((0, 0),))


def loud(seconds: float) -> Any:
    return (0.3 * np.sin(np.arange(int(seconds * 16_000)) * 0.3)).astype(np.float32)


def test_characters_that_share_a_token_share_its_time() -> None:
    found = align_by_attention(loud(1.0), [" これ", "は", "日", "本", "語"], attention([0, 2]))
    assert found.refused is None and [word.text for word in found.words] == ["これ", "は", "日", "本", "語"]
    starts = [word.start for word in found.words]
    assert starts == sorted(starts) and all(word.end > word.start for word in found.words)  # type: ignore[operator]
    assert all(word.confidence == pytest.approx(0.905, abs=1e-3) for word in found.words)


def test_no_edge_is_moved_over_a_neighbour() -> None:
    samples = np.concatenate([np.zeros(8000, np.float32), loud(1.0), np.zeros(8000, np.float32)])
    assert snapped([(0.52, 0.60), (0.60, 0.90)], samples) == [(0.5, 0.60), (0.60, 0.90)]


def test_words_are_not_put_into_silence_nor_hundreds_into_a_second() -> None:
    silent = np.zeros(32_000, np.float32)
    assert align_by_attention(silent, [" pan"], attention([0])).refused == "nothing is audible"
    (many,) = align(object(), [loud(1.0)], [" ".join(["slovo"] * 500)], ["cs"])
    assert "500 words cannot be said in 1.00 s" in str(many.refused)
    assert align_by_attention(loud(1.0), [" …!?"], attention([0])).refused == "the text holds no word"
