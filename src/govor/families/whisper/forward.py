"""Whisper's encoder and decoder over clips of any length, without padding the audio.

Shapes: B clips, F mel frames, S = F/2 encoder positions, N = all positions of all clips, T tokens, D width.

Clips of one length form a group. Everything that treats positions alone (norms, projections, feed-forward) runs once
over the N positions of all groups; only the convolutions and the attention run group by group. So a batch costs what
its speech costs, and no clip sees another's length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperAttention, WhisperEncoder, WhisperEncoderLayer


@dataclass(frozen=True, slots=True)
class States:
    """Encoder states [B, S, D], rows padded with zeros to the longest, and each row's true length."""

    padded: torch.Tensor
    lengths: list[int]

    def mask(self) -> torch.Tensor | None:
        """True [B, 1, 1, S] where a position is real; None when all rows are full."""
        longest = self.padded.shape[1]
        if min(self.lengths) == longest:
            return None
        device = self.padded.device
        positions = torch.arange(longest, device=device)
        return (positions < torch.tensor(self.lengths, device=device)[:, None])[:, None, None, :]


def encode(model: WhisperForConditionalGeneration, mels: Sequence[torch.Tensor]) -> States:
    """Encoder states of log-mel spectrograms [n_mels, F], F even and at most 3,000.

    The positions are sliced, so a clip's states depend on its own context length alone. At 3,000 frames the result is
    the stock encoder's, bit for bit.
    """
    encoder = model.model.encoder
    groups: dict[int, list[int]] = {}
    for row, mel in enumerate(mels):
        groups.setdefault(mel.shape[-1], []).append(row)
    embedded = [_embed(encoder, torch.stack([mels[row] for row in rows])) for rows in groups.values()]
    shapes = [item.shape[:2] for item in embedded]
    states = torch.cat([item.flatten(0, 1) for item in embedded])
    for layer in encoder.layers:
        if encoder.training and encoder.layerdrop > 0 and torch.rand([]) < encoder.layerdrop:
            continue
        if encoder.training and encoder.gradient_checkpointing:
            states = checkpoint(_encoder_layer, layer, states, shapes, use_reentrant=False)
        else:
            states = _encoder_layer(layer, states, shapes)
    return _pad(encoder.layer_norm(states), shapes, list(groups.values()))


def _embed(encoder: WhisperEncoder, mel_BMF: torch.Tensor) -> torch.Tensor:
    states = F.gelu(encoder.conv1(mel_BMF))
    states = F.gelu(encoder.conv2(states)).permute(0, 2, 1)
    states = states + encoder.embed_positions.weight[: states.shape[1]]
    return F.dropout(states, p=encoder.dropout, training=encoder.training)


def _encoder_layer(layer: WhisperEncoderLayer, states_ND: torch.Tensor, shapes: list[torch.Size]) -> torch.Tensor:
    attention, training = layer.self_attn, layer.training
    normed = layer.self_attn_layer_norm(states_ND)
    queries = attention.q_proj(normed) * attention.scaling
    mixed = _attend(attention, queries, attention.k_proj(normed), attention.v_proj(normed), shapes)
    states = states_ND + F.dropout(attention.out_proj(mixed), p=layer.dropout, training=training)
    normed = layer.final_layer_norm(states)
    hidden = F.dropout(layer.activation_fn(layer.fc1(normed)), p=layer.activation_dropout, training=training)
    states = states + F.dropout(layer.fc2(hidden), p=layer.dropout, training=training)
    if states.dtype == torch.float16:
        limit = torch.finfo(states.dtype).max - 1000
        states = torch.clamp(states, min=-limit, max=limit)
    return states


def _attend(
    attention: WhisperAttention,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    shapes: list[torch.Size],
) -> torch.Tensor:
    """Attention within each clip; the scale is already in the queries."""
    sizes = [rows * positions for rows, positions in shapes]
    mixed = []
    for shape, *parts in zip(shapes, *(torch.split(tensor, sizes) for tensor in (queries, keys, values)), strict=True):
        q, k, v = (
            part.view(*shape, attention.num_heads, attention.head_dim).transpose(1, 2).contiguous() for part in parts
        )
        dropout = attention.dropout if attention.training else 0.0
        heads = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=1.0)
        mixed.append(heads.transpose(1, 2).reshape(shape[0] * shape[1], -1))
    return torch.cat(mixed)


def _pad(states_ND: torch.Tensor, shapes: list[torch.Size], groups: list[list[int]]) -> States:
    longest = max(shape[1] for shape in shapes)
    parts = torch.split(states_ND, [rows * positions for rows, positions in shapes])
    padded = torch.cat(
        [F.pad(part.view(*shape, -1), (0, 0, 0, longest - shape[1])) for part, shape in zip(parts, shapes, strict=True)]
    )
    order = [row for rows in groups for row in rows]
    lengths = dict(zip(order, (shape[1] for shape in shapes for _ in range(shape[0])), strict=True))
    if order != sorted(order):
        places = sorted(range(len(order)), key=order.__getitem__)
        padded = padded[torch.tensor(places, device=padded.device)]
    return States(padded, [lengths[row] for row in range(len(order))])


def decode(model: WhisperForConditionalGeneration, inputs_BT: torch.Tensor, states: States) -> torch.Tensor:
    """Decoder states [B, T, D] for whole token rows (training); causal, with padding on the right."""
    decoder = model.model.decoder
    hidden = decoder.embed_tokens(inputs_BT) + decoder.embed_positions.weight[: inputs_BT.shape[1]]
    hidden = F.dropout(hidden, p=decoder.dropout, training=decoder.training)
    mask = states.mask()
    for layer in decoder.layers:
        if decoder.training and decoder.layerdrop > 0 and torch.rand([]) < decoder.layerdrop:
            continue
        # No mask on the tokens: the attention is causal by itself, and what is padded comes after all that counts.
        hidden = layer(hidden, None, states.padded, encoder_attention_mask=mask, use_cache=False)
    return decoder.layer_norm(hidden)  # type: ignore[no-any-return]


_PARTS = (
    (re.compile(r"model\.(encoder|decoder)\.layers\.(\d+)\."), r"\1.\2"),
    (re.compile(r"model\.encoder\.conv[12]\."), "encoder.stem"),
    (re.compile(r"model\.(encoder|decoder)\.layer_norm\."), r"\1.norm"),
    (re.compile(r"model\.decoder\.embed_tokens\."), "embeddings"),
    (re.compile(r"model\.decoder\.embed_positions\."), "decoder.positions"),
)


def parts_of(module: nn.Module) -> dict[str, list[str]]:
    """Parameter names by part of the model.

    The head is the decoder's embedding (tied). The encoder's positions are sinusoids and stand in no part: nothing
    trains them.
    """
    parts: dict[str, list[str]] = {}
    for name, _ in module.named_parameters():
        for pattern, part in _PARTS:
            match = pattern.match(name)
            if match:
                parts.setdefault(match.expand(part), []).append(name)
    return parts
