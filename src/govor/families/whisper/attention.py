"""Where Whisper's decoder listens while it is made to write a given text.

Some heads of the decoder's cross-attention follow the speech word by word (Radford et al. 2022; the package of OpenAI
aligns words by them). The queries and keys are read where the stock layers compute them, so any attention kernel will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle
from transformers import WhisperForConditionalGeneration

from govor.audio import SAMPLE_RATE, Samples
from govor.families.base import Attention, Head
from govor.families.task import DecodeOptions
from govor.families.whisper.features import FULL_FRAMES, bucket_frames, log_mel
from govor.families.whisper.forward import States, decode, encode
from govor.families.whisper.tokens import WhisperTokens
from govor.mel import FRAMES_PER_SECOND

if TYPE_CHECKING:
    from govor.families.whisper.model import Whisper

Weights = npt.NDArray[np.float32]
POSITION_SECONDS = 2 / FRAMES_PER_SECOND  # the encoder halves the mel frames
# So many clips go through the decoder at once; every head of a large model is kept while heads are being chosen.
_BATCH = 8


def stock_heads(model: WhisperForConditionalGeneration) -> tuple[Head, ...]:
    """The heads that the model's configuration names; the upper half of all where it names none."""
    named = getattr(model.generation_config, "alignment_heads", None)
    layers, heads = model.config.decoder_layers, model.config.decoder_attention_heads
    if named:
        return tuple((int(layer), int(head)) for layer, head in named if layer < layers and head < heads)
    return tuple((layer, head) for layer in range(layers // 2, layers) for head in range(heads))


def all_heads(model: WhisperForConditionalGeneration) -> tuple[Head, ...]:
    """Every head of the decoder's cross-attention, as (layer, head)."""
    config = model.config
    return tuple(
        (layer, head) for layer in range(config.decoder_layers) for head in range(config.decoder_attention_heads)
    )


def token_owners(tokens: WhisperTokens, pieces: Sequence[str], language: str) -> tuple[list[int], list[int]]:
    """(ids of the pieces' concatenation, the piece of each id).

    The text is tokenised as a whole, as in training. An id that holds the end of one piece and the beginning of the next
    belongs to the earlier one.
    """
    text = "".join(pieces)
    lead = len(text) - len(text.lstrip())
    encoding = tokens.encode(text, language)
    ends = np.cumsum([len(piece) for piece in pieces]) - lead + encoding.added
    owner = [int(np.searchsorted(ends, start, side="right")) for start in encoding.starts]
    return encoding.ids, [min(index, len(pieces) - 1) for index in owner]


@torch.inference_mode()
def attend(
    whisper: Whisper,
    clips: Sequence[Samples],
    pieces: Sequence[Sequence[str]],
    languages: Sequence[str],
    options: DecodeOptions,
    heads: Sequence[Head] | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[Attention | None]:
    """See `Aligner.attend`."""
    model, tokens, n_mels = whisper.model, whisper.tokens, whisper.renderer.n_mels
    chosen = tuple(heads) if heads is not None else stock_heads(model)
    results: list[Attention | None] = [None] * len(clips)
    seconds = [len(clip) / SAMPLE_RATE for clip in clips]
    frames = [FULL_FRAMES if options.context == "padded" else bucket_frames(length) for length in seconds]
    order = sorted((i for i in range(len(clips)) if pieces[i]), key=lambda i: (frames[i], i))
    room = model.config.max_target_positions
    for at in range(0, len(order), _BATCH):
        rows = order[at : at + _BATCH]
        texts = [token_owners(tokens, pieces[i], languages[i]) for i in rows]
        prompts = [tokens.prompt(languages[i]) for i in rows]
        fitting = [p for p in range(len(rows)) if len(prompts[p]) + len(texts[p][0]) < room and texts[p][0]]
        if fitting:
            mels = [log_mel(clips[rows[p]], n_mels, frames[rows[p]]).to(model.device, model.dtype) for p in fitting]
            states = encode(model, mels, whisper.silences_behind(mels, options.context))
            forced = _forced(model, tokens, states, [(prompts[p], texts[p][0]) for p in fitting], chosen)
            for p, (weights, logprobs) in zip(fitting, forced, strict=True):
                positions = min(int(np.ceil(seconds[rows[p]] / POSITION_SECONDS)), weights.shape[-1])
                results[rows[p]] = Attention(
                    weights[..., :positions], POSITION_SECONDS, tuple(texts[p][1]), logprobs, chosen
                )
        if on_done:
            on_done(len(rows))
    return results


def _forced(
    model: WhisperForConditionalGeneration,
    tokens: WhisperTokens,
    states: States,
    texts: list[tuple[list[int], list[int]]],
    heads: tuple[Head, ...],
) -> list[tuple[Weights, Weights]]:
    """Per clip the weights [heads, tokens, positions] and the log-probability of each token [tokens].

    `texts` are prompt and text of each.
    """
    rows = [prompt + text for prompt, text in texts]
    inputs = torch.full((len(rows), max(map(len, rows))), tokens.end, device=states.padded.device)
    for place, row in enumerate(rows):
        inputs[place, : len(row)] = torch.tensor(row, device=inputs.device)
    with _CrossAttention(model, sorted({layer for layer, _ in heads})) as attention:
        hidden = decode(model, inputs, states)
    results = []
    for place, (prompt, text) in enumerate(texts):
        # The row that predicts a token is the one that listens for it.
        span = slice(len(prompt) - 1, len(prompt) - 1 + len(text))
        weights = torch.stack([attention.weights(layer, head, place, span, states) for layer, head in heads])
        logits = model.proj_out(hidden[place, span]).float()
        logprobs = F.log_softmax(logits, dim=-1)[torch.arange(len(text)), torch.tensor(text, device=logits.device)]
        results.append((weights.cpu().numpy(), logprobs.cpu().numpy()))
    return results


class _CrossAttention:
    """Keeps queries and keys of the cross-attention of some layers while the block runs."""

    def __init__(self, model: WhisperForConditionalGeneration, layers: Sequence[int]) -> None:
        self._attention = {layer: model.model.decoder.layers[layer].encoder_attn for layer in layers}
        self._kept: dict[tuple[int, str], torch.Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> _CrossAttention:
        for layer, attention in self._attention.items():
            for name in ("q_proj", "k_proj"):
                self._hooks.append(getattr(attention, name).register_forward_hook(self._keeper(layer, name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keeper(self, layer: int, name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            self._kept[layer, name] = output

        return keep

    def weights(self, layer: int, head: int, row: int, span: slice, states: States) -> torch.Tensor:
        """Attention [tokens of the span, positions] of one head, silence behind the clip included."""
        attention = self._attention[layer]
        width = attention.head_dim
        part = slice(head * width, (head + 1) * width)
        queries = self._kept[layer, "q_proj"][row, span, part].float()
        positions, silence = states.lengths[row], states.silences[row]
        keys = self._kept[layer, "k_proj"][row, :positions, part].float()
        scores = queries @ keys.T * width**-0.5
        if silence is None:
            return torch.softmax(scores, dim=-1)
        behind = silence.behind(silence.decoder[layer], positions, keys)
        silent = queries @ behind.keys[head].T * width**-0.5 + math.log(behind.weight)
        return torch.softmax(torch.cat([scores, silent], dim=-1), dim=-1)
