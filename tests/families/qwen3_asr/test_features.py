"""Our mel is transformers' mel, and a clip's audio tokens are as many as the audio tower makes."""

import numpy as np
import pytest
import torch
from transformers import Qwen3ASRFeatureExtractor

from conftest import speech
from govor.families.qwen3_asr.features import audio_tokens, clip_frames, frames_of, log_mel, stack
from govor.families.qwen3_asr.tiny import tiny


def theirs(audio: np.ndarray) -> np.ndarray:
    """The spectrogram of transformers for one clip, without what it fills the last chunk with."""
    found = Qwen3ASRFeatureExtractor()(
        audio, sampling_rate=16_000, padding=True, return_attention_mask=True, return_tensors="np"
    )
    return found["input_features"][0][:, : int(found["attention_mask"].sum())]


@pytest.mark.parametrize("samples", [1, 159, 7_999, 8_000, 16_000, 16_079, 54_321, 160_000, 16_000 * 31 + 5])
def test_our_mel_equals_the_one_of_transformers(samples: int) -> None:
    audio = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    ours = log_mel(audio, 128).numpy()
    assert ours.shape == (128, frames_of(samples))
    np.testing.assert_allclose(ours, theirs(audio), atol=2e-5)


def test_the_mel_of_tones_and_of_silence_is_theirs_too() -> None:
    tones = speech(["sol", "luna", "mar"], seconds=2.345, seed=3)
    for audio in (tones, np.zeros(20_000, np.float32), np.pad(tones, (0, 30_000))):
        np.testing.assert_allclose(log_mel(audio, 128).numpy(), theirs(audio), atol=2e-5)


def test_more_than_twenty_minutes_are_refused_and_not_cut() -> None:
    with pytest.raises(ValueError, match="1,200 s"):
        log_mel(np.zeros(16_000 * 1_200 + 1, np.float32), 128)


@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (8, 1), (9, 2), (50, 7), (99, 13), (100, 13), (101, 14), (3_000, 390), (120_000, 15_600)])  # fmt: skip
def test_thirteen_tokens_a_second_and_the_rest_by_eights(frames: int, tokens: int) -> None:
    assert audio_tokens(frames) == tokens


@torch.inference_mode()
def test_a_clip_makes_as_many_tokens_as_the_audio_tower_yields() -> None:
    tower = tiny().module.model.audio_tower  # type: ignore[union-attr]
    lengths = [*range(1, 202), 299, 300, 301, 799, 800, 801, 999, 1_640]
    for first in range(0, len(lengths), 40):
        group = lengths[first : first + 40]
        features, mask = stack([torch.zeros(128, frames) for frames in group], 50)
        yielded = tower(features, mask).last_hidden_state.shape[0]
        assert yielded == sum(audio_tokens(frames) for frames in group)
    for frames in (1, 7, 50, 108, 250):
        assert tower(*stack([torch.zeros(128, frames)], 50)).last_hidden_state.shape[0] == audio_tokens(frames)


def test_the_length_of_a_clip_counts_its_begun_frame() -> None:
    assert [clip_frames(seconds) for seconds in (0.001, 0.01, 1.0, 1.1, 1.101, 2.345, 1_200.0)] == [
        1, 1, 100, 110, 111, 235, 120_000,
    ]  # fmt: skip
