"""Score a model on a manifest: one row per clip kept, so that anything can be scored again without the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from govor.audio import SAMPLE_RATE
from govor.corpus.manifests import fingerprint, read_rows, write_rows
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import GovorError
from govor.families.base import ContextMode, Recogniser
from govor.files import read_json, write_json
from govor.measure.intervals import choose_clusters, interval
from govor.measure.text import NAME
from govor.measure.wer import Counts, score, total

ClipRow = dict[str, Any]
# Clips are decoded and transcribed in blocks of this many, so that memory does not grow with the set.
_BLOCK = 512


def transcribe_clips(
    recogniser: Recogniser,
    clips: Sequence[Clip],
    context: ContextMode,
    beam_size: int = 1,
    on_done: Callable[[int], None] | None = None,
    language: str | None = None,
) -> tuple[list[ClipRow], float]:
    """Per-clip rows with raw reference and hypothesis, and the seconds that transcribing took (decoding included).

    `language` is the one that the model is told for every clip, in place of the clip's own.
    """
    rows: list[ClipRow] = []
    start = time.perf_counter()
    for at in range(0, len(clips), _BLOCK):
        block = clips[at : at + _BLOCK]
        samples = [clip_samples(clip) for clip in block]
        found = recogniser.transcribe(
            samples, [language or clip.language for clip in block], context, beam_size, on_done
        )
        for clip, audio, hypothesis in zip(block, samples, found, strict=True):
            rows.append(
                {
                    "id": clip.id,
                    "audio": clip.audio,
                    "offset": clip.offset,
                    "duration": round(len(audio) / SAMPLE_RATE, 4),
                    "language": clip.language,
                    "speaker": clip.speaker,
                    "source": clip.source,
                    "reference": clip.transcript,
                    "hypothesis": hypothesis.text,
                    "mean_logprob": round(hypothesis.mean_logprob, 4),
                    "complete": hypothesis.complete,
                }
            )
    return rows, time.perf_counter() - start


def with_counts(rows: Sequence[ClipRow]) -> list[ClipRow]:
    """The rows with word and character counts."""
    scores = score([row["reference"] for row in rows], [row["hypothesis"] for row in rows])
    return [
        {**row, "words": asdict(s.words), "characters": asdict(s.characters)}
        for row, s in zip(rows, scores, strict=True)
    ]


def summarise(rows: Sequence[ClipRow]) -> dict[str, Any]:
    """Corpus WER and CER with intervals, from rows with counts."""
    clusters = choose_clusters(rows)
    summary: dict[str, Any] = {
        "clips": len(rows),
        "audio_seconds": round(sum(row["duration"] for row in rows), 3),
        "normaliser": NAME,
        "interval": {"unit": clusters.unit, "clusters": clusters.count, "note": clusters.note, "level": 0.95},
    }
    for name, unit in (("wer", "words"), ("cer", "characters")):
        counts = [Counts(**row[unit]) for row in rows]
        corpus = total(counts)
        spread = interval([c.errors for c in counts], [c.length for c in counts], clusters)
        summary[name] = None if corpus.rate is None else round(corpus.rate, 6)
        summary[f"{name}_interval"] = [round(spread.low, 6), round(spread.high, 6)] if spread else None
        summary[f"{name}_counts"] = asdict(corpus)
    return summary


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
    summary = read_json(summary_file)
    if not isinstance(summary, dict) or "wer" not in summary:
        raise GovorError(f"{summary_file} is no result of `govor evaluate`.")
    rows = [row for _, row in read_rows(clips_file)]
    for number, row in enumerate(rows, start=1):
        missing = [
            key for key in ("id", "reference", "hypothesis", "words", "characters", "duration") if key not in row
        ]
        if missing:
            raise GovorError(f"{clips_file}:{number}: '{missing[0]}' is missing; score the model again.")
    return summary, rows


def by_id(rows: Iterable[ClipRow], name: str) -> dict[str, ClipRow]:
    """Rows by clip id; a repeated id is refused."""
    found: dict[str, ClipRow] = {}
    for row in rows:
        if row["id"] in found:
            raise GovorError(f"{name} holds the clip '{row['id']}' twice.")
        found[row["id"]] = row
    return found
