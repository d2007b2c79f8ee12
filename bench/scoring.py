"""Scoring 20,000 clips against jiwer alone and kaldialign, and building the report of 1,000 and of 20,000 clips."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jiwer

from bench.results import Asked, Figure, ratio
from govor.measure.headline import add_to_headline
from govor.measure.report.build import report
from govor.measure.scoring import write_eval
from govor.metrics.recognition import summarise, with_counts
from govor.metrics.text import scoring_text
from govor.metrics.wer import score, total
from govor.runs import Run, Workspace

CLIPS = 20_000


def main(_: Asked) -> list[Figure]:
    """Times, and whether the numbers agree."""
    said, heard = _texts(CLIPS)
    clean, rough = [scoring_text(text) for text in said], [scoring_text(text) for text in heard]
    spent, ours = _timed(lambda: score(said, heard))
    print(f"ours, normalised, words and characters   {spent:6.2f} s   WER {total(s.words for s in ours).rate:.6f}")
    figures = [Figure("ours, normalised, words and characters", spent, "s", "lower")]
    spent, words = _timed(lambda: jiwer.process_words(clean, rough))
    spent_too, letters = _timed(lambda: jiwer.process_characters(clean, rough))
    print(
        f"jiwer, words and characters, no normaliser {spent + spent_too:4.2f} s   WER {words.wer:.6f} CER {letters.cer:.6f}"
    )
    mine = total(s.characters for s in ours).rate
    same = total(s.words for s in ours).rate == words.wer and mine == letters.cer
    print(f"the same numbers as jiwer: {same}")
    figures += [
        Figure("jiwer, words and characters, no normaliser", spent + spent_too, "s", "lower"),
        ratio("jiwer over ours", (spent + spent_too) / figures[0].value),
        Figure("the same numbers as jiwer", float(same), "1 is yes", goal=1.0),
    ]
    try:
        import kaldialign
    except ImportError:
        print("kaldialign is not installed: pip install kaldialign")
    else:
        pairs = [(a.split(), b.split()) for a, b in zip(clean, rough, strict=True)]
        spent, found = _timed(lambda: [kaldialign.edit_distance(*pair) for pair in pairs])
        errors, length = sum(item["total"] for item in found), sum(len(a) for a, _ in pairs)
        print(f"kaldialign, words alone                  {spent:6.2f} s   WER {errors / length:.6f}")
        figures.append(Figure("kaldialign, words alone", spent, "s", "lower"))
    rows = [
        {"id": f"{i}", "reference": a, "hypothesis": b, "language": "cs", "duration": 1.0 + i % 20, "speaker": f"s{i % 40}",
         "source": None, "snr_db": 20.0, "audio": "gone.wav", "offset": None}
        for i, (a, b) in enumerate(zip(said, heard, strict=True))
    ]  # fmt: skip
    counting, counted = _timed(lambda: with_counts(rows))
    spent, _summary = _timed(lambda: summarise(counted))
    print(f"intervals and slices of {CLIPS:,} clips      {spent:6.2f} s")
    print(f"the same with both normalisers' counts   {counting + spent:6.2f} s   (goal 1.5)")
    draw = random.Random(1)
    weights = [draw.random() for _ in range(40)]
    uneven = [{**row, "speaker": f"s{draw.choices(range(40), weights)[0]}"} for row in counted]
    slower, _summary = _timed(lambda: summarise(uneven))
    print(f"intervals and slices, speakers of 40 sizes {slower:4.2f} s")
    figures += [
        Figure("intervals and slices, speakers of 40 sizes", slower, "s", "lower"),
        Figure(f"intervals and slices of {CLIPS:,} clips", spent, "s", "lower"),
        Figure(f"counts, intervals and slices of {CLIPS:,} clips", counting + spent, "s", "lower", 1.5),
    ]
    return [*figures, *(_report(counted, count) for count in (1_000, CLIPS))]


def _report(counted: list[dict[str, Any]], count: int) -> Figure:
    """The page of some of the clips."""
    with _scratch():
        Path("m.jsonl").write_text("{}\n")
        files = []
        for model in ("base", "run"):
            file = Path(f"manifests/evals/{model}__m__speech")
            about = {"model": model, "set": "m", "context": "speech"}
            write_eval(Workspace(), file, counted[:count], about, Path("m.jsonl"))
            files.append(file.with_name(file.name + ".json"))
        add_to_headline(Workspace(), "run", {"speech": (files[0], files[1])})
        run = Path("models/whisper/run")
        run.mkdir(parents=True)
        spent, page = _timed(lambda: report(Run(run), Path("report")))
        size = sum(file.stat().st_size for file in page.parent.rglob("*") if file.is_file())
    print(f"report of {count:>6,} clips without audio      {spent:6.2f} s   {size / 1e6:.1f} MB")
    return Figure(f"report of {count:,} clips without audio", spent, "s", "lower")


def _texts(count: int) -> tuple[list[str], list[str]]:
    """Made-up sentences of 3 to 15 words, one word in five wrong."""
    draw = random.Random(0)
    words = ["".join(draw.choices("aábcčdeěfghiíklmnoprřsštuůvyzž", k=draw.randint(1, 9))) for _ in range(5_000)]
    said = [" ".join(draw.choices(words, k=draw.randint(3, 15))).capitalize() + "." for _ in range(count)]
    heard = [" ".join(draw.choice(words) if draw.random() < 0.2 else word for word in text.split()) for text in said]
    return said, heard


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


@contextmanager
def _scratch() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)
