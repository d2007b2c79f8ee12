"""Qwen3-ASR's log-mel spectrogram, and how many tokens the audio tower makes of it."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from govor.audio import SAMPLE_RATE, Samples
from govor.families.spectrum import mel_filters
from govor.mel import FRAMES_PER_SECOND, HOP, WINDOW

MIN_SAMPLES = SAMPLE_RATE // 2  # shorter clips are padded with silence, which counts as audio
MAX_SECONDS = 1200


def frames_of(samples: int) -> int:
    """The mel frames of so many samples."""
    return max(samples, MIN_SAMPLES) // HOP


def clip_frames(seconds: float) -> int:
    """The frames of a clip, a begun one counted whole."""
    return max(math.ceil(round(seconds * FRAMES_PER_SECOND, 3)), 1)


def audio_tokens(frames: int, n_window: int = 50) -> int:
    """How many tokens the audio tower makes of a clip.

    It convolves chunks of `2 * n_window` frames (1 s) by themselves, three times with stride 2: 13 tokens for a full
    chunk, and what remains makes its own.
    """
    whole, rest = divmod(frames, 2 * n_window)
    return whole * _convolved(2 * n_window) + _convolved(rest)


def _convolved(frames: int) -> int:
    for _ in range(3):
        frames = (frames + 1) // 2
    return frames


def log_mel(samples: Samples, n_mels: int) -> torch.Tensor:
    """Log-mel spectrogram [n_mels, F] as Qwen3-ASR's own feature extractor gives it for this clip alone.

    Nothing is padded but what is shorter than 0.5 s. The floor lies 8 below the maximum of the clip, so a spectrogram
    that was computed over a padded batch may differ in its last frames; this one depends on the clip alone.

    Raises:
        ValueError: longer than 1,200 s.
    """
    if len(samples) > MAX_SECONDS * SAMPLE_RATE:
        raise ValueError(f"{len(samples) / SAMPLE_RATE:g} s of audio; Qwen3-ASR takes {MAX_SECONDS:,} s")
    wave = torch.from_numpy(samples).to(torch.float32)
    wave = F.pad(wave, (0, max(0, MIN_SAMPLES - len(wave))))
    spectrum = torch.stft(wave, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)
    power = spectrum[..., :-1].abs().square()
    log_spec = torch.clamp(mel_filters(n_mels) @ power, min=1e-10).log10()
    return (torch.clamp(log_spec, min=float(log_spec.max()) - 8.0) + 4.0) / 4.0


def stack(mels: list[torch.Tensor], n_window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectrograms as [B, n_mels, F] and the mask [B, F] of real frames; F is a whole number of the tower's chunks.

    The filling is zeros, as in serving: the convolutions see it at the edge of the last chunk.
    """
    chunk = 2 * n_window
    longest = max(mel.shape[-1] for mel in mels)
    frames = -(-longest // chunk) * chunk
    features = torch.stack([F.pad(mel, (0, frames - mel.shape[-1])) for mel in mels])
    lengths = torch.tensor([mel.shape[-1] for mel in mels], device=features.device)
    return features, (torch.arange(frames, device=features.device) < lengths[:, None]).long()
