"""Qwen3-ASR as a Family and Recogniser.

Shapes: B clips, F mel frames, T tokens, V vocabulary. Rows are padded on the left, so that the answers of a batch begin
and grow at one place; masks and positions make that invisible to the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationConfig, Qwen3ASRConfig, Qwen3ASRForConditionalGeneration
from transformers.cache_utils import DynamicCache

from govor.audio import SAMPLE_RATE, Samples
from govor.errors import GovorError
from govor.examples.settings import Examples
from govor.families.base import GREEDY, IGNORED, Batch, Exporter, Family, Hypothesis, Inference
from govor.families.checking import loading
from govor.families.decoding import BATCH_AUDIO_SECONDS, MAX_TOKENS_PER_SECOND, Candidate, beam, greedy
from govor.families.loading import (
    check_dtypes,
    check_finite,
    from_files,
    quiet_library,
    weight_files,
)
from govor.families.loss import cross_entropy_sum
from govor.families.qwen3_asr.convert import (
    assemble,
    generation_config,
    is_thinker,
    load_thinker,
    read_config,
    write_thinker,
)
from govor.families.qwen3_asr.exports import Thinker, Transformers
from govor.families.qwen3_asr.features import MAX_SECONDS, audio_tokens, log_mel, stack
from govor.families.qwen3_asr.labels import prompt_ids
from govor.families.qwen3_asr.languages import language_name
from govor.families.qwen3_asr.processor import save_processor, save_thinker_processor
from govor.families.qwen3_asr.renderer import Qwen3AsrRenderer, pad_left
from govor.families.qwen3_asr.tokens import AUDIO_PAD, QwenTokens
from govor.families.recogniser import RECOGNITION
from govor.families.task import DecodeOptions, Task

# "language Serbo-Croatian<asr_text>", where the model writes it itself.
LANGUAGE_TOKENS = 16


class Qwen3Asr(Inference):
    """A Qwen3-ASR model that trains and transcribes."""

    name: ClassVar[str] = "qwen3_asr"
    task: ClassVar[Task] = RECOGNITION
    exports: ClassVar[Mapping[str, Exporter[Qwen3Asr]]] = {"hf": Transformers(), "thinker": Thinker()}
    longest_seconds = Qwen3AsrRenderer.longest_seconds

    def __init__(self, module: Qwen3ASRForConditionalGeneration, tokens: QwenTokens) -> None:
        self.module: nn.Module = module
        self.tokens = tokens
        self.notes: list[str] = list(tokens.notes)
        self.renderer = Qwen3AsrRenderer.of(tokens, module.config)

    @property
    def model(self) -> Qwen3ASRForConditionalGeneration:
        """The module as the library's class."""
        return cast(Qwen3ASRForConditionalGeneration, self.module)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32, **options: object) -> Qwen3Asr:
        """From a folder in the native or the older `thinker.*` layout; safetensors only.

        `options` go to `from_pretrained`.
        """
        config, tokens = read_config(folder), QwenTokens.load(folder)
        check_dtypes(weight_files(folder))
        with loading(folder), quiet_library():
            if is_thinker(folder):
                module = load_thinker(folder, tokens, dtype, **options)
            else:
                module = _load_native(folder, config, dtype, options)
        return cls._whole(module, tokens, folder)

    @classmethod
    def from_base(cls, folder: Path, weights: dict[str, torch.Tensor]) -> Qwen3Asr:
        """From the configuration files of `save_base` and a checkpoint's weights (tied ones stored once)."""
        config = read_config(folder)
        own = {name: tensor.clone() for name, tensor in weights.items()}
        module = assemble(config, own, torch.float32, folder)
        module.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        return cls._whole(module, QwenTokens.load(folder), folder)

    @classmethod
    def _whole(cls, module: Qwen3ASRForConditionalGeneration, tokens: QwenTokens, folder: Path) -> Qwen3Asr:
        """A loaded model, checked against the other files of its folder."""
        rows = module.config.text_config.vocab_size
        if tokens.size > rows:
            raise GovorError(
                f"The tokenizer in {folder} has {tokens.size:,} tokens and the model {rows:,} rows: they are of different "
                "models; copy the tokenizer.json of the model's base into it."
            )
        if module.config.audio_token_id != tokens.audio_pad:
            raise GovorError(
                f"{folder / 'config.json'} puts audio where id {module.config.audio_token_id} stands and the tokenizer calls "
                f"{tokens.audio_pad} {AUDIO_PAD}; copy the tokenizer.json of the model's base into it."
            )
        check_finite(module, folder)
        qwen = cls(module.eval(), tokens)
        ends = [tokens.end_of_text, tokens.end]
        stated = module.generation_config.eos_token_id
        if sorted(stated if isinstance(stated, list) else [stated]) != sorted(ends):
            module.generation_config = generation_config(tokens)
            qwen.notes.append(f"{folder / 'generation_config.json'} lacked the two end tokens; made from the tokenizer")
        return qwen

    @staticmethod
    def load_renderer(folder: Path, _examples: Examples) -> Qwen3AsrRenderer:
        """What renders the examples of the model in `folder`, without loading its weights."""
        return Qwen3AsrRenderer.load(folder)

    @property
    def chance_loss(self) -> float:
        """The loss per token of a model that knows nothing: the natural logarithm of the vocabulary's size."""
        return math.log(self.model.config.text_config.vocab_size)

    def loss(self, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy summed over the taught tokens, and their number. Logits are made for those alone."""
        taught = batch["targets"] != IGNORED
        hidden, targets = self._hidden(batch)[taught], batch["targets"][taught]
        return cross_entropy_sum(self.model.lm_head, hidden, targets, label_smoothing), taught.sum()

    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits [B, T, V] of a batch, for proofs that an export does what was trained."""
        return self.model.lm_head(self._hidden(batch))  # type: ignore[no-any-return]

    def _hidden(self, batch: Batch) -> torch.Tensor:
        features, mask = stack([mel.to(self.model.dtype) for mel in batch["mels"]], self.renderer.n_window)
        outputs = self.model.model(
            input_ids=batch["inputs"],
            input_features=features,
            input_features_mask=mask,
            attention_mask=batch["attention"],
            position_ids=batch["positions"],
            use_cache=False,
        )
        return outputs.last_hidden_state  # type: ignore[no-any-return]

    def parts(self) -> dict[str, list[str]]:
        """Every parameter once, in the order of the signal.

        encoder.stem (convolutions), encoder.0 …, encoder.norm, projector, embeddings, decoder.0 …, decoder.norm, and
        head where it is not the embeddings themselves.
        """
        config = self.model.config
        audio_layers = range(config.audio_config.encoder_layers)
        text_layers = range(config.text_config.num_hidden_layers)
        prefixes = {
            **{f"encoder.{i}": f"model.audio_tower.layers.{i}." for i in audio_layers},
            "encoder.norm": "model.audio_tower.ln_post.",
            "encoder.stem": "model.audio_tower.",
            "projector": "model.multi_modal_projector.",
            "embeddings": "model.language_model.embed_tokens.",
            **{f"decoder.{i}": f"model.language_model.layers.{i}." for i in text_layers},
            "decoder.norm": "model.language_model.norm.",
            "head": "lm_head.",
        }
        groups: dict[str, list[str]] = {"encoder.stem": [], **{group: [] for group in prefixes}}
        for name, _ in self.module.named_parameters():
            groups[next(group for group, prefix in prefixes.items() if name.startswith(prefix))].append(name)
        return {group: names for group, names in groups.items() if names}

    def lora_targets(self) -> list[str]:
        """Names of the modules that LoRA adapts: attention and feed-forward of the language model.

        Full names, since the bare ones also hit the audio tower, whose adapters vLLM ignores.
        """
        config = self.model.config
        parts = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
        layers = range(config.text_config.num_hidden_layers)
        return [f"model.language_model.layers.{layer}.{part}" for layer in layers for part in parts]

    def prepare_training(self, _examples: Examples) -> None:
        """See `Family.prepare_training`. Nothing to lift: the model has no list of forbidden text."""

    def save_base(self, folder: Path) -> None:
        """config.json, generation_config.json, tokenizer and feature-extractor files."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.config.save_pretrained(folder)
        self.model.generation_config.save_pretrained(folder)
        self.save_processor(folder)

    def save_processor(self, folder: Path) -> None:
        """See `Family.save_processor`."""
        save_processor(self.tokens, self.renderer.n_mels, self.renderer.n_window, folder)

    def save(self, folder: Path) -> None:
        """A folder that `transformers` loads (the layout of the published `-hf` models)."""
        self.model.save_pretrained(folder)
        self.save_base(folder)

    def save_thinker(self, folder: Path, languages: Sequence[str] = ()) -> None:
        """A folder in the older `thinker.*` layout, which is the one that vLLM reads.

        `languages` (codes or English names) are listed as supported beside the 30 of the published models. Names,
        shapes and configuration follow the published files and what vLLM's source reads; vLLM itself was not run on
        the result, so serving it there is untested.
        """
        write_thinker(self.module, self.tokens, languages, folder)
        save_thinker_processor(self.tokens, self.renderer.n_mels, folder)

    def check_language(self, language: str) -> None:
        """See `Recogniser.check_language`."""
        language_name(language)

    def transcribe(
        self,
        clips: Sequence[Samples],
        languages: Sequence[str | None],
        options: DecodeOptions = GREEDY,
        on_done: Callable[[int], None] | None = None,
        previous: Sequence[str | None] | None = None,
    ) -> list[Hypothesis]:
        """See `Recogniser.transcribe`; clips may last 1,200 s. The text before goes into the system turn.

        A language is a code or an English name; where it is None the model writes it first. The context makes no
        difference: this model never pads a clip.
        """
        results: dict[int, Hypothesis] = {}
        before = list(previous) if previous is not None else [None] * len(clips)
        for rows in batches_by_length([len(clip) / SAMPLE_RATE for clip in clips]):
            candidates = self._search(
                [clips[i] for i in rows],
                [languages[i] for i in rows],
                options,
                [before[i] for i in rows],
            )
            for row, best in zip(rows, candidates, strict=True):
                results[row] = self._hypothesis(best[0], languages[row])
            if on_done:
                on_done(len(rows))
        return [results[i] for i in range(len(clips))]

    def nbest(self, clip: Samples, language: str | None, n: int, options: DecodeOptions = GREEDY) -> list[Hypothesis]:
        """See `Recogniser.nbest`; the context makes no difference."""
        batches_by_length([len(clip) / SAMPLE_RATE])
        return [
            self._hypothesis(candidate, language)
            for candidate in self._search([clip], [language], DecodeOptions(options.context, n))[0][:n]
        ]

    def _hypothesis(self, candidate: Candidate, language: str | None) -> Hypothesis:
        text = self.tokens.parse(candidate.tokens)[1] if language is None else self.tokens.text(candidate.tokens)
        return Hypothesis(text, candidate.tokens, candidate.mean_logprob, candidate.ended)

    def _search(
        self,
        clips: list[Samples],
        languages: list[str | None],
        options: DecodeOptions,
        previous: list[str | None] | None = None,
    ) -> list[list[Candidate]]:
        mels = [log_mel(clip, self.renderer.n_mels) for clip in clips]
        prompts = [
            prompt_ids(self.tokens, audio_tokens(mel.shape[-1], self.renderer.n_window), (text or "").strip(), language)
            for mel, language, text in zip(mels, languages, previous or [None] * len(clips), strict=True)
        ]
        rooms = [self.renderer.max_tokens - len(prompt) for prompt in prompts]
        if min(rooms) < 1:
            raise GovorError(
                f"A clip needs {max(map(len, prompts)):,} positions and the model holds {self.renderer.max_tokens:,}; "
                "cut it into shorter ones."
            )
        limits = [
            max_new_tokens(len(clip) / SAMPLE_RATE, language is not None, room)
            for clip, language, room in zip(clips, languages, rooms, strict=True)
        ]
        given = torch.tensor([language is not None for language in languages], device=self.model.device)
        decoder = _Decoder(self, [mel.to(self.model.device, self.model.dtype) for mel in mels], prompts, given)
        if options.beam_size > 1 and not options.temperature:
            return beam(decoder, self.tokens.end, limits, options.beam_size)
        drawn = torch.Generator().manual_seed(0)
        return [[candidate] for candidate in greedy(decoder, self.tokens.end, limits, options.temperature, drawn)]


class _Decoder:
    """The language model with its cache, as a `StepDecoder`. Either of the two end tokens is the end."""

    def __init__(
        self, family: Qwen3Asr, mels: list[torch.Tensor], prompts: list[list[int]], language_given: torch.Tensor
    ) -> None:
        self._model = family.model
        self._tokens = family.tokens
        self._given = language_given
        self._features, self._features_mask = stack(mels, family.renderer.n_window)
        device = self._features.device
        padded = pad_left(prompts, family.tokens.end)
        self._inputs, self._attention, self._positions = (part.to(device) for part in padded)
        config = self._model.config.text_config
        self._cache = DynamicCache(config=config)
        vocabulary: int = config.vocab_size
        self._banned = torch.zeros(vocabulary, device=device)
        self._banned[family.tokens.never_written()] = -torch.inf
        self._banned[family.tokens.size :] = -torch.inf  # rows of the embedding that have no token

    def start(self) -> torch.Tensor:
        return self._logprobs(
            self._inputs,
            self._positions,
            input_features=self._features,
            input_features_mask=self._features_mask,
        )

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        self._attention = F.pad(self._attention, (0, 1), value=1)
        self._positions = self._positions[:, -1:] + 1
        return self._logprobs(tokens[:, None], self._positions)

    def select(self, rows: torch.Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._attention, self._positions = self._attention[rows], self._positions[rows]
        self._given = self._given[rows]

    def _logprobs(self, ids: torch.Tensor, positions: torch.Tensor, **audio: torch.Tensor) -> torch.Tensor:
        hidden = self._model.model(
            input_ids=ids,
            attention_mask=self._attention,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            **audio,
        ).last_hidden_state
        logits = self._model.lm_head(hidden[:, -1]).float() + self._banned
        end, other_end = self._tokens.end, self._tokens.end_of_text
        logits[:, end] = torch.logaddexp(logits[:, end], logits[:, other_end])
        logits[:, other_end] = -torch.inf
        logits[self._given, self._tokens.asr_text] = -torch.inf
        return F.log_softmax(logits, dim=-1)


FAMILY: type[Family] = Qwen3Asr


def _load_native(
    folder: Path, config: Qwen3ASRConfig, dtype: torch.dtype, options: dict[str, object]
) -> Qwen3ASRForConditionalGeneration:
    options = {"config": config, **options}
    module, _ = from_files(Qwen3ASRForConditionalGeneration, folder, dtype, options)
    # transformers does not tie what is stored twice with different values; the configuration shall say what is.
    tied = module.lm_head.weight is module.model.language_model.embed_tokens.weight
    module.config.tie_word_embeddings = module.config.text_config.tie_word_embeddings = tied
    return module


def max_new_tokens(seconds: float, language_given: bool, room: int) -> int:
    """How many tokens a clip may yield: bounded by its length, and by the positions that the prompt leaves."""
    bound = 20 + math.ceil(MAX_TOKENS_PER_SECOND * max(seconds, 1.0))
    return min(room, bound + (0 if language_given else LANGUAGE_TOKENS))


def batches_by_length(
    seconds: Sequence[float], budget_seconds: float = BATCH_AUDIO_SECONDS, most: int = 32
) -> list[list[int]]:
    """Indices of clips in batches of like length; the budget counts every clip as long as its batch's longest.

    Raises:
        GovorError: a clip is longer than 1,200 s.
    """
    for index, length in enumerate(seconds):
        if length > MAX_SECONDS:
            raise GovorError(f"Clip {index} is {length:.1f} s long; Qwen3-ASR takes at most {MAX_SECONDS:,} s.")
    batches: list[list[int]] = []
    for index in sorted(range(len(seconds)), key=lambda i: seconds[i]):
        full = batches and (len(batches[-1]) >= most or (len(batches[-1]) + 1) * seconds[index] > budget_seconds)
        if not batches or full:
            batches.append([])
        batches[-1].append(index)
    return batches
