"""Whisper as a Family and Recogniser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, cast

import torch
from tokenizers import AddedToken
from torch import nn
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from govor.audio import SAMPLE_RATE, Samples
from govor.errors import GovorError
from govor.examples.settings import Examples
from govor.families.base import GREEDY, IGNORED, Attention, Batch, Exporter, Family, Head, Hypothesis, Inference
from govor.families.checking import loading
from govor.families.decoding import Candidate, beam, greedy
from govor.families.loading import (
    check_complete,
    check_dtypes,
    check_finite,
    from_files,
    quiet_library,
    weight_files,
)
from govor.families.loss import cross_entropy_sum
from govor.families.recogniser import RECOGNITION
from govor.families.task import ContextMode, DecodeOptions, Task
from govor.families.whisper.attention import all_heads, attend, stock_heads
from govor.families.whisper.batches import PROMPT_TOKENS, max_new_tokens, transcribe_in_batches
from govor.families.whisper.checks import check_folder
from govor.families.whisper.exports import CTranslate2, Transformers
from govor.families.whisper.features import FULL_FRAMES, bucket_frames, log_mel, silence_level
from govor.families.whisper.forward import States, decode, encode, parts_of
from govor.families.whisper.generation import completed
from govor.families.whisper.renderer import WhisperRenderer
from govor.families.whisper.search import Search
from govor.families.whisper.silence import Silence
from govor.families.whisper.silences import Silences
from govor.families.whisper.tokens import END, WhisperTokens, token_code
from govor.files import write_text
from govor.jsons import to_json, write_json
from govor.runs import Json

HEAD = "proj_out.weight"
_SINUSOIDS = "model.encoder.embed_positions.weight"
_OF_GENERATION = ("forced_decoder_ids", "suppress_tokens", "begin_suppress_tokens", "max_length")


class Whisper(Inference):
    """A Whisper model that trains on the speech and transcribes it."""

    name: ClassVar[str] = "whisper"
    task: ClassVar[Task] = RECOGNITION
    exports: ClassVar[Mapping[str, Exporter[Whisper]]] = {"hf": Transformers(), "ct2": CTranslate2()}
    longest_seconds = WhisperRenderer.longest_seconds
    contexts: ClassVar[tuple[ContextMode, ...]] = ("cached", "padded", "speech")

    def __init__(self, module: WhisperForConditionalGeneration, tokens: WhisperTokens) -> None:
        self.module: nn.Module = module
        self.tokens = tokens
        self.notes: list[str] = []
        self.silences = Silences(module)
        config = module.config
        self.renderer = WhisperRenderer(tokens, config.num_mel_bins, config.max_target_positions)

    @property
    def model(self) -> WhisperForConditionalGeneration:
        """The module as the library's class."""
        return cast(WhisperForConditionalGeneration, self.module)

    @staticmethod
    def load_renderer(folder: Path, _examples: Examples) -> WhisperRenderer:
        """What renders its examples, without weights."""
        return WhisperRenderer.load(folder)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32, **options: object) -> Whisper:
        """From a folder in the `transformers` layout; safetensors only. `options` go to `from_pretrained`.

        Everything is checked (weights, tokenizer, sizes, generation config); `notes` say what was mended.

        Raises:
            GovorError: the folder holds no whole multilingual Whisper.
        """
        check_dtypes(weight_files(folder))
        tokens = WhisperTokens.load(folder)
        # Before the weights are read: sizes that do not belong together have a better reason than a shape.
        check_folder(folder, WhisperConfig.from_pretrained(folder, local_files_only=True), tokens)
        with loading(folder), quiet_library():
            model, missing = from_files(WhisperForConditionalGeneration, folder, dtype, options, (_SINUSOIDS,))
        notes = []
        if missing:
            notes.append(f"{folder} lacks {_SINUSOIDS}; computed, since they are sinusoids that nothing trains")
        return cls._whole(model, tokens, folder, notes)

    @classmethod
    def from_base(cls, folder: Path, weights: dict[str, torch.Tensor]) -> Whisper:
        """From the configuration files of `save_base` and a checkpoint's weights (tied ones stored once).

        Raises:
            GovorError: the weights are not those of that model.
        """
        config = WhisperConfig.from_pretrained(folder, attn_implementation="sdpa", local_files_only=True)
        model = WhisperForConditionalGeneration(config)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        model.tie_weights()
        check_complete({"missing_keys": missing, "unexpected_keys": unexpected}, folder, (HEAD,))
        return cls._whole(model, WhisperTokens.load(folder), folder, [])

    @classmethod
    def _whole(
        cls, model: WhisperForConditionalGeneration, tokens: WhisperTokens, folder: Path, notes: list[str]
    ) -> Whisper:
        """A loaded model, checked against the other files of its folder."""
        if model.proj_out.weight is not model.model.decoder.embed_tokens.weight:
            raise GovorError(
                f"The model in {folder} has a {HEAD} that differs from its embeddings, and Whisper's are one; save it with "
                "tie_word_embeddings, or take another model."
            )
        check_finite(model, folder)
        notes += [*tokens.notes, *check_folder(folder, model.config, tokens)]
        model.generation_config, mended = completed(folder, tokens, model.config)
        for name in [name for name in _OF_GENERATION if name in model.config.__dict__]:
            if name == "forced_decoder_ids" and model.config.forced_decoder_ids:
                notes.append(f"{folder / 'config.json'} held forced_decoder_ids for every clip; left out")
            delattr(model.config, name)  # configurations of 2022 held what belongs to generation
        whisper = cls(model.eval(), tokens)
        whisper.notes = [*notes, *mended]
        return whisper

    def loss(self, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy summed over the taught tokens, and their number. Logits are made for those alone."""
        silences = self._silences_of(batch, range(len(batch["mels"])))
        hidden = decode(self.model, batch["inputs"], encode(self.model, batch["mels"], silences))
        taught = batch["targets"] != IGNORED
        loss = cross_entropy_sum(self.model.proj_out, hidden[taught], batch["targets"][taught], label_smoothing)
        return loss, taught.sum()

    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits [B, T, vocabulary] of a batch; what several rows hear, the very same tensor, is encoded once."""
        places: dict[int, int] = {}
        rows = [places.setdefault(id(mel), len(places)) for mel in batch["mels"]]
        first = [rows.index(place) for place in range(len(places))]
        states = encode(self.model, [batch["mels"][row] for row in first], self._silences_of(batch, first))
        if len(places) < len(rows):
            states = states.of(rows)
        return self.model.proj_out(decode(self.model, batch["inputs"], states))  # type: ignore[no-any-return]

    def _silences_of(self, batch: Batch, rows: Sequence[int]) -> list[Silence | None] | None:
        """The silence behind some rows of a batch; None where there is none behind any."""
        levels = batch.get("levels")
        return None if levels is None else self.silences.of([float(levels[row]) for row in rows])

    def opened_for_use(self, cache: Path, notify: Callable[[str], None]) -> None:
        """See `Inference.opened_for_use`: cached silence."""
        self.silences.keep_in(cache / "silence", notify)

    def refresh(self) -> None:
        """See `Refreshing.refresh`: the cached silence."""
        self.silences.refresh()

    def refreshed(self) -> dict[str, torch.Tensor]:
        """See `Refreshing.refreshed`."""
        return self.silences.tensors()

    def restore_refreshed(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """See `Refreshing.restore_refreshed`."""
        self.silences.restore(tensors)

    def parts(self) -> dict[str, list[str]]:
        """See `Family.parts`."""
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
        return math.log(self.model.config.vocab_size)

    def prepare_training(self, _examples: Examples) -> None:
        """See `Family.prepare_training`: let the model write every text token.

        The stock list forbids quotes, brackets and dashes; an acronym such as צה"ל could never be learned.
        """
        self.model.generation_config.suppress_tokens = self.tokens.steering_ids()

    def assume_language(self, language: str | None) -> None:
        """Say in the configuration which language goes without saying. An English-only model is told nothing: its prompt has no place for it."""
        config = self.model.generation_config
        config.forced_decoder_ids = None  # an older way of saying the same; where both stand, readers refuse
        if getattr(config, "is_multilingual", True):
            config.language, config.task = language and token_code(language), "transcribe"

    def save_base(self, folder: Path) -> None:
        """config.json, generation_config.json, tokenizer and feature-extractor files."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.config.save_pretrained(folder)
        self.model.generation_config.save_pretrained(folder)
        self.save_processor(folder)

    def save_processor(self, folder: Path) -> None:
        """See `Family.save_processor`."""
        save_processor(self.tokens, self.renderer.n_mels, folder)

    def save(self, folder: Path) -> None:
        """A folder that `transformers`, CTranslate2 and faster-whisper load."""
        # Where none are named, `transformers` times no words; the upper half is what CTranslate2 and openai-whisper take.
        self.model.generation_config.alignment_heads = [list(head) for head in stock_heads(self.model)]
        self.model.save_pretrained(folder)
        self.save_base(folder)

    def check_language(self, language: str) -> None:
        """See `Recogniser.check_language`."""
        self.tokens.language(language)

    def transcribe(
        self,
        clips: Sequence[Samples],
        languages: Sequence[str | None],
        options: DecodeOptions = GREEDY,
        on_done: Callable[[int], None] | None = None,
        previous: Sequence[str | None] | None = None,
    ) -> list[Hypothesis]:
        """See `Recogniser.transcribe`. A language of None is detected."""

        def search(some: list[Samples], codes: list[str | None], before: list[str | None]) -> list[Hypothesis]:
            candidates, no_speech = self._search(some, codes, options, before)
            return [
                self._hypothesis(one[0], silence) for one, silence in zip(candidates, no_speech.tolist(), strict=True)
            ]

        return transcribe_in_batches(search, clips, languages, options.context, on_done, previous, mixed=True)

    def nbest(self, clip: Samples, language: str | None, n: int, options: DecodeOptions = GREEDY) -> list[Hypothesis]:
        """See `Recogniser.nbest`."""
        candidates, no_speech = self._search([clip], [language], DecodeOptions(options.context, beam_size=n))
        return [self._hypothesis(one, float(no_speech[0])) for one in candidates[0][:n]]

    def _hypothesis(self, candidate: Candidate, no_speech: float) -> Hypothesis:
        return Hypothesis(
            self.tokens.text(candidate.tokens), candidate.tokens, candidate.mean_logprob, candidate.ended, no_speech
        )

    def attend(
        self,
        clips: Sequence[Samples],
        pieces: Sequence[Sequence[str]],
        languages: Sequence[str],
        options: DecodeOptions = GREEDY,
        heads: Sequence[Head] | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Attention | None]:
        """See `Aligner.attend`."""
        return attend(self, clips, pieces, languages, options, heads, on_done)

    @property
    def heads(self) -> tuple[Head, ...]:
        """See `Aligner.heads`."""
        return all_heads(self.model)

    def _search(
        self,
        clips: list[Samples],
        languages: list[str | None],
        options: DecodeOptions,
        previous: list[str | None] | None = None,
    ) -> tuple[list[list[Candidate]], torch.Tensor]:
        """Hypotheses of each clip, best first, and the probability of no speech [clips]."""
        seconds = [len(clip) / SAMPLE_RATE for clip in clips]
        frames = [FULL_FRAMES if options.context == "padded" else bucket_frames(length) for length in seconds]
        mels = [
            log_mel(clip, self.renderer.n_mels, length).to(self.model.device, self.model.dtype)
            for clip, length in zip(clips, frames, strict=True)
        ]
        states = encode(self.model, mels, self.silences_behind(mels, options.context))
        prompts = [
            self.tokens.prompt(language or detected, before)
            for language, detected, before in zip(
                languages, self._detect(states, languages), previous or [None] * len(clips), strict=True
            )
        ]
        decoder = Search(
            self.model,
            self.tokens,
            states,
            torch.tensor(prompts, device=self.model.device),
            len(prompts[0]) - PROMPT_TOKENS,
        )
        room = self.model.config.max_target_positions + PROMPT_TOKENS - len(prompts[0])
        limits = [max_new_tokens(length, room) for length in seconds]
        if options.beam_size > 1 and not options.temperature:
            candidates = beam(decoder, self.tokens.end, limits, options.beam_size)
        else:
            drawn = torch.Generator().manual_seed(0)
            candidates = [[one] for one in greedy(decoder, self.tokens.end, limits, options.temperature, drawn)]
        return candidates, decoder.no_speech

    def silences_behind(self, mels: Sequence[torch.Tensor], context: ContextMode) -> list[Silence | None] | None:
        """The cached silence behind each clip, if the context has any."""
        if context != "cached":
            return None
        return self.silences.of([silence_level(mel) for mel in mels])

    def _detect(self, states: States, languages: list[str | None]) -> list[str]:
        if all(languages):
            return [""] * len(languages)
        start = torch.full((len(languages), 1), self.tokens.start, device=states.padded.device)
        hidden = decode(self.model, start, states)
        codes, ids = list(self.tokens.languages), list(self.tokens.languages.values())
        return [codes[i] for i in self.model.proj_out(hidden[:, -1])[:, ids].argmax(-1).tolist()]


FAMILY: type[Family] = Whisper


def save_processor(tokens: WhisperTokens, n_mels: int, folder: Path) -> None:
    """Tokenizer and feature extractor, in the layout of the published Whispers, whose readers are many.

    `preprocessor_config.json` is written beside `processor_config.json`: faster-whisper and CTranslate2 read the
    number of mel bands from it and assume 80 without. whisper.cpp's converter reads vocab.json and added_tokens.json.
    """
    from transformers import WhisperProcessor, WhisperTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokens.tokenizer
    tokenizer.save(str(folder / "tokenizer.json"))
    added = sorted(tokenizer.get_added_tokens_decoder().items())
    pieces = tokenizer.get_vocab(with_added_tokens=False)
    text = sorted((index, piece) for piece, index in pieces.items() if index < tokens.end)
    tokenizer.model.save(
        str(folder)
    )  # merges.txt; its vocab.json may lack the end token, which the published ones hold
    write_text(folder / "vocab.json", to_json({**{piece: index for index, piece in text}, END: tokens.end}) + "\n")
    write_json(folder / "added_tokens.json", {token.content: index for index, token in added if index != tokens.end})
    write_json(folder / "tokenizer_config.json", _tokenizer_config(tokens, added))
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    names = ("tokenizer.json", "tokenizer_config.json")
    ours = {name: (folder / name).read_bytes() for name in names}
    WhisperProcessor(extractor, WhisperTokenizer.from_pretrained(folder)).save_pretrained(folder)
    extractor.save_pretrained(folder)
    for name, content in ours.items():
        # Ours has no start token baked into its template, and is what every version of the readers understands.
        (folder / name).write_bytes(content)


def _tokenizer_config(tokens: WhisperTokens, added: list[tuple[int, AddedToken]]) -> Json:
    """As the published Whispers have it.

    The special tokens are named in the order of their ids, from the end token to <|notimestamps|>: readers take the one
    after the last of them for time 0.00, and what is not named is shown as text.
    """
    fields = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "added_tokens_decoder": {str(index): {name: getattr(token, name) for name in fields} for index, token in added},
        "additional_special_tokens": [
            token.content for index, token in added if tokens.end <= index <= tokens.no_timestamps
        ],
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), END),
        "pad_token": END,  # without one the stock pipeline refuses batches
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 1024,
        "return_attention_mask": False,
    }
