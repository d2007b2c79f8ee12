"""What silence looks like to a Whisper: encoded once, and attended to by every clip.

A stock Whisper sees 30 s of every clip, and most of that is the same silence each time. Here a window of silence is
encoded once; a clip's own positions attend to the silence behind them by its keys and values, and the decoder finds its
final states behind those of the clip. What a clip costs is what its speech costs.

The positions of silence look much alike, so one of every `STRIDE` is kept, and counts for all of them.

Shapes: H heads, K kept positions of the 1,500, D the width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from govor.families.joint_attention import Shared

STRIDE = 8
# Keys and values [H, K, D].
Memory = tuple[torch.Tensor, torch.Tensor]


def kept_positions(window: int) -> slice:
    """Those of a window's positions that are kept."""
    return slice(STRIDE // 2, window, STRIDE)


@dataclass(frozen=True, eq=False)
class Silence:
    """One window of silence of the mel value `level`, as every layer of the encoder and of the decoder attends to it.

    `window` is the number of its positions.
    """

    level: float
    window: int
    encoder: tuple[Memory, ...]
    decoder: tuple[Memory, ...]

    def behind(self, memory: Memory, positions: int, like: torch.Tensor) -> Shared:
        """A memory from a position on, in the number format and place of `like`; each key stands for as many positions."""
        kept = range(self.window)[kept_positions(self.window)]
        first = min(sum(position < positions for position in kept), len(kept) - 1)
        keys, values = (tensor[:, first:].to(like) for tensor in memory)
        return Shared(keys, values, (self.window - positions) / keys.shape[1])
