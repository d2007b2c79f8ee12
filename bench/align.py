"""Word times against faster-whisper's: the same Whisper base, splices of real Czech with known gaps.

faster-whisper times the words that it transcribes itself; ours are given the text. So its words are matched with the
text first, and only the lines' first words that it got right are compared, for both.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from bench.results import Asked, Figure, ratio
from govor.corpus import fillets
from govor.corpus.manifests import read_clips
from govor.families.opening import find_model, open_model, trainable_folder
from govor.measure.timestamps import Case, scored, troubled
from govor.metrics.text import scoring_text
from govor.timing.align import align_pieces
from govor.timing.heads import measure_heads
from govor.timing.splice import splices

MODEL = "openai/whisper-base"
SPLICES = 24


def main(_: Asked) -> list[Figure]:
    """Offsets and real-time factors."""
    clips = [clip for clip in read_clips(fillets.prepare(print)) if 1.0 < clip.duration < 6.0]
    tasks = [troubled(splice, "none", i) for i, splice in enumerate(splices(clips[400:], SPLICES, 2))]
    seconds = sum(len(task.samples) for task in tasks) / 16_000
    recogniser: Any = open_model(MODEL).recogniser
    measured = measure_heads(recogniser, clips[:120], "padded")
    if measured is None:
        raise SystemExit("too few clips to choose the heads by")
    ours, figures = {}, []
    for name, heads in (("heads of the configuration", None), ("heads measured", measured.chosen)):
        start = time.perf_counter()
        ours[name] = align_pieces(
            recogniser, *zip(*((t.samples, t.pieces, t.language) for t in tasks), strict=True), "padded", heads
        )  # type: ignore[arg-type]
        spent = time.perf_counter() - start
        found = scored(tasks, ours[name])
        figures += [
            Figure(f"mean offset, {name}", found["offset_seconds"] * 1000, "ms", "lower"),
            Figure(f"coverage, {name}", found["coverage"], "share"),
            Figure(f"real-time factor, {name}", spent / seconds, "× real time", "lower"),
        ]
        print(
            f"{name:<27} mean offset {found['offset_seconds'] * 1000:5.0f} ms, coverage {found['coverage']:.3f}, "
            f"{spent / seconds:.3f} x real time (torch, fp32)"
        )
    theirs, spent = _faster_whisper(tasks)
    both = [(a, b) for a, b in zip(_firsts(tasks, ours["heads measured"]), theirs, strict=True) if b is not None]
    mine, other = (1000 * float(np.mean([abs(pair[side]) for pair in both])) for side in (0, 1))
    print(f"faster-whisper words, float32: {spent / seconds:.3f} x real time with transcribing")
    print(
        f"on the {len(both)} of {len(theirs)} lines whose first word it got right, mean onset offset: "
        f"ours {mine:.0f} ms, faster-whisper {other:.0f} ms"
    )
    return [
        *figures,
        Figure("real-time factor, faster-whisper with transcribing", spent / seconds, "× real time", "lower"),
        Figure("mean onset offset of lines, ours", mine, "ms", "lower"),
        Figure("mean onset offset of lines, faster-whisper", other, "ms", "lower"),
        ratio("mean onset offset, ours over faster-whisper", mine / other, better="lower"),
    ]


def _firsts(tasks: list[Case], found: list[Any]) -> list[float]:
    return [
        (one.words[first].start or 0.0) - start
        for task, one in zip(tasks, found, strict=True)
        for first, _, start, _ in task.lines
    ]


def _faster_whisper(tasks: list[Case]) -> tuple[list[float | None], float]:
    from ctranslate2.converters import TransformersConverter
    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as scratch:
        source = trainable_folder(find_model(MODEL))
        folder = str(Path(scratch) / "ct2")
        TransformersConverter(str(source), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(folder)
        model = WhisperModel(folder, device="cpu", compute_type="float32")
    offsets: list[float | None] = []
    start = time.perf_counter()
    for task in tasks:
        segments, _ = model.transcribe(task.samples, language=task.language, beam_size=1, word_timestamps=True)
        words = [word for segment in segments for word in segment.words or ()]
        heard, said = (
            [scoring_text(w.word) for w in words],
            [scoring_text(p) for p in task.pieces],
        )
        partner = {
            step.src_start + i: step.dest_start + i
            for step in Levenshtein.opcodes(said, heard)
            if step.tag == "equal"
            for i in range(step.src_end - step.src_start)
        }
        offsets += [words[partner[first]].start - at if first in partner else None for first, _, at, _ in task.lines]
    return offsets, time.perf_counter() - start
