"""Cross-entropy over the taught tokens, without all their logits in memory at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# Logits of so many tokens are made at once: 2,048 of Whisper's vocabulary are 425 MB in fp32, and as much in gradients.
CHUNK_TOKENS = 2048


def cross_entropy_sum(
    head: Callable[[torch.Tensor], torch.Tensor],
    hidden_ND: torch.Tensor,
    targets_N: torch.Tensor,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy in fp32, summed over N tokens; `head` makes the logits [n, vocabulary] of some.

    Where there are more than `CHUNK_TOKENS`, the logits of a chunk are made, used and forgotten, and made again in the
    backward pass: one more product of the head for a bounded memory.
    """

    def of(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = head(hidden).float()
        return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)

    if len(targets_N) <= CHUNK_TOKENS:
        return of(hidden_ND, targets_N)
    chunks = zip(torch.split(hidden_ND, CHUNK_TOKENS), torch.split(targets_N, CHUNK_TOKENS), strict=True)
    sums = [checkpoint(of, hidden, targets, use_reentrant=False) for hidden, targets in chunks]
    return torch.stack(sums).sum()
