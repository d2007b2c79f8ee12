"""The filters of log-mel spectrograms."""

from __future__ import annotations

from functools import lru_cache

import torch
from transformers.audio_utils import mel_filter_bank

from govor.audio import SAMPLE_RATE
from govor.mel import WINDOW


@lru_cache(maxsize=4)
def mel_filters(bands: int) -> torch.Tensor:
    """Filters [bands, 1 + WINDOW // 2] up to 8 kHz on Slaney's scale, as the published models were trained with."""
    filters = mel_filter_bank(1 + WINDOW // 2, bands, 0.0, 8000.0, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(filters).to(torch.float32).T.contiguous()
