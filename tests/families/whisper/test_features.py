"""Our mel is transformers' mel; the context is a function of the clip alone."""

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from govor.families.whisper.features import BUCKETS, bucket_frames, log_mel


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("samples", [1, 159, 160, 400, 16_000, 54_321, 16_000 * 30 - 1, 16_000 * 30])
def test_our_mel_equals_the_one_of_transformers(n_mels: int, samples: int) -> None:
    audio = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    theirs = WhisperFeatureExtractor(feature_size=n_mels)(
        audio, sampling_rate=16_000, return_tensors="np"
    ).input_features[0]
    ours = log_mel(audio, n_mels).numpy()
    assert ours.shape == theirs.shape == (n_mels, 3000)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_silence_has_the_mel_that_transformers_gives_it() -> None:
    audio = np.zeros(16_000, dtype=np.float32)
    theirs = WhisperFeatureExtractor()(audio, sampling_rate=16_000, return_tensors="np").input_features[0]
    np.testing.assert_allclose(log_mel(audio, 80).numpy(), theirs, atol=1e-6)


def test_a_short_context_is_the_beginning_of_the_long_one() -> None:
    audio = np.random.default_rng(1).normal(0, 0.1, 40_000).astype(np.float32)
    full = log_mel(audio, 80)
    for frames in (250, 300, 1000):
        assert (log_mel(audio, 80, frames) == full[:, :frames]).all()


def test_every_clip_fits_its_bucket_and_buckets_are_even() -> None:
    assert all(edge % 2 == 0 for edge in BUCKETS) and BUCKETS[-1] == 3000
    for seconds in np.arange(0.01, 30.001, 0.173):
        frames = bucket_frames(float(seconds))
        assert seconds * 100 <= frames + 0.5
    with pytest.raises(ValueError, match="30 s"):
        bucket_frames(30.1)


def test_more_than_a_window_is_refused_and_not_cut() -> None:
    with pytest.raises(ValueError, match="30 s"):
        log_mel(np.zeros(16_000 * 31, dtype=np.float32), 80)
