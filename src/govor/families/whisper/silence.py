"""What silence looks like to a Whisper: encoded once, and attended to by every clip.

A stock Whisper sees 30 s of every clip, and most of that is the same silence each time. Here a window of silence is
encoded once; a clip's own positions attend to the silence behind them by its keys and values, and the decoder finds its
final states behind those of the clip. What a clip costs is what its speech costs.

Shapes: H heads, P = 1,500 positions, D the width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Keys and values [H, P, D].
Memory = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Silence:
    """One window of silence of the mel value `level`, as every layer of the encoder and of the decoder attends to it."""

    level: float
    encoder: tuple[Memory, ...]
    decoder: tuple[Memory, ...]
