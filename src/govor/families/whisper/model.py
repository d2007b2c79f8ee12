"""Whisper as a Family and Recogniser."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional as F
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from govor.audio import SAMPLE_RATE, Samples
from govor.errors import GovorError
from govor.examples.spec import ExampleSpec
from govor.families.base import Attention, Batch, ContextMode, Head, Hypothesis, Labels
from govor.families.decoding import Found, beam, greedy
from govor.families.whisper.attention import all_heads, attend
from govor.families.whisper.features import FULL_FRAMES, bucket_frames, log_mel
from govor.families.whisper.forward import States, decode, encode, parts_of
from govor.families.whisper.labels import build_labels
from govor.families.whisper.tokens import WhisperTokens

IGNORED = -100
# No language's speech needs more byte-level tokens in a second than this (fast Ge'ez: about 30).
# Without a bound a model that loops writes 448 tokens for every clip.
MAX_TOKENS_PER_SECOND = 40
BATCH_AUDIO_SECONDS = 120.0
PROMPT_TOKENS = 4


@dataclass(frozen=True, slots=True)
class WhisperExample:
    """mel [n_mels, frames] and the decoder's tokens."""

    mel: torch.Tensor
    labels: Labels


class WhisperExamples:
    """Renders examples; holds the vocabulary and sizes, no weights."""

    longest_seconds = 30.0

    def __init__(self, tokens: WhisperTokens, n_mels: int, max_tokens: int) -> None:
        self.tokens = tokens
        self.n_mels = n_mels
        self.max_tokens = max_tokens

    @classmethod
    def load(cls, folder: Path) -> WhisperExamples:
        """From a model's configuration and tokenizer files, without its weights."""
        config = WhisperConfig.from_pretrained(folder, local_files_only=True)
        return cls(WhisperTokens.load(folder), config.num_mel_bins, config.max_target_positions)

    def context_frames(self, spec: ExampleSpec) -> int:
        """The clip's bucket, or the full 3,000 frames."""
        return FULL_FRAMES if spec.full_length else bucket_frames(spec.clip.duration)

    def encode(self, spec: ExampleSpec, samples: Samples) -> WhisperExample:
        """Features and labels; the samples past the manifest's duration (a rounding) are cut."""
        frames = self.context_frames(spec)
        mel = log_mel(samples[: 30 * SAMPLE_RATE], self.n_mels, frames)
        return WhisperExample(mel, self.labels(spec))

    def labels(self, spec: ExampleSpec) -> Labels:
        """The decoder's tokens of an example, without its audio."""
        return build_labels(spec, self.tokens, self.max_tokens)

    def collate(self, examples: Sequence[WhisperExample]) -> Batch:
        """mels (a list of [n_mels, F]), decoder inputs [B, T] padded with the end token, targets [B, T] with -100.

        Padding is to the right of a causal decoder, so no valid token sees it and no mask is needed.
        """
        length = max(len(example.labels.tokens) for example in examples) - 1
        inputs = torch.full((len(examples), length), self.tokens.end)
        targets = torch.full((len(examples), length), IGNORED)
        for row, example in enumerate(examples):
            ids = torch.tensor(example.labels.tokens)
            inputs[row, : len(ids) - 1] = ids[:-1]
            targets[row, example.labels.given - 1 : len(ids) - 1] = ids[example.labels.given :]
        return {"mels": [example.mel for example in examples], "inputs": inputs, "targets": targets}

    def check(self, spec: ExampleSpec) -> None:
        """Refuse what cannot be rendered, before any audio is read."""
        try:
            bucket_frames(spec.clip.duration)
        except ValueError as error:
            raise GovorError(f"Clip '{spec.clip.id}': {error}; cut it into slices of at most 30 s first.") from None
        # A token is at least one byte of text, or a time.
        segments = spec.clip.segments if spec.with_timestamps else ()
        text = " ".join(segment.text for segment in segments) if segments else spec.clip.transcript
        most = len(text.encode("utf-8", "replace")) + 4 * len(segments)
        if most >= self.max_tokens - 8:
            self.labels(spec)
        else:
            self.tokens.language(spec.language)


class Whisper:
    """A Whisper model that trains on the speech and transcribes it."""

    name = "whisper"
    supports_timestamps = True
    longest_seconds = WhisperExamples.longest_seconds

    def __init__(self, module: WhisperForConditionalGeneration, tokens: WhisperTokens) -> None:
        self.module: nn.Module = module
        self.tokens = tokens
        config = module.config
        self.encoder = WhisperExamples(tokens, config.num_mel_bins, config.max_target_positions)

    @staticmethod
    def examples(folder: Path) -> WhisperExamples:
        """What renders its examples, without weights."""
        return WhisperExamples.load(folder)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Whisper:
        """From a folder in the `transformers` layout; safetensors only. `options` go to `from_pretrained`."""
        if not (folder / "model.safetensors").exists() and not (folder / "model.safetensors.index.json").exists():
            raise GovorError(f"{folder} holds no model.safetensors; convert the model to safetensors first.")
        try:
            model = WhisperForConditionalGeneration.from_pretrained(
                folder, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, local_files_only=True, **options
            )
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            first = str(error).splitlines()[0][:200]
            raise GovorError(f"The model in {folder} cannot be loaded ({first}); fetch or package it again.") from error
        return cls(model.eval(), WhisperTokens.load(folder))

    @classmethod
    def from_base(cls, folder: Path, weights: dict[str, torch.Tensor]) -> Whisper:
        """From the configuration files of `save_base` and a checkpoint's weights (tied ones stored once)."""
        from transformers import GenerationConfig

        config = WhisperConfig.from_pretrained(folder, attn_implementation="sdpa", local_files_only=True)
        model = WhisperForConditionalGeneration(config)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        model.tie_weights()
        if unexpected or set(missing) - {"proj_out.weight"}:
            raise GovorError(f"The weights do not fit {folder}: {len(missing)} missing, {len(unexpected)} unexpected.")
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        return cls(model.eval(), WhisperTokens.load(folder))

    def loss(self, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy summed over the taught tokens, and their number. Logits are made for those alone."""
        model: Any = self.module
        hidden = decode(model, batch["inputs"], encode(model, batch["mels"]))
        taught = batch["targets"] != IGNORED
        logits = model.proj_out(hidden[taught])
        targets = batch["targets"][taught]
        loss = F.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=label_smoothing)
        return loss, taught.sum()

    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits [B, T, vocabulary] of a batch; what several rows hear, the very same tensor, is encoded once."""
        model: Any = self.module
        places: dict[int, int] = {}
        rows = [places.setdefault(id(mel), len(places)) for mel in batch["mels"]]
        states = encode(model, [batch["mels"][rows.index(place)] for place in range(len(places))])
        if len(places) < len(rows):
            states = States(states.padded[rows], [states.lengths[row] for row in rows])
        return model.proj_out(decode(model, batch["inputs"], states))  # type: ignore[no-any-return]

    def parameter_groups(self) -> dict[str, list[str]]:
        """See `Family.parameter_groups`."""
        return parts_of(self.module)

    def lora_targets(self) -> list[str]:
        """Attention and feed-forward of encoder and decoder."""
        return [
            name
            for name, part in self.module.named_modules()
            if isinstance(part, nn.Linear) and name.startswith(("model.encoder.layers.", "model.decoder.layers."))
        ]

    @property
    def chance_loss(self) -> float:
        """Nats per token of a model that knows nothing but its vocabulary."""
        model: Any = self.module
        return math.log(model.config.vocab_size)

    def allow_all_text(self) -> None:
        """Let the model write every text token.

        The stock list forbids quotes, brackets and dashes; an acronym such as צה"ל could never be learned.
        """
        model: Any = self.module
        model.generation_config.suppress_tokens = self.tokens.steering_ids()

    def save_base(self, folder: Path) -> None:
        """config.json, generation_config.json, tokenizer and feature-extractor files."""
        model: Any = self.module
        folder.mkdir(parents=True, exist_ok=True)
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        save_processor(self.tokens, self.encoder.n_mels, folder)

    def save(self, folder: Path) -> None:
        """A folder that `transformers`, CTranslate2 and faster-whisper load."""
        model: Any = self.module
        model.save_pretrained(folder)
        self.save_base(folder)

    @torch.inference_mode()
    def check_language(self, language: str) -> None:
        """See `Recogniser.check_language`."""
        self.tokens.language(language)

    def transcribe(
        self,
        clips: Sequence[Samples],
        languages: Sequence[str | None],
        context: ContextMode = "speech",
        beam_size: int = 1,
        on_done: Callable[[int], None] | None = None,
        previous: Sequence[str | None] | None = None,
        temperature: float = 0.0,
    ) -> list[Hypothesis]:
        """See `Recogniser.transcribe`. A language of None is detected."""

        def search(some: list[Samples], codes: list[str | None], before: list[str | None]) -> list[Hypothesis]:
            found, no_speech = self._search(some, codes, context, beam_size, before, temperature)
            return [self._hypothesis(one[0], silence) for one, silence in zip(found, no_speech.tolist(), strict=True)]

        return transcribe_in_batches(search, clips, languages, context, on_done, previous)

    @torch.inference_mode()
    def nbest(self, clip: Samples, language: str | None, n: int, context: ContextMode = "speech") -> list[Hypothesis]:
        """See `Recogniser.nbest`."""
        found, no_speech = self._search([clip], [language], context, n)
        return [self._hypothesis(one, float(no_speech[0])) for one in found[0][:n]]

    def _hypothesis(self, found: Found, no_speech: float) -> Hypothesis:
        return Hypothesis(self.tokens.text(found.tokens), found.tokens, found.mean_logprob, found.ended, no_speech)

    @torch.inference_mode()
    def attend(
        self,
        clips: Sequence[Samples],
        pieces: Sequence[Sequence[str]],
        languages: Sequence[str],
        context: ContextMode = "speech",
        heads: Sequence[Head] | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Attention | None]:
        """See `Aligner.attend`."""
        model: Any = self.module
        return attend(model, self.tokens, self.encoder.n_mels, clips, pieces, languages, heads, context, on_done)

    @property
    def heads(self) -> tuple[Head, ...]:
        """See `Aligner.heads`."""
        return all_heads(self.module)

    def _search(
        self,
        clips: list[Samples],
        languages: list[str | None],
        context: ContextMode,
        beam_size: int,
        previous: list[str | None] | None = None,
        temperature: float = 0.0,
    ) -> tuple[list[list[Found]], torch.Tensor]:
        """Hypotheses of each clip, best first, and the probability of no speech [clips]."""
        model: Any = self.module
        seconds = max(len(clip) for clip in clips) / SAMPLE_RATE
        frames = FULL_FRAMES if context == "padded" else bucket_frames(seconds)
        mels = [log_mel(clip, self.encoder.n_mels, frames).to(model.device, model.dtype) for clip in clips]
        states = encode(model, mels).padded
        prompts = [
            self.tokens.prompt(language or detected, before)
            for language, detected, before in zip(
                languages, self._detect(states, languages), previous or [None] * len(clips), strict=True
            )
        ]
        decoder = _Decoder(self, states, torch.tensor(prompts, device=model.device))
        room = model.config.max_target_positions + PROMPT_TOKENS - len(prompts[0])
        limits = [max_new_tokens(len(clip) / SAMPLE_RATE, room) for clip in clips]
        if beam_size > 1 and not temperature:
            found = beam(decoder, self.tokens.end, limits, beam_size)
        else:
            drawn = torch.Generator().manual_seed(0)
            found = [[one] for one in greedy(decoder, self.tokens.end, limits, temperature, drawn)]
        return found, decoder.no_speech

    def _detect(self, states: torch.Tensor, languages: list[str | None]) -> list[str]:
        if all(languages):
            return [""] * len(languages)
        model: Any = self.module
        start = torch.full((len(languages), 1), self.tokens.start, device=states.device)
        hidden = model.model.decoder(input_ids=start, encoder_hidden_states=states, use_cache=False)
        codes, ids = list(self.tokens.languages), list(self.tokens.languages.values())
        return [codes[i] for i in model.proj_out(hidden.last_hidden_state[:, -1])[:, ids].argmax(-1).tolist()]


class _Decoder:
    """Whisper's decoder with its cache, as a `StepDecoder`."""

    def __init__(self, whisper: Whisper, states: torch.Tensor, prompts: torch.Tensor) -> None:
        model: Any = whisper.module
        self._model = model
        self._states, self._prompts = states, prompts
        # An empty cache without a config grows a layer as the decoder asks for one.
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        config: Any = self._model.generation_config
        vocabulary: int = self._model.config.vocab_size
        banned: set[int] = {*(config.suppress_tokens or ()), *whisper.tokens.steering_ids()}
        banned |= set(range(whisper.tokens.first_timestamp, vocabulary))
        self._banned = torch.zeros(vocabulary, device=states.device)
        self._banned[[i for i in banned if i < vocabulary]] = -torch.inf
        # Where the start token stands, the model says whether anybody speaks.
        self._start_at = prompts.shape[1] - PROMPT_TOKENS
        self._no_speech_id = whisper.tokens.no_speech
        self.no_speech = torch.zeros(len(prompts))
        self._banned_first = self._banned.clone()
        self._banned_first[list(config.begin_suppress_tokens or ())] = -torch.inf

    def start(self) -> torch.Tensor:
        hidden = self._hidden(self._prompts)
        said = torch.softmax(self._model.proj_out(hidden[:, self._start_at]).float(), dim=-1)
        self.no_speech = said[:, self._no_speech_id].cpu()
        return self._logprobs(hidden, self._banned_first)

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._logprobs(self._hidden(tokens[:, None]), self._banned)

    def select(self, rows: torch.Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._states = self._states[rows]

    def _hidden(self, ids: torch.Tensor) -> torch.Tensor:
        return self._model.model.decoder(  # type: ignore[no-any-return]
            input_ids=ids, encoder_hidden_states=self._states, past_key_values=self._cache, use_cache=True
        ).last_hidden_state

    def _logprobs(self, hidden: torch.Tensor, banned: torch.Tensor) -> torch.Tensor:
        return F.log_softmax(self._model.proj_out(hidden[:, -1]).float() + banned, dim=-1)


def max_new_tokens(seconds: float, positions: int) -> int:
    """How many tokens a clip may yield: bounded by its length, and by the decoder's positions less the prompt."""
    speech = bucket_frames(min(seconds, 30.0)) / 100
    return int(min(positions - PROMPT_TOKENS, 20 + MAX_TOKENS_PER_SECOND * speech))


Search = Callable[[list[Samples], list[str | None], list[str | None]], list[Hypothesis]]


def transcribe_in_batches(
    search: Search,
    clips: Sequence[Samples],
    languages: Sequence[str | None],
    context: ContextMode,
    on_done: Callable[[int], None] | None,
    previous: Sequence[str | None] | None = None,
) -> list[Hypothesis]:
    """Run `search` over batches of one context length; results in the order of `clips`.

    Clips with a text before them go one by one: their prompts differ in length.
    """
    results: dict[int, Hypothesis] = {}
    before = list(previous) if previous is not None else [None] * len(clips)
    batches = batches_by_length([len(clip) / SAMPLE_RATE for clip in clips], context)
    for rows in [[row] for batch in batches for row in batch] if any(before) else batches:
        found = search([clips[i] for i in rows], [languages[i] for i in rows], [before[i] for i in rows])
        results.update(zip(rows, found, strict=True))
        if on_done:
            on_done(len(rows))
    return [results[i] for i in range(len(clips))]


def batches_by_length(
    seconds: Sequence[float],
    context: ContextMode,
    budget_seconds: float = BATCH_AUDIO_SECONDS,
    most: int = 32,
) -> list[list[int]]:
    """Indices of clips in batches of one context bucket each, the budget counted in the bucket's length."""
    for index, length in enumerate(seconds):
        if length > 30:
            raise GovorError(f"Clip {index} is {length:.1f} s long; at most 30 s fit a Whisper window.")
    order = sorted(range(len(seconds)), key=lambda i: seconds[i])
    batches: list[list[int]] = []
    last = 0
    for index in order:
        bucket = bucket_frames(seconds[index])
        frames = FULL_FRAMES if context == "padded" else bucket
        full = batches and (len(batches[-1]) >= most or (len(batches[-1]) + 1) * frames / 100 > budget_seconds)
        if not batches or bucket != last or full:
            batches.append([])
        batches[-1].append(index)
        last = bucket
    return batches


def save_processor(tokens: WhisperTokens, n_mels: int, folder: Path) -> None:
    """Tokenizer and feature extractor.

    `preprocessor_config.json` is written beside `processor_config.json`: faster-whisper and CTranslate2 read the
    number of mel bands from it and assume 80 without.
    """
    from transformers import WhisperProcessor, WhisperTokenizer

    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    file = folder / "tokenizer.json"
    tokens.tokenizer.save(str(file))
    processor = WhisperProcessor(extractor, WhisperTokenizer.from_pretrained(folder))
    keep = folder / "tokenizer.keep"
    shutil.copy(file, keep)
    processor.save_pretrained(folder)
    extractor.save_pretrained(folder)
    keep.replace(file)  # ours names the time tokens and has no start token baked into its template
