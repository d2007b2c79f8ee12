"""Log-mel spectrograms of tones."""

from __future__ import annotations

import torch

from govor.audio import Samples
from govor.families.spectrum import mel_filters
from govor.mel import HOP, WINDOW

BANDS = 40


def log_mel(samples: Samples) -> torch.Tensor:
    """Spectrogram [bands, frames]."""
    spectrum = torch.stft(torch.from_numpy(samples), WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)
    return torch.clamp(mel_filters(BANDS) @ spectrum.abs().square(), min=1e-10).log10()
