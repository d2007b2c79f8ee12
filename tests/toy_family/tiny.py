"""A random classifier, and tones to tell apart."""

from __future__ import annotations

import numpy as np
import torch

from govor.audio import SAMPLE_RATE, Samples
from toy_family.model import Tone, ToneNet

CLASSES = ("low", "high")


def tiny(seed: int = 0, width: int = 8) -> Tone:
    """The architecture at `width`."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    module = ToneNet(len(CLASSES), width)
    torch.set_rng_state(state)
    return Tone(module.eval(), CLASSES)


def tone(label: str, seconds: float = 0.5, seed: int = 0) -> Samples:
    """A low tone or a high one, somewhere in its range, in noise."""
    generator = np.random.default_rng(seed)
    pitch = generator.uniform(*((200, 500) if label == "low" else (2000, 4000)))
    clock = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = 0.3 * np.sin(2 * np.pi * pitch * clock) + generator.normal(0, 0.01, len(clock))
    return wave.astype(np.float32)
