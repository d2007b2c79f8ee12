"""Qwen3-ASR's examples: what data-loading workers render, without any weights.

Shapes: B clips, F mel frames, T tokens. Rows are padded on the left, so that the answers of a batch begin and grow at one
place; masks and positions make that invisible to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Qwen3ASRConfig

from govor.audio import SAMPLE_RATE, Samples
from govor.errors import GovorError
from govor.examples.spec import ExampleSpec
from govor.families.base import IGNORED, Batch, Labels, all_of, spelled
from govor.families.qwen3_asr.convert import read_config
from govor.families.qwen3_asr.features import MAX_SECONDS, audio_tokens, clip_frames, frames_of, log_mel
from govor.families.qwen3_asr.labels import MAX_CONTEXT_TOKENS, build_labels
from govor.families.qwen3_asr.languages import language_name
from govor.families.qwen3_asr.tokens import QwenTokens

# More than the turns of the template take in any vocabulary.
TEMPLATE_TOKENS = 64
_DURATION_ROUNDING_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Qwen3AsrExample:
    """mel [n_mels, F] and the token row."""

    mel: torch.Tensor
    labels: Labels


class Qwen3AsrRenderer:
    """Renders examples; holds the vocabulary and sizes, no weights."""

    longest_seconds: float = float(MAX_SECONDS)
    features: tuple[str, ...] = ("previous",)

    def __init__(self, tokens: QwenTokens, n_mels: int, n_window: int, max_tokens: int) -> None:
        self.tokens = tokens
        self.n_mels, self.n_window = n_mels, n_window
        self.max_tokens = max_tokens

    @classmethod
    def of(cls, tokens: QwenTokens, config: Qwen3ASRConfig) -> Qwen3AsrRenderer:
        """With the sizes of a configuration."""
        if config.audio_token_id != tokens.audio_pad:
            raise GovorError(
                f"The configuration's audio_token_id is {config.audio_token_id} and the tokenizer's <|audio_pad|> is "
                f"{tokens.audio_pad}; the two belong to different models."
            )
        audio, text = config.audio_config, config.text_config
        return cls(tokens, audio.num_mel_bins, audio.n_window, text.max_position_embeddings)

    @classmethod
    def load(cls, folder: Path) -> Qwen3AsrRenderer:
        """From a model's configuration and tokenizer files, in either layout, without its weights."""
        return cls.of(QwenTokens.load(folder), read_config(folder))

    def cost_frames(self, spec: ExampleSpec) -> int:
        """The clip's mel frames; there is no full window here, so `full_length` changes nothing."""
        return clip_frames(spec.clip.duration)

    def encode(self, spec: ExampleSpec, samples: Samples) -> Qwen3AsrExample:
        """Features and labels; samples past 1,200 s (a rounding of the manifest's duration) are cut."""
        mel = log_mel(samples[: MAX_SECONDS * SAMPLE_RATE], self.n_mels)
        length = audio_tokens(mel.shape[-1], self.n_window)
        return Qwen3AsrExample(mel, build_labels(spec, self.tokens, length, self.max_tokens))

    def labels(self, spec: ExampleSpec) -> Labels:
        """The token row of an example without its audio, whose tokens are counted from the manifest's duration."""
        return build_labels(spec, self.tokens, self._audio_tokens(spec), self.max_tokens)

    def _audio_tokens(self, spec: ExampleSpec) -> int:
        return audio_tokens(frames_of(round(spec.clip.duration * SAMPLE_RATE)), self.n_window)

    def collate(self, examples: Sequence[object]) -> Batch:
        """mels (a list of [n_mels, F]), inputs, attention (1 where a token is), positions and targets, each [B, T].

        A target stands where the token before it is the input, -100 where nothing is taught.
        """
        own = all_of(Qwen3AsrExample, examples)
        inputs, attention, positions = pad_left([example.labels.tokens[:-1] for example in own], self.tokens.end)
        targets = torch.full_like(inputs, IGNORED)
        for row, example in enumerate(own):
            taught = example.labels.tokens[example.labels.given :]
            targets[row, -len(taught) :] = torch.tensor(taught)
        return {
            "mels": [example.mel for example in own],
            "inputs": inputs,
            "attention": attention,
            "positions": positions,
            "targets": targets,
        }

    def spelled(self, spec: ExampleSpec) -> list[tuple[str, int, bool]]:
        """See `Renderer.spelled`."""
        return spelled(self.tokens.tokenizer, self.labels(spec))

    def check(self, spec: ExampleSpec) -> None:
        """Refuse what cannot be rendered, before any audio is read."""
        clip = spec.clip
        if clip.duration > MAX_SECONDS + _DURATION_ROUNDING_SECONDS:
            raise GovorError(
                f"Clip '{clip.id}' is {clip.duration:g} s long and Qwen3-ASR takes {MAX_SECONDS:,} s; "
                "cut it into slices first."
            )
        language_name(spec.language)
        # A token is at least one byte, so most rows need not be encoded to know that they fit.
        text = len(clip.transcript.encode("utf-8", "replace"))
        at_most = text + self._audio_tokens(spec) + MAX_CONTEXT_TOKENS + TEMPLATE_TOKENS
        if spec.with_timestamps or at_most > self.max_tokens:
            self.labels(spec)


def pad_left(rows: Sequence[list[int]], filler: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token rows as ids [B, T] with the filler on the left, the mask [B, T] of real tokens, and their positions [B, T].

    Positions count from 0 at a row's first token.
    """
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), filler)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, length - len(row) :] = torch.tensor(row)
        mask[place, length - len(row) :] = 1
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)
