"""Speech recognition as a task, the same for every recogniser: texts are answered, and judged by word and character errors.

Nothing here needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from govor.audio import SAMPLE_RATE, Samples
from govor.config import Share
from govor.corpus.records import Clip
from govor.corpus.samples import check_length, clip_samples, fits_window
from govor.corpus.validate import noise_of
from govor.errors import AudioError, GovorError
from govor.examples.settings import Examples
from govor.families.fallback import Answer, transcribe_served
from govor.families.settings import Gates
from govor.families.task import ContextMode, DecodeOptions, Measurement, Row
from govor.metrics import compare, recognition
from govor.metrics.errors import ErrorReport, of_texts
from govor.metrics.metric import Metric
from govor.metrics.text import NAME
from govor.metrics.wer import COUNTED, Counts, total
from govor.runs import Json

if TYPE_CHECKING:  # scorings are read and compared without torch
    from govor.families.base import Recogniser

# Clips are decoded and transcribed in blocks of this many, so that memory does not grow with the set.
_BLOCK = 256
_COUNTS = Counts().to_row().keys()


class RecognitionGates(Gates):
    """What a recogniser must reach."""

    wer: float | None = Field(None, gt=0, description="highest WER; of a suite's set with the suite's normaliser")
    wer_upper: float | None = Field(None, gt=0, description="highest upper bound of that WER's 95 % interval")
    cer: float | None = Field(None, gt=0, description="highest CER")
    timestamp_offset_seconds: float | None = Field(None, gt=0, description="highest mean offset of word times")
    timestamp_coverage: Share | None = Field(None, description="lowest share of words placed in their own line")
    hallucination_rate: Share | None = Field(None, description="highest share of speechless sounds that yield text")


def clip_row(clip: Clip, samples: int, noise: float | None) -> Row:
    """What a scoring keeps of a clip itself; `samples` is how many of it there are."""
    return {
        "id": clip.id,
        "audio": clip.audio,
        "offset": clip.offset,
        "duration": round(samples / SAMPLE_RATE, 4),
        "language": clip.language,
        "speaker": clip.speaker,
        "source": clip.source,
        "snr_db": noise,
        "reference": clip.transcript,
    }


class SpeechRecognition:
    """The `Task` of recognisers."""

    name: str = "automatic-speech-recognition"
    metrics: tuple[Metric, ...] = (Metric("wer", "lower"), Metric("cer", "lower"))
    gates: tuple[Metric, ...] = (
        Metric("wer", "lower"),
        Metric("wer_upper", "lower"),
        Metric("cer", "lower"),
        Metric("timestamp_offset_seconds", "lower"),
        Metric("timestamp_coverage", "higher"),
        Metric("hallucination_rate", "lower"),
    )
    contexts: tuple[ContextMode, ...] = ("speech", "padded", "cached")
    evidence: tuple[str, ...] = ("reference", "hypothesis", "words", "characters")

    def evidence_for(self, gate: str) -> tuple[Measurement, str]:
        """See `Task.evidence_for`: rates are of clips, times of splices, hallucinations of sounds."""
        if gate == "hallucination_rate":
            return "hallucination", gate
        if gate.startswith("timestamp_"):
            return "timestamps", gate.removeprefix("timestamp_")
        return "scoring", gate

    def refuse(self, clip: Clip, examples: Examples | None = None) -> str | None:
        """See `Task.refuse`."""
        if clip.transcribed:
            return None
        return f"clip '{clip.id}' has no transcript, and speech recognition needs one"

    def check_clips(self, model: object, clips: Sequence[Clip], manifest: Path, options: DecodeOptions) -> None:
        """See `Task.check_clips`: clips are too long for the model, or in a language that it cannot be told."""
        for clip in clips:
            check_length(clip)
        recogniser = _recogniser(model)
        longest = recogniser.longest_seconds
        too_long = [clip.id for clip in clips if clip.duration > longest and not fits_window(clip.duration)]
        if too_long:
            raise GovorError(
                f"{len(too_long)} clips of {manifest} are longer than {longest:g} s (first: {too_long[0]}); "
                "validate the manifest first."
            )
        for code in sorted({options.language or clip.language for clip in clips}):
            try:
                recogniser.check_language(code)
            except GovorError as error:
                raise GovorError(f"{manifest}: {error}") from None

    def answers(
        self,
        model: object,
        clips: Sequence[Clip],
        options: DecodeOptions,
        on_done: Callable[[int], None] | None = None,
        on_unreadable: Callable[[Clip, AudioError], None] | None = None,
    ) -> Iterator[list[Row]]:
        """See `Task.answers`: raw reference and hypothesis; each row says what share of its block's seconds it took.

        `flags` are those of `fallback.Answer`, in a plain search those of the text that it found.
        """
        recogniser = _recogniser(model)
        for at in range(0, len(clips), _BLOCK):
            start = time.perf_counter()
            block, samples = _readable(clips[at : at + _BLOCK], on_unreadable)
            languages = [options.language or clip.language for clip in block]
            answers = _answers(recogniser, samples, languages, options, on_done) if block else []
            took = (time.perf_counter() - start) / max(sum(len(audio) for audio in samples), 1)
            yield [
                {
                    **clip_row(clip, len(audio), noise_of(audio) if clip.snr_db is None else clip.snr_db),
                    **_answered(answer),
                    "took_seconds": round(took * len(audio), 5),
                }
                for clip, audio, answer in zip(block, samples, answers, strict=True)
            ]

    def unanswered(self, clip: Clip, model: object = None) -> Row:
        """See `Task.unanswered`: an empty text."""
        return {**clip_row(clip, 0, clip.snr_db), "duration": clip.duration, "hypothesis": ""}

    def counted(self, rows: Sequence[Row]) -> list[Row]:
        """See `Task.counted`: word and character counts, strict and lenient."""
        return recognition.with_counts(rows)

    def sound(self, row: Row) -> bool:
        """See `Task.sound`: texts, and whole counts."""
        texts = all(isinstance(row[key], str) for key in ("reference", "hypothesis"))
        return texts and all(
            isinstance(row[key], dict) and row[key].keys() == _COUNTS for key in ("words", "characters")
        )

    def current(self, summary: Row, rows: Sequence[Row] = ()) -> bool:
        """See `Task.current`: with today's normalisers, strict and lenient, by slice, and with loops counted."""
        counted = all(key in row for row in rows for key in COUNTED)
        return summary.get("normaliser") == NAME and counted and "slices" in summary and "ran_on" in summary

    def rates(self, rows: Sequence[Row]) -> dict[str, float | None]:
        """See `Task.rates`: corpus WER and CER."""
        words, characters = (total(Counts(**row[unit]) for row in rows).rate for unit in ("words", "characters"))
        return {name: None if rate is None else round(rate, 6) for name, rate in (("wer", words), ("cer", characters))}

    def summarise(self, rows: Sequence[Row]) -> Json:
        """See `Task.summarise`: WER and CER with intervals, strict and lenient, and by slice."""
        return recognition.summarise(rows)

    def errors(self, row: Row) -> tuple[int, int]:
        """See `Task.errors`: words."""
        words = Counts(**row["words"])
        return words.errors, words.length

    def report(self, before: Sequence[Row], after: Sequence[Row]) -> ErrorReport:
        """See `Task.report`: confused letters and words, and where errors lie in clips and by speakers."""
        return of_texts(before, after)

    def compare(self, before: Sequence[Row], after: Sequence[Row], names: tuple[str, str]) -> Json:
        """See `Task.compare`: also what changed by slice and by clip, and a verdict in words."""
        return compare.compare(before, after, *names)


def _recogniser(model: object) -> Recogniser:
    from govor.families.base import Recogniser  # whoever has a model has imported torch

    if not isinstance(model, Recogniser):
        raise TypeError(f"{type(model).__name__} is no Recogniser")
    return model


def _answers(
    recogniser: Recogniser,
    samples: Sequence[Samples],
    languages: Sequence[str | None],
    options: DecodeOptions,
    on_done: Callable[[int], None] | None,
) -> list[Answer]:
    if options.served:
        return transcribe_served(recogniser, samples, languages, options, on_done)
    return [Answer.of(first) for first in recogniser.transcribe(samples, languages, options, on_done)]


def _answered(answer: Answer) -> Row:
    """What a row keeps of an answer."""
    first = answer.hypothesis
    if first is None:
        return {"hypothesis": "", "mean_logprob": None, "complete": True, "flags": list(answer.flags)}
    return {
        "hypothesis": answer.text,
        "mean_logprob": round(first.mean_logprob, 4),
        "complete": first.complete,
        "flags": list(answer.flags),
        **({"temperature": answer.temperature} if answer.temperature else {}),
    }


def _readable(
    clips: Sequence[Clip], on_unreadable: Callable[[Clip, AudioError], None] | None
) -> tuple[list[Clip], list[Samples]]:
    """Clips with their samples, those left out that cannot be read."""
    block: list[Clip] = []
    samples: list[Samples] = []
    for clip in clips:
        try:
            samples.append(clip_samples(clip))
            block.append(clip)
        except AudioError as error:
            if on_unreadable is None:
                raise
            on_unreadable(clip, error)
    return block, samples


RECOGNITION = SpeechRecognition()
