"""Score a model on a manifest: one row per clip kept, so that anything can be scored again without the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.manifests import fingerprint, read_rows, write_rows
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.corpus.validate import noise_of
from govor.errors import AudioError, GovorError
from govor.jsons import read_json, write_json
from govor.metrics.recognition import ClipRow, summarise, with_counts
from govor.metrics.text import NAME
from govor.metrics.wer import COUNTED, Counts
from govor.runs import NAME as NAME_PATTERN

if TYPE_CHECKING:  # scorings are read and compared without torch
    from govor.families.base import Recogniser
    from govor.families.task import ContextMode

# Clips are decoded and transcribed in blocks of this many, so that memory does not grow with the set.
_BLOCK = 256
_COUNT_KEYS = set(Counts().to_row())


def transcribe_clips(
    recogniser: Recogniser, clips: Sequence[Clip], context: ContextMode, language: str | None = None
) -> list[ClipRow]:
    """The rows of `transcribe_blocks` at once; a clip that cannot be read is refused."""
    return [row for block in transcribe_blocks(recogniser, clips, context, language=language) for row in block]


def transcribe_blocks(
    recogniser: Recogniser,
    clips: Sequence[Clip],
    context: ContextMode,
    beam_size: int = 1,
    on_done: Callable[[int], None] | None = None,
    language: str | None = None,
    on_unreadable: Callable[[Clip, AudioError], None] | None = None,
) -> Iterator[list[ClipRow]]:
    """Rows with raw reference and hypothesis, a block of clips at a time; each says what share of its block's seconds it took.

    Args:
        language: the one that the model is told for every clip, in place of the clip's own.
        on_unreadable: hears of clips that cannot be read, which are left out; without it they are refused.

    Raises:
        AudioError: a clip cannot be read.
    """
    for at in range(0, len(clips), _BLOCK):
        start = time.perf_counter()
        block: list[Clip] = []
        samples: list[Samples] = []
        for clip in clips[at : at + _BLOCK]:
            try:
                samples.append(clip_samples(clip))
                block.append(clip)
            except AudioError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(clip, error)
        codes = [language or clip.language for clip in block]
        found = recogniser.transcribe(samples, codes, context, beam_size, on_done) if block else []
        took = (time.perf_counter() - start) / max(sum(len(audio) for audio in samples), 1)
        yield [
            {
                **clip_row(clip, len(audio), noise_of(audio) if clip.snr_db is None else clip.snr_db),
                "hypothesis": hypothesis.text,
                "mean_logprob": round(hypothesis.mean_logprob, 4),
                "complete": hypothesis.complete,
                "took_seconds": round(took * len(audio), 5),
            }
            for clip, audio, hypothesis in zip(block, samples, found, strict=True)
        ]


def clip_row(clip: Clip, samples: int, noise: float | None) -> ClipRow:
    """What a scoring keeps of a clip itself."""
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


def eval_name(model: str, dataset: str, context: str) -> str:
    """File stem of one scoring."""
    return f"{model}__{dataset}__{context}"


def dataset_name(manifest: Path) -> str:
    """`manifests/splits/czech/test.jsonl` is the set `czech-test`."""
    part = manifest.stem
    return f"{manifest.parent.name}-{part}" if part in ("train", "validation", "test") else part


def write_eval(path: Path, rows: Sequence[ClipRow], about: dict[str, Any], manifest: Path) -> dict[str, Any]:
    """Write `<path>.clips.jsonl`, then `<path>.json` with the summary; returns the summary."""
    counted = with_counts(rows)
    summary = {**about, "manifest": fingerprint(manifest), **summarise(counted)}
    write_rows(path.with_name(path.name + ".clips.jsonl"), counted)
    write_json(path.with_name(path.name + ".json"), summary)
    return summary


def read_eval(path: Path) -> tuple[dict[str, Any], list[ClipRow]]:
    """A scoring's summary and clip rows, from its `.json`."""
    name = path.name.removesuffix(".json").removesuffix(".clips.jsonl")
    summary_file, clips_file = path.with_name(name + ".json"), path.with_name(name + ".clips.jsonl")
    summary: dict[str, Any] = read_json(summary_file)
    named = isinstance(summary, dict) and all(
        isinstance(summary.get(key), str) and NAME_PATTERN.fullmatch(summary[key])
        for key in ("model", "set", "context")
    )
    if not named or "wer" not in summary:
        raise GovorError(f"{summary_file} is no result of `govor evaluate`.")
    rows = [row for _, row in read_rows(clips_file)]
    for number, row in enumerate(rows, start=1):
        missing = [
            key for key in ("id", "reference", "hypothesis", "words", "characters", "duration") if key not in row
        ]
        if missing:
            raise GovorError(f"{clips_file}:{number}: '{missing[0]}' is missing; score the model again.")
        texts = all(isinstance(row[key], str) for key in ("id", "reference", "hypothesis"))
        counts = all(isinstance(row[key], dict) and set(row[key]) == _COUNT_KEYS for key in ("words", "characters"))
        if not (texts and counts and isinstance(row["duration"], int | float)):
            raise GovorError(f"{clips_file}:{number}: the row is damaged; score the model again.")
    if summary.get("normaliser") != NAME or any(key not in row for row in rows for key in COUNTED):
        rows = with_counts(rows)  # an older scoring, counted in another way than today
        summary = {**summary, **summarise(rows)}
    elif "slices" not in summary:
        summary = {**summary, **summarise(rows)}
    return summary, rows


def refuse_unread(path: Path, summary: dict[str, Any]) -> None:
    """Refuse a scoring in which clips that could not be read count as empty: their errors are nobody's.

    A server's stay, since it would gain by refusing what is hard.
    """
    failed = summary.get("failed") or []
    if failed and "server" not in summary:
        raise GovorError(
            f"{path} counts {len(failed)} clips as empty that could not be read (first: '{failed[0]['id']}'); mend them and "
            "score them with --resume, then compare."
        )


def rescore(path: Path) -> dict[str, Any]:
    """Count and sum up a scoring's texts again, with today's normalisers; no model is needed. Returns the summary."""
    summary, rows = read_eval(path)
    counted = with_counts(rows)
    name = path.name.removesuffix(".json").removesuffix(".clips.jsonl")
    again = {**summary, **summarise(counted)}
    write_rows(path.with_name(name + ".clips.jsonl"), counted)
    write_json(path.with_name(name + ".json"), again)
    return again
