"""SpecAugment: stripes of the spectrogram are hidden while training.

Source: Park et al. 2019, "SpecAugment", without the time warp, which they found to help least. Ours is seeded by the
draw; the one in `transformers` draws from numpy's global generator and is another on every resume.
"""

from __future__ import annotations

import numpy as np
import torch

from govor.examples.mixing import draw_seed
from govor.examples.settings import SpecAugment
from govor.mel import FRAMES_PER_SECOND

_LONGEST_PART = 0.1  # of the clip: a short clip must keep its words


def hide(mel: torch.Tensor, settings: SpecAugment, seconds: float, seed: int, draw: int) -> torch.Tensor:
    """A copy of `mel` [bands, frames] with stripes set to the mean of what is heard in it.

    Args:
        seconds: how much of it is the clip; stripes in the padding would hide nothing.
        seed: the run's.
        draw: which pass over which clip this is.
    """
    generator = np.random.default_rng(draw_seed(seed, "stripes", draw))
    bands, frames = mel.shape
    length = max(min(frames, round(seconds * FRAMES_PER_SECOND)), 1)
    hidden = mel.clone()
    mean = mel[:, :length].mean()
    longest = min(round(settings.time_stripe_seconds * FRAMES_PER_SECOND), int(length * _LONGEST_PART))
    for start, width in _stripes(generator, settings.time_stripes, length, longest):
        hidden[:, start : start + width] = mean
    for start, width in _stripes(generator, settings.frequency_stripes, bands, settings.frequency_stripe_bands):
        hidden[start : start + width, :length] = mean
    return hidden


def _stripes(generator: np.random.Generator, count: int, length: int, widest: int) -> list[tuple[int, int]]:
    """(start, width) of `count` stripes, each 0 to `widest` wide, inside `length`."""
    widths = [int(generator.integers(0, min(widest, length) + 1)) for _ in range(count)]
    return [(int(generator.integers(0, length - width + 1)), width) for width in widths]
