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
from transformers.models.whisper.modeling_whisper import (
    WhisperAttention,
    WhisperDecoderLayer,
    WhisperEncoder,
    WhisperEncoderLayer,
)

from govor.families.joint_attention import attend_jointly
from govor.families.whisper.silence import Memory, Silence, kept_positions


@dataclass(frozen=True, slots=True)
class States:
    """Encoder states [B, S, D], rows padded with zeros to the longest, and each row's true length.

    `silences` is the silence that stands behind each row's own positions, of rows that have one.
    """

    padded: torch.Tensor
    lengths: list[int]
    silences: list[Silence | None]

    def of(self, rows: list[int]) -> States:
        """Some of the rows, in this order."""
        return States(self.padded[rows], [self.lengths[row] for row in rows], [self.silences[row] for row in rows])

    @property
    def joined(self) -> bool:
        """Whether silence stands behind any row."""
        return any(silence is not None for silence in self.silences)

    def groups(self) -> dict[tuple[int, Silence | None], list[int]]:
        """Rows of one length and one silence."""
        groups: dict[tuple[int, Silence | None], list[int]] = {}
        for row, key in enumerate(zip(self.lengths, self.silences, strict=True)):
            groups.setdefault(key, []).append(row)
        return groups

    def mask(self) -> torch.Tensor | None:
        """True [B, 1, 1, S] where a position is real; None when all rows are full."""
        longest = self.padded.shape[1]
        if min(self.lengths) == longest:
            return None
        device = self.padded.device
        positions = torch.arange(longest, device=device)
        return (positions < torch.tensor(self.lengths, device=device)[:, None])[:, None, None, :]


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of one length before one silence, as they lie in the N positions."""

    rows: list[int]
    positions: int
    silence: Silence | None

    @property
    def size(self) -> int:
        return len(self.rows) * self.positions


def encode(
    model: WhisperForConditionalGeneration,
    mels: Sequence[torch.Tensor],
    silences: Sequence[Silence | None] | None = None,
) -> States:
    """Encoder states of log-mel spectrograms [n_mels, F], F even and at most 3,000.

    The positions are sliced, so a clip's states depend on its own context length alone. At 3,000 frames the result is
    the stock encoder's, bit for bit.

    Args:
        silences: what stands behind each clip up to 3,000 frames; None for nothing.
    """
    encoder = model.model.encoder
    window = encoder.embed_positions.num_embeddings
    groups: dict[tuple[int, Silence | None], list[int]] = {}
    for row, mel in enumerate(mels):
        positions = mel.shape[-1] // 2
        silence = silences[row] if silences is not None and positions < window else None
        groups.setdefault((positions, silence), []).append(row)
    laid = [_Group(rows, positions, silence) for (positions, silence), rows in groups.items()]
    embedded = [_embed(encoder, torch.stack([mels[row] for row in group.rows]), group.silence) for group in laid]
    states = torch.cat([item.flatten(0, 1) for item in embedded])
    for index, layer in enumerate(encoder.layers):
        if encoder.training and encoder.layerdrop > 0 and torch.rand([]) < encoder.layerdrop:
            continue
        if encoder.training and encoder.gradient_checkpointing:
            states = checkpoint(_encoder_layer, layer, states, laid, index, use_reentrant=False)
        else:
            states = _encoder_layer(layer, states, laid, index)
    return _pad(encoder.layer_norm(states), laid)


def encode_silence(model: WhisperForConditionalGeneration, level: float) -> Silence:
    """A window of silence of one mel value, as the encoder sees it without any speech."""
    encoder, decoder, training = model.model.encoder, model.model.decoder, model.training
    model.eval()
    window = encoder.embed_positions.num_embeddings
    group = _Group([0], window, None)
    weight = encoder.conv1.weight
    mel = torch.full((1, weight.shape[1], 2 * window), level, device=weight.device, dtype=weight.dtype)
    states = _embed(encoder, mel, None)[0]
    of_encoder = []
    for index, layer in enumerate(encoder.layers):
        of_encoder.append(_memory(layer.self_attn, layer.self_attn_layer_norm(states)))
        states = _encoder_layer(layer, states, [group], index)
    states = encoder.layer_norm(states)
    of_decoder = [_memory(layer.encoder_attn, states) for layer in decoder.layers]
    model.train(training)
    return Silence(level, window, tuple(of_encoder), tuple(of_decoder))


def _memory(attention: WhisperAttention, states_PW: torch.Tensor) -> Memory:
    kept = states_PW[kept_positions(len(states_PW))][None]
    keys, values = (by_head(projection(kept), attention) for projection in (attention.k_proj, attention.v_proj))
    return keys[0], values[0]


def _embed(encoder: WhisperEncoder, mel_BMF: torch.Tensor, silence: Silence | None) -> torch.Tensor:
    positions = mel_BMF.shape[-1] // 2
    if silence is not None:
        # The last position sees one frame past its own.
        mel_BMF = F.pad(mel_BMF, (0, 2), value=silence.level)
    states = F.gelu(encoder.conv1(mel_BMF))
    states = F.gelu(encoder.conv2(states)).permute(0, 2, 1)[:, :positions]
    states = states + encoder.embed_positions.weight[:positions]
    return F.dropout(states, p=encoder.dropout, training=encoder.training)


def _encoder_layer(
    layer: WhisperEncoderLayer, states_ND: torch.Tensor, groups: list[_Group], index: int
) -> torch.Tensor:
    attention, training = layer.self_attn, layer.training
    normed = layer.self_attn_layer_norm(states_ND)
    queries = attention.q_proj(normed) * attention.scaling
    mixed = _attend(attention, (queries, attention.k_proj(normed), attention.v_proj(normed)), groups, index)
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
    projected: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    groups: list[_Group],
    index: int,
) -> torch.Tensor:
    """Attention of layer `index` within each clip and to the silence behind it; the scale is already in the queries."""
    sizes = [group.size for group in groups]
    dropout = attention.dropout if attention.training else 0.0
    mixed = []
    for group, *parts in zip(groups, *(torch.split(tensor, sizes) for tensor in projected), strict=True):
        q, k, v = (
            part.view(len(group.rows), group.positions, attention.num_heads, attention.head_dim)
            .transpose(1, 2)
            .contiguous()
            for part in parts
        )
        if group.silence is not None:
            behind = group.silence.behind(group.silence.encoder[index], group.positions, q)
            heads = attend_jointly(q, k, v, behind, dropout)
        else:
            heads = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=1.0)
        mixed.append(heads.transpose(1, 2).reshape(group.size, -1))
    return torch.cat(mixed)


def _pad(states_ND: torch.Tensor, groups: list[_Group]) -> States:
    longest = max(group.positions for group in groups)
    parts = torch.split(states_ND, [group.size for group in groups])
    padded = torch.cat(
        [
            F.pad(part.view(len(group.rows), group.positions, -1), (0, 0, 0, longest - group.positions))
            for part, group in zip(parts, groups, strict=True)
        ]
    )
    of_row = {row: group for group in groups for row in group.rows}
    order = [row for group in groups for row in group.rows]
    if order != sorted(order):
        places = sorted(range(len(order)), key=order.__getitem__)
        padded = padded[torch.tensor(places, device=padded.device)]
    laid = [of_row[row] for row in range(len(order))]
    return States(padded, [group.positions for group in laid], [group.silence for group in laid])


def decode(model: WhisperForConditionalGeneration, inputs_BT: torch.Tensor, states: States) -> torch.Tensor:
    """Decoder states [B, T, D] for whole token rows (training); causal, with padding on the right."""
    decoder = model.model.decoder
    hidden = decoder.embed_tokens(inputs_BT) + decoder.embed_positions.weight[: inputs_BT.shape[1]]
    hidden = F.dropout(hidden, p=decoder.dropout, training=decoder.training)
    mask = states.mask()
    for index, layer in enumerate(decoder.layers):
        if decoder.training and decoder.layerdrop > 0 and torch.rand([]) < decoder.layerdrop:
            continue
        if states.joined:
            if decoder.training and decoder.gradient_checkpointing:
                hidden = checkpoint(_decoder_layer, layer, hidden, states, index, use_reentrant=False)
            else:
                hidden = _decoder_layer(layer, hidden, states, index)
        else:
            # No mask on the tokens: the attention is causal by itself, and what is padded comes after all that counts.
            hidden = layer(hidden, None, states.padded, encoder_attention_mask=mask, use_cache=False)
    return decoder.layer_norm(hidden)  # type: ignore[no-any-return]


def _decoder_layer(layer: WhisperDecoderLayer, hidden_BTD: torch.Tensor, states: States, index: int) -> torch.Tensor:
    """Decoder layer `index`, whose cross-attention finds silence behind the positions of each row."""
    dropout, training = layer.dropout, layer.training
    own = layer.self_attn
    normed = layer.self_attn_layer_norm(hidden_BTD)
    q, k, v = (
        by_head(tensor, own) for tensor in (own.q_proj(normed) * own.scaling, own.k_proj(normed), own.v_proj(normed))
    )
    lost = own.dropout if training else 0.0
    mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=lost, is_causal=True, scale=1.0)
    hidden = hidden_BTD + F.dropout(own.out_proj(_flat(mixed)), p=dropout, training=training)
    cross = layer.encoder_attn
    normed = layer.encoder_attn_layer_norm(hidden)
    mixed = _listen(cross, by_head(cross.q_proj(normed) * cross.scaling, cross), states, index)
    hidden = hidden + F.dropout(cross.out_proj(_flat(mixed)), p=dropout, training=training)
    normed = layer.final_layer_norm(hidden)
    fed = F.dropout(layer.activation_fn(layer.fc1(normed)), p=layer.activation_dropout, training=training)
    return hidden + F.dropout(layer.fc2(fed), p=dropout, training=training)


def by_head(states_BTW: torch.Tensor, attention: WhisperAttention) -> torch.Tensor:
    """[B, T, width] as [B, heads, T, width of a head]."""
    heads = states_BTW.view(*states_BTW.shape[:2], attention.num_heads, attention.head_dim)
    return heads.transpose(1, 2).contiguous()


def _flat(heads_BHTD: torch.Tensor) -> torch.Tensor:
    return heads_BHTD.transpose(1, 2).flatten(2)


def _listen(attention: WhisperAttention, queries_BHTD: torch.Tensor, states: States, index: int) -> torch.Tensor:
    """Cross-attention of each row to its own positions and to the silence behind them."""
    own = [projection(states.padded) for projection in (attention.k_proj, attention.v_proj)]
    dropout = attention.dropout if attention.training else 0.0
    mixed, order = [], []
    for (positions, silence), rows in states.groups().items():
        order += rows
        keys, values = (by_head(projected[rows, :positions], attention) for projected in own)
        queries = queries_BHTD[rows]
        if silence is None:
            mixed.append(F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, scale=1.0))
        else:
            behind = silence.behind(silence.decoder[index], positions, keys)
            mixed.append(attend_jointly(queries, keys, values, behind, dropout))
    places = torch.tensor(sorted(range(len(order)), key=order.__getitem__), device=queries_BHTD.device)
    return torch.cat(mixed)[places]


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
