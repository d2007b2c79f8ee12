"""Whisper's decoder a token at a time: what each search of `govor.families.decoding` goes through.

The keys and values of a clip are made once and never copied: hypotheses of one clip share them, and all clips share those
of the silence behind them.

Shapes: R rows (hypotheses), C clips, r rows of a clip, H heads, S positions of a clip, D the width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer

from govor.families.joint_attention import Part, Shared, attend_part, attend_shared, merge_parts
from govor.families.whisper.forward import States, by_head
from govor.families.whisper.silence import Memory, Silence
from govor.families.whisper.tokens import WhisperTokens

# The silence behind a clip, and from which position on.
_Place = tuple[Silence | None, int]
# Room for so many tokens is made at a time.
_BLOCK = 64


class _Past:
    """Keys and values [R, H, length, D] of the tokens so far, in one layer."""

    def __init__(self) -> None:
        self._held: tuple[torch.Tensor, torch.Tensor] | None = None

    def extended(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """With those of new tokens [R, H, T, D] behind the first `length`."""
        end = length + keys.shape[2]
        if self._held is None or self._held[0].shape[2] < end:
            room = -(-end // _BLOCK) * _BLOCK
            grown = tuple(new.new_empty(*new.shape[:2], room, new.shape[3]) for new in (keys, values))
            if self._held is not None:
                for target, source in zip(grown, self._held, strict=True):
                    target[:, :, :length] = source[:, :, :length]
            self._held = (grown[0], grown[1])
        for target, new in zip(self._held, (keys, values), strict=True):
            target[:, :, length:end] = new
        return self._held[0][:, :, :end], self._held[1][:, :, :end]

    def select(self, rows: torch.Tensor, length: int) -> None:
        assert self._held is not None
        chosen = []
        for source in self._held:
            target = source.new_empty(len(rows), *source.shape[1:])
            target[:, :, :length] = source[rows, :, :length]
            chosen.append(target)
        self._held = (chosen[0], chosen[1])


@dataclass(slots=True)
class _Heard:
    """What the rows of a batch listen to.

    `clips` are keys and values [C, H, S, D] of each layer, padded to the longest; `mask` [C, 1, 1, S] is -inf where a clip
    is padded, or None; `places` says which silence stands behind each clip from which position on; `behind` are those
    silences, by layer.
    """

    clips: list[Memory]
    mask: torch.Tensor | None
    places: list[_Place]
    behind: dict[_Place, list[Shared]]

    @classmethod
    def of(cls, model: WhisperForConditionalGeneration, states: States) -> _Heard:
        """Of a batch of clips."""
        memories = []
        for layer in model.model.decoder.layers:
            attention = layer.encoder_attn
            keys, values = (
                by_head(projection(states.padded), attention) for projection in (attention.k_proj, attention.v_proj)
            )
            memories.append((keys, values))
        real = states.mask()
        mask = (
            None if real is None else torch.zeros_like(real, dtype=states.padded.dtype).masked_fill(~real, -torch.inf)
        )
        places = list(zip(states.silences, states.lengths, strict=True))
        behind: dict[_Place, list[Shared]] = {
            (silence, positions): [silence.behind(memory, positions, states.padded) for memory in silence.decoder]
            for silence, positions in dict.fromkeys(places)
            if silence is not None
        }
        return cls(memories, mask, places, behind)

    def attend(self, layer: int, queries_CHrD: torch.Tensor) -> torch.Tensor:
        """Cross-attention [C, H, r, D]."""
        keys, values = self.clips[layer]
        if not self.behind:
            return F.scaled_dot_product_attention(queries_CHrD, keys, values, attn_mask=self.mask, scale=1.0)
        own = attend_part(queries_CHrD, keys, values, self.mask)
        return merge_parts(own, self._silent(layer, queries_CHrD))[0]

    def _silent(self, layer: int, queries: torch.Tensor) -> Part:
        """The share of the silence, nothing for a clip that has none; clips of one length and silence go together."""
        mixed = torch.zeros_like(queries)
        total = torch.full(queries.shape[:3], -torch.inf, device=queries.device)
        for place, memories in self.behind.items():
            clips = [clip for clip, own in enumerate(self.places) if own == place]
            if len(clips) == len(queries):
                return attend_shared(queries, memories[layer])
            if clips:
                mixed[clips], total[clips] = attend_shared(queries[clips], memories[layer])
        return mixed, total

    def select(self, clips: list[int]) -> None:
        """Keep, or repeat, clips."""
        if clips == list(range(len(self.places))):
            return
        self.clips = [(keys[clips], values[clips]) for keys, values in self.clips]
        self.mask = None if self.mask is None else self.mask[clips]
        self.places = [self.places[clip] for clip in clips]


class Search:
    """A batch of decoders in lockstep, as a `StepDecoder`. `no_speech` [clips] is known once it has started."""

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        tokens: WhisperTokens,
        states: States,
        prompts: torch.Tensor,
        at: int,
    ) -> None:
        """`at` is where the start token stands in the prompts [R, T]: there the model says whether anybody speaks."""
        self._model, self._prompts, self._start_at = model, prompts, at
        self._heard = _Heard.of(model, states)
        self._past = [_Past() for _ in model.model.decoder.layers]
        self._length = 0
        # The clip of each row, by its place in what is heard.
        self._clip_of = list(range(len(prompts)))
        config = model.generation_config
        vocabulary: int = model.config.vocab_size
        banned: set[int] = {*(config.suppress_tokens or ()), *tokens.never_text(vocabulary)}
        self._banned = torch.zeros(vocabulary, device=prompts.device)
        self._banned[[i for i in banned if i < vocabulary]] = -torch.inf
        self._banned_first = self._banned.clone()
        self._banned_first[list(config.begin_suppress_tokens or ())] = -torch.inf
        self._no_speech_id = tokens.no_speech
        self.no_speech = torch.zeros(len(prompts))

    def start(self) -> torch.Tensor:
        """See `StepDecoder.start`."""
        hidden = self._hidden(self._prompts)
        said = torch.softmax(self._model.proj_out(hidden[:, self._start_at]).float(), dim=-1)
        self.no_speech = said[:, self._no_speech_id].cpu()
        return self._logprobs(hidden, self._banned_first)

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        """See `StepDecoder.advance`."""
        return self._logprobs(self._hidden(tokens[:, None]), self._banned)

    def select(self, rows: torch.Tensor) -> None:
        """See `StepDecoder.select`."""
        chosen = [self._clip_of[row] for row in rows.tolist()]
        if rows.tolist() != list(range(len(self._clip_of))):
            for past in self._past:
                past.select(rows, self._length)
        counts = [chosen.count(clip) for clip in dict.fromkeys(chosen)]
        together = chosen == sorted(chosen) and len(set(counts)) == 1
        # Rows of one clip stand together and are as many for each clip in every search here; else each gets its own.
        clips = list(dict.fromkeys(chosen)) if together else chosen
        self._heard.select(clips)
        place = {clip: index for index, clip in enumerate(clips)}
        self._clip_of = [place[clip] for clip in chosen] if together else list(range(len(chosen)))

    def _hidden(self, ids: torch.Tensor) -> torch.Tensor:
        decoder = self._model.model.decoder
        end = self._length + ids.shape[1]
        hidden = decoder.embed_tokens(ids) + decoder.embed_positions.weight[self._length : end]
        for index, layer in enumerate(decoder.layers):
            hidden = self._layer(index, layer, hidden)
        self._length = end
        return decoder.layer_norm(hidden)  # type: ignore[no-any-return]

    def _layer(self, index: int, layer: WhisperDecoderLayer, hidden_RTW: torch.Tensor) -> torch.Tensor:
        own, cross = layer.self_attn, layer.encoder_attn
        rows, length = hidden_RTW.shape[:2]
        normed = layer.self_attn_layer_norm(hidden_RTW)
        queries = by_head(own.q_proj(normed) * own.scaling, own)
        past = self._past[index].extended(
            by_head(own.k_proj(normed), own), by_head(own.v_proj(normed), own), self._length
        )
        mixed = F.scaled_dot_product_attention(queries, *past, is_causal=length > 1, scale=1.0)
        hidden = hidden_RTW + own.out_proj(mixed.transpose(1, 2).flatten(2))
        queries = by_head(cross.q_proj(layer.encoder_attn_layer_norm(hidden)) * cross.scaling, cross)
        clips = len(self._heard.places)
        # [R, H, T, D], the rows of a clip one after another, as [C, H, r x T, D].
        heads, width = cross.num_heads, cross.head_dim
        grouped = queries.view(clips, -1, heads, length, width).transpose(1, 2).flatten(2, 3)
        mixed = self._heard.attend(index, grouped).reshape(clips, heads, -1, length, width)
        mixed = mixed.permute(0, 2, 3, 1, 4).reshape(rows, length, -1)
        hidden = hidden + cross.out_proj(mixed)
        return hidden + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(hidden))))  # type: ignore[no-any-return]

    def _logprobs(self, hidden: torch.Tensor, banned: torch.Tensor) -> torch.Tensor:
        return F.log_softmax(self._model.proj_out(hidden[:, -1]).float() + banned, dim=-1)
