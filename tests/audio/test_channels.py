"""Several channels become one, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from containers import (
    RATE,
    encoded,
    encoded_av,
    sound,
)
from govor.audio import decode, stream
from govor.audio.channels import Listener


def assert_sounds_like(samples: np.ndarray, truth: np.ndarray) -> None:
    """Loudness by tenths of a second, which tells what was left out or comes twice."""
    count = min(len(samples), len(truth)) // 1600
    found, wanted = (np.sqrt(np.square(one[: count * 1600].reshape(-1, 1600)).mean(axis=1)) for one in (samples, truth))
    assert np.corrcoef(found, wanted)[0, 1] > 0.9


@pytest.mark.parametrize("container", ["wav", "flac", "m4a"])
def test_channels_that_cancel_each_other_leave_one(tmp_path: Path, container: str) -> None:
    samples = np.repeat(sound(2.0), 3) if container == "m4a" else sound(2.0)
    for gain in (1.0, 0.8):
        both = np.stack([samples, -gain * samples], axis=1)
        path = tmp_path / f"a.{container}"
        data = encoded_av(both, "mp4", "aac") if container == "m4a" else encoded(both, container.upper())
        path.write_bytes(data)
        heard = decode(path)
        assert_sounds_like(heard, sound(2.0))
        assert np.abs(heard).max() == pytest.approx(np.abs(samples).max(), rel=0.1)
        np.testing.assert_allclose(np.concatenate(list(stream(path))), heard, atol=1e-3)


def test_channels_that_do_not_cancel_are_averaged(tmp_path: Path) -> None:
    left, right = sound(2.0, seed=1), sound(2.0, seed=2)
    for one, other in ((left, right), (left, 0 * left), (left, 0.5 * left), (left, -0.3 * left)):
        path = tmp_path / "a.wav"
        path.write_bytes(encoded(np.stack([one, other], axis=1), "WAV", "FLOAT"))
        np.testing.assert_allclose(decode(path), (one + other) / 2, atol=1e-6)
        for number, wanted in enumerate((one, other)):
            np.testing.assert_allclose(decode(path, channel=number), wanted, atol=1e-6)
    four = np.stack([left, right, left, right], axis=1)
    path.write_bytes(encoded(four, "WAV", "FLOAT"))
    np.testing.assert_allclose(decode(path), four.mean(axis=1), atol=1e-6)


def relation(left: np.ndarray, right: np.ndarray) -> str | None:
    listener = Listener()
    for start in range(0, len(left), 50_000):
        listener.hear(np.stack([left, right], axis=1)[start : start + 50_000], RATE)
    return listener.relation()


def test_two_voices_by_turns_are_told_from_one_scene_in_stereo() -> None:
    one, other = sound(20.0, seed=1), sound(20.0, seed=2)
    generator = np.random.default_rng(0)
    hiss = [0.0005 * generator.standard_normal(len(one)).astype(np.float32) for _ in range(2)]
    speaks = np.arange(len(one)) // 30_000 % 2 == 0
    a, b = np.where(speaks, one, 0), np.where(speaks, 0, other)
    assert relation(a + hiss[0], b + hiss[1]) == "separate"
    assert relation(a, b) == "separate"
    assert relation(a + 0.15 * b, 0.2 * b + 0.03 * a) == "separate"  # it leaks, and one is far quieter
    assert relation(a + 0.6 * b, 0.6 * a + b) is None  # two speakers before two microphones
    assert relation(a + b, np.roll(a + b, 12)) is None  # a delay between microphones
    assert relation(a + b, 0 * a) is None  # the second channel is empty
    assert relation(a + b + hiss[0], hiss[1]) is None
    assert relation(a + b, 0.3 * (a + b)) is None
    assert relation(a + b, -0.9 * (a + b)) == "opposite"
    assert relation(0 * a, 0 * a) is None
