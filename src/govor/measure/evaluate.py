"""Score a model on a manifest: one row per clip kept, so that anything can be scored again without the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from govor.corpus.manifests import fingerprint, read_rows, write_rows
from govor.corpus.records import Clip
from govor.errors import AudioError, GovorError
from govor.families.recogniser import RECOGNITION
from govor.families.task import DecodeOptions
from govor.jsons import read_json, write_json
from govor.metrics.recognition import ClipRow, summarise, with_counts
from govor.metrics.text import NAME
from govor.metrics.wer import COUNTED, Counts
from govor.runs import NAME as NAME_PATTERN

if TYPE_CHECKING:  # scorings are read and compared without torch
    from govor.families.base import Recogniser
    from govor.families.task import ContextMode

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
    """See `SpeechRecognition.answers`."""
    options = DecodeOptions(context, beam_size, language=language)
    return RECOGNITION.answers(recogniser, clips, options, on_done, on_unreadable)


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
