"""Whisper's log-mel spectrogram, and how much of it the encoder sees."""

from __future__ import annotations

import torch

from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.samples import WINDOW_SECONDS, fits_window
from govor.families.spectrum import mel_filters
from govor.mel import FRAMES_PER_SECOND, HOP, WINDOW

FULL_FRAMES = int(WINDOW_SECONDS * FRAMES_PER_SECOND)

# Context lengths in mel frames: steps of 0.5 s to 10 s, of 1 s to 30 s. Even, since the encoder halves them.
BUCKETS: tuple[int, ...] = (*range(100, 1000, 50), *range(1000, FULL_FRAMES + 1, 100))


def bucket_frames(seconds: float) -> int:
    """The context length, in mel frames, of a clip: a function of the clip alone.

    Raises:
        ValueError: longer than 30 s and what a codec's frames add, which is cut where samples are read.
    """
    frames = seconds * FRAMES_PER_SECOND
    if frames > FULL_FRAMES and fits_window(seconds):
        return FULL_FRAMES
    for edge in BUCKETS:
        if frames <= edge + 0.5:  # durations in manifests are rounded
            return edge
    raise ValueError(f"{seconds:g} s is longer than Whisper's window of 30 s")


# The mel value of the padding behind a clip follows its loudest frame; silence is cached for these.
LEVELS = (-1.5, -1.0, -0.5, 0.0)


def silence_level(mel: torch.Tensor) -> float:
    """That of `LEVELS` which is nearest to the mel value of padding behind a clip [n_mels, F].

    The floor of a spectrogram lies 8 below its maximum, which is 2 after scaling; digital silence has -1.5.
    """
    value = max(float(mel.max()) - 2.0, LEVELS[0])
    return min(LEVELS, key=lambda level: abs(level - value))


def log_mel(samples: Samples, n_mels: int, frames: int = FULL_FRAMES) -> torch.Tensor:
    """Log-mel spectrogram [n_mels, frames] as Whisper's own feature extractor gives it, cut to `frames`.

    It is the spectrogram of the clip padded with zeros to 30 s, since its floor lies 8 below the maximum of the whole;
    frames that see only zeros are not computed, their value is known. Samples past 30 s are refused.
    """
    if len(samples) > SAMPLE_RATE * WINDOW_SECONDS:
        raise ValueError(f"{len(samples) / SAMPLE_RATE:g} s of audio; a Whisper window holds 30 s")
    audible = min(len(samples) // HOP + 3, FULL_FRAMES)
    padded = torch.zeros(audible * HOP + (WINDOW // 2 if audible < FULL_FRAMES else 0), dtype=torch.float32)
    wave = torch.from_numpy(samples)[: len(padded)]
    padded[: len(wave)] = wave
    spectrum = torch.stft(padded, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)
    power = spectrum[..., :audible].abs().square().contiguous()
    log_spec = torch.clamp(mel_filters(n_mels) @ power, min=1e-10).log10()
    floor = float(log_spec.max()) - 8.0
    scaled = (torch.clamp(log_spec, min=floor) + 4.0) / 4.0
    silence = (max(-10.0, floor) + 4.0) / 4.0
    mel = torch.full((n_mels, frames), silence)
    filled = min(audible, frames)
    mel[:, :filled] = scaled[:, :filled]
    return mel
