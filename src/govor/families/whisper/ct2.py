"""The CTranslate2 files of a package as a Recogniser: the encoder runs on the speech here too.

faster-whisper always pads to 30 s; the engine under it takes any even number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.samples import WINDOW_SECONDS
from govor.errors import GovorError
from govor.families.base import GREEDY, Hypothesis, Inference
from govor.families.checking import loading
from govor.families.recogniser import RECOGNITION
from govor.families.task import DecodeOptions, Task
from govor.families.whisper.batches import PROMPT_TOKENS, max_new_tokens, transcribe_in_batches
from govor.families.whisper.features import FULL_FRAMES, bucket_frames, log_mel
from govor.families.whisper.labels import MAX_TOKENS
from govor.families.whisper.tokens import WhisperTokens
from govor.files import exists, read_text
from govor.jsons import parse_json, read_json

if TYPE_CHECKING:
    import ctranslate2


class CTranslate2Whisper(Inference):
    """Transcribes; it cannot be trained."""

    name = "whisper"
    task: ClassVar[Task] = RECOGNITION
    longest_seconds = WINDOW_SECONDS

    def __init__(
        self, model: ctranslate2.models.Whisper, tokens: WhisperTokens, n_mels: int, suppressed: list[int]
    ) -> None:
        self._model, self.tokens = model, tokens
        self._n_mels, self._suppressed = n_mels, suppressed

    @classmethod
    def load(cls, folder: Path, compute_type: str = "default", threads: int = 0) -> CTranslate2Whisper:
        """From a CTranslate2 folder; `compute_type` as CTranslate2 names it (default: as stored)."""
        try:
            import ctranslate2
        except ImportError:
            raise GovorError("The ct2 engine is not installed; install it with: pip install ctranslate2") from None
        if not (folder / "model.bin").exists():
            raise GovorError(f"{folder} holds no CTranslate2 model; make one with: govor package RUN --format ct2")
        from govor.families.whisper.ct2_files import check_ctranslate2, read_settings

        check_ctranslate2(folder)
        settings = read_settings(folder)
        preprocessor = folder / "preprocessor_config.json"
        stated = read_json(preprocessor, feature_size=int)["feature_size"] if preprocessor.exists() else None
        tokens = WhisperTokens.load(folder)
        with loading(folder):
            model = ctranslate2.models.Whisper(
                str(folder), device="auto", compute_type=compute_type, intra_threads=threads
            )
        suppressed = {*settings.get("suppress_ids", ()), *tokens.never_text(_rows(folder, tokens))}
        return cls(model, tokens, stated or model.n_mels, sorted(suppressed))

    def encode(self, features: ctranslate2.StorageView) -> ctranslate2.StorageView:
        """The engine's encoder states of a StorageView [B, n_mels, F]."""
        return self._model.encode(features, to_cpu=True)

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
        """See `Recogniser.transcribe`."""

        def search(some: list[Samples], codes: list[str | None], before: list[str | None]) -> list[Hypothesis]:
            return [best[0] for best in self._search(some, codes, options, 1, before)]

        return transcribe_in_batches(search, clips, languages, options.context, on_done, previous)

    def nbest(self, clip: Samples, language: str | None, n: int, options: DecodeOptions = GREEDY) -> list[Hypothesis]:
        """See `Recogniser.nbest`."""
        return self._search([clip], [language], DecodeOptions(options.context, beam_size=n), n)[0]

    def _search(
        self,
        clips: list[Samples],
        languages: list[str | None],
        options: DecodeOptions,
        n: int,
        previous: list[str | None] | None = None,
    ) -> list[list[Hypothesis]]:
        import ctranslate2

        seconds = max(len(clip) for clip in clips) / SAMPLE_RATE
        frames = FULL_FRAMES if options.context == "padded" else bucket_frames(seconds)
        mel = np.stack([log_mel(clip, self._n_mels, frames).numpy() for clip in clips])
        states = self._model.encode(ctranslate2.StorageView.from_array(mel))
        if not all(languages):
            detected = [guesses[0][0].strip("<|>") for guesses in self._model.detect_language(states)]
            languages = [language or guess for language, guess in zip(languages, detected, strict=True)]
        before = previous or [None] * len(clips)
        prompts = [self.tokens.prompt(str(language), text) for language, text in zip(languages, before, strict=True)]
        limit = max_new_tokens(seconds, MAX_TOKENS + PROMPT_TOKENS - len(prompts[0]))
        temperature = options.temperature
        if temperature:
            ctranslate2.set_random_seed(0)
        results = self._model.generate(
            states,
            prompts,
            beam_size=1 if temperature else options.beam_size,
            num_hypotheses=n,
            sampling_topk=0 if temperature else 1,
            sampling_temperature=temperature or 1.0,
            # The engine counts the prompt, and generates at most half of max_length where that is short.
            max_length=min(2 * limit, MAX_TOKENS) if len(prompts[0]) > PROMPT_TOKENS else 2 * limit,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
            return_scores=True,
        )
        return [
            [
                Hypothesis(self.tokens.text(ids), ids, float(score), len(ids) < limit, float(item.no_speech_prob))
                for ids, score in zip(item.sequences_ids, item.scores, strict=True)
            ]
            for item in results
        ]


def _rows(folder: Path, tokens: WhisperTokens) -> int:
    """How many tokens the engine's own vocabulary has; a tokenizer may name fewer."""
    file = folder / "vocabulary.json"
    if exists(file):
        return len(parse_json(read_text(file), f"{file} is not valid JSON"))
    return int(tokens.tokenizer.get_vocab_size())
