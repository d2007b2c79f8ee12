"""Whisper's examples: what data-loading workers render, without any weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import WhisperConfig

from govor.audio import Samples
from govor.corpus.samples import WINDOW_SECONDS, check_length, fitted
from govor.errors import GovorError
from govor.examples.spec import ExampleSpec
from govor.families.base import IGNORED, Batch, Labels, all_of, spelled
from govor.families.whisper.features import FULL_FRAMES, bucket_frames, log_mel, silence_level
from govor.families.whisper.labels import build_labels
from govor.families.whisper.tokens import WhisperTokens


@dataclass(frozen=True, slots=True)
class WhisperExample:
    """mel [n_mels, frames], the decoder's tokens, and the level of the silence that stands behind the clip, if any does."""

    mel: torch.Tensor
    labels: Labels
    level: float = math.nan


class WhisperRenderer:
    """Renders examples; holds the vocabulary and sizes, no weights."""

    longest_seconds: float = WINDOW_SECONDS
    features: tuple[str, ...] = ("timestamps", "previous", "full_length", "cached")

    def __init__(self, tokens: WhisperTokens, n_mels: int, max_tokens: int) -> None:
        self.tokens = tokens
        self.n_mels = n_mels
        self.max_tokens = max_tokens

    @classmethod
    def load(cls, folder: Path) -> WhisperRenderer:
        """From a model's configuration and tokenizer files, without its weights."""
        config = WhisperConfig.from_pretrained(folder, local_files_only=True)
        return cls(WhisperTokens.load(folder), config.num_mel_bins, config.max_target_positions)

    def cost_frames(self, spec: ExampleSpec) -> int:
        """The clip's bucket, or the full 3,000 frames."""
        return FULL_FRAMES if spec.full_length else bucket_frames(spec.clip.duration)

    def encode(self, spec: ExampleSpec, samples: Samples) -> WhisperExample:
        """Features and labels; the samples past the manifest's duration (a rounding) are cut."""
        frames = self.cost_frames(spec)
        mel = log_mel(fitted(samples), self.n_mels, frames)
        return WhisperExample(mel, self.labels(spec), silence_level(mel) if spec.cached else math.nan)

    def labels(self, spec: ExampleSpec) -> Labels:
        """The decoder's tokens of an example, without its audio."""
        return build_labels(spec, self.tokens, self.max_tokens)

    def collate(self, examples: Sequence[object]) -> Batch:
        """mels (a list of [n_mels, F]), decoder inputs [B, T] padded with the end token, targets [B, T] with -100, and levels
        [B] of the silence behind each clip (NaN where there is none).

        Padding is to the right of a causal decoder, so no valid token sees it and no mask is needed.
        """
        rows = all_of(WhisperExample, examples)
        length = max(len(example.labels.tokens) for example in rows) - 1
        inputs = torch.full((len(rows), length), self.tokens.end)
        targets = torch.full((len(rows), length), IGNORED)
        for row, example in enumerate(rows):
            ids = torch.tensor(example.labels.tokens)
            inputs[row, : len(ids) - 1] = ids[:-1]
            targets[row, example.labels.given - 1 : len(ids) - 1] = ids[example.labels.given :]
        levels = torch.tensor([example.level for example in rows])
        return {"mels": [example.mel for example in rows], "inputs": inputs, "targets": targets, "levels": levels}

    def spelled(self, spec: ExampleSpec) -> list[tuple[str, int, bool]]:
        """See `Renderer.spelled`."""
        return spelled(self.tokens.tokenizer, self.labels(spec))

    def check(self, spec: ExampleSpec) -> None:
        """Refuse what cannot be rendered, before any audio is decoded."""
        try:
            bucket_frames(spec.clip.duration)
        except ValueError as error:
            raise GovorError(f"Clip '{spec.clip.id}': {error}; cut it into slices of at most 30 s first.") from None
        check_length(spec.clip)
        # A token is at least one byte of text, or a time.
        segments = spec.clip.segments if spec.with_timestamps else ()
        text = " ".join(segment.text for segment in segments) if segments else spec.clip.transcript
        most = len(text.encode("utf-8", "replace")) + 4 * len(segments)
        if most >= self.max_tokens - 8:
            self.labels(spec)
        else:
            self.tokens.language(spec.language)
