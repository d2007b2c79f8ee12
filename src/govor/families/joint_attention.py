"""Attention of each clip to its own positions and to positions that all clips share, without a copy of what is shared.

Shapes: B clips, H heads, T queries, S own positions, P shared positions, D the width of a head.

The two parts are computed apart and merged by the logarithm of their summed exponentials, as in ring attention (Liu,
Zaharia and Abbeel 2023): attention over both is their mean, weighted by exp(lse). The gradient of each part follows from
the merged output and the merged sum alone, so the backward pass is two ordinary ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional as F

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, slots=True)
class Shared:
    """Keys and values [H, P, D] that all rows share; each stands for `weight` positions that look like it."""

    keys: torch.Tensor
    values: torch.Tensor
    weight: float = 1.0


def attend_jointly(
    queries_BHTD: torch.Tensor,
    keys_BHSD: torch.Tensor,
    values_BHSD: torch.Tensor,
    shared: Shared,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attention [B, H, T, D] over the S own positions and the P shared ones.

    The scale is already in the queries.
    """
    if queries_BHTD.device.type == "cpu" and not dropout:  # its kernel drops nothing
        joint: Callable[..., torch.Tensor] = _Joint.apply
        return joint(queries_BHTD, keys_BHSD, values_BHSD, shared.keys, shared.values, shared.weight)
    rows = len(queries_BHTD)
    keys, values = (
        torch.cat([own, all_rows.expand(rows, -1, -1, -1)], dim=2)
        for own, all_rows in ((keys_BHSD, shared.keys), (values_BHSD, shared.values))
    )
    bias = keys.new_zeros(1, 1, queries_BHTD.shape[2], keys.shape[2])
    bias[..., keys_BHSD.shape[2] :] = math.log(shared.weight)
    return F.scaled_dot_product_attention(queries_BHTD, keys, values, attn_mask=bias, dropout_p=dropout, scale=1.0)


Part = tuple[torch.Tensor, torch.Tensor]


def attend_part(
    queries_BHTD: torch.Tensor,
    keys_BHSD: torch.Tensor,
    values_BHSD: torch.Tensor,
    mask_B11S: torch.Tensor | None = None,
) -> Part:
    """Attention [B, H, T, D] over some of the positions, and the logarithm [B, H, T] of the sum that it was divided by.

    The mask is added to the scores; no row may be masked altogether.
    """
    if queries_BHTD.device.type == "cpu":
        return _forward(  # type: ignore[no-any-return]
            queries_BHTD, keys_BHSD, values_BHSD, 0.0, False, attn_mask=mask_B11S, scale=1.0
        )
    scores = (queries_BHTD @ keys_BHSD.transpose(-1, -2)).float()
    if mask_B11S is not None:
        scores = scores + mask_B11S
    return torch.softmax(scores, dim=-1).to(values_BHSD.dtype) @ values_BHSD, torch.logsumexp(scores, dim=-1)


def attend_shared(queries_BHTD: torch.Tensor, shared: Shared) -> Part:
    """The part of the positions that all rows share."""
    mixed, total = attend_part(_folded(queries_BHTD), shared.keys[None], shared.values[None])
    rows = len(queries_BHTD)
    return _unfolded(mixed, rows), _unfolded(total, rows) + math.log(shared.weight)


def merge_parts(one: Part, other: Part) -> Part:
    """Attention over the positions of both parts."""
    both = torch.logaddexp(one[1], other[1])
    # one + share · (other − one), so that a part whose share is nothing changes nothing.
    share = torch.exp(other[1] - both)[..., None]
    return torch.lerp(one[0].float(), other[0].float(), share).to(one[0].dtype), both


def _folded(tensor_BHTX: torch.Tensor) -> torch.Tensor:
    """All rows as one: [1, H, B x T, ...]."""
    return tensor_BHTX.transpose(0, 1).flatten(1, 2)[None]


def _unfolded(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    """The inverse of `_folded`."""
    return tensor[0].view(tensor.shape[1], rows, -1, *tensor.shape[3:]).transpose(0, 1)


class _Context(Protocol):
    """What autograd hands from the forward pass to the backward one."""

    weight: float
    saved_tensors: tuple[torch.Tensor, ...]

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...


class _Joint(torch.autograd.Function):
    """The two parts by the CPU's flash attention."""

    @staticmethod
    def forward(
        ctx: _Context,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        shared_keys: torch.Tensor,
        shared_values: torch.Tensor,
        weight: float,
    ) -> torch.Tensor:
        rest = attend_shared(queries, Shared(shared_keys, shared_values, weight))
        merged, both = merge_parts(attend_part(queries, keys, values), rest)
        ctx.weight = weight
        ctx.save_for_backward(queries, keys, values, shared_keys, shared_values, merged, both)
        return merged

    @staticmethod
    def backward(ctx: _Context, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        queries, keys, values, shared_keys, shared_values, merged, both = ctx.saved_tensors
        grad = grads[0].contiguous()
        rows = len(queries)
        of_queries, of_keys, of_values = _backward(grad, queries, keys, values, merged, both, 0.0, False, scale=1.0)
        folded = (_folded(tensor) for tensor in (grad, queries))
        # A key that stands for several positions has that many times the share of one.
        total = _folded(both) - math.log(ctx.weight)
        of_folded, of_shared_keys, of_shared_values = _backward(
            *folded, shared_keys[None], shared_values[None], _folded(merged), total, 0.0, False, scale=1.0
        )
        return (
            of_queries + _unfolded(of_folded, rows),
            of_keys,
            of_values,
            of_shared_keys[0],
            of_shared_values[0],
            None,
        )
