"""What a report shows beside the headline: confusions, where errors lie, learning curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import jiwer

from govor.languages import without_spaces
from govor.metrics.metric import Metric
from govor.metrics.slices import SLICES, groups
from govor.metrics.text import scoring_text
from govor.metrics.wer import Counts, Diff, total
from govor.runs import Json

MOST_LETTERS = 20
MOST_WORDS = 20
MOST_SPEAKERS = 12
POSITIONS = 10
NOTHING = "∅"


def letter_confusions(rows: Sequence[Json]) -> Json:
    """`letters` (reference, most confused first) and `counts` [reference][heard]; ∅ is a letter left out, or put in."""
    counts: Counter[tuple[str, str]] = Counter()
    pairs = [(_letters(row, "reference"), _letters(row, "hypothesis")) for row in rows]
    for said, heard in pairs:  # what one side lacks wholly was left out, or put in
        counts.update((letter, NOTHING) for letter in said if not heard)
        counts.update((NOTHING, letter) for letter in heard if not said)
    both = [pair for pair in pairs if all(pair)]
    if both:
        output = jiwer.process_characters([said for said, _ in both], [heard for _, heard in both])
        for (said, heard), chunks in zip(both, output.alignments, strict=True):
            for chunk in chunks:
                here, there = (
                    said[chunk.ref_start_idx : chunk.ref_end_idx],
                    heard[chunk.hyp_start_idx : chunk.hyp_end_idx],
                )
                if chunk.type == "substitute":
                    counts.update(zip(here, there, strict=True))
                elif chunk.type == "delete":
                    counts.update((letter, NOTHING) for letter in here)
                elif chunk.type == "insert":
                    counts.update((NOTHING, letter) for letter in there)
    weight: Counter[str] = Counter()
    for (said_letter, heard_letter), count in counts.items():
        weight[said_letter] += count
        weight[heard_letter] += count
    letters = [letter for letter, _ in weight.most_common(MOST_LETTERS + 1) if letter != NOTHING][:MOST_LETTERS]
    shown = [*letters, NOTHING] if letters else []
    return {
        "letters": ["␣" if letter == " " else letter for letter in shown],
        "counts": [[counts[a, b] for b in shown] for a in shown],
    }


def _letters(row: Json, side: str) -> str:
    """A side's characters as they are counted."""
    scored = scoring_text(row[side], row.get("language"))
    return scored.replace(" ", "") if without_spaces(row.get("language")) else scored


def word_confusions(diffs: Sequence[Sequence[Diff]]) -> list[Json]:
    """The pairs (said, heard) that were confused most often; ∅ for words left out or put in."""
    counts: Counter[tuple[str, str]] = Counter()
    for steps in diffs:
        for step in steps:
            if step.kind == "substitute":
                counts[scoring_text(step.reference), scoring_text(step.hypothesis)] += 1
            elif step.kind == "delete":
                counts.update((scoring_text(word), NOTHING) for word in step.reference.split())
            elif step.kind == "insert":
                counts.update((NOTHING, scoring_text(word)) for word in step.hypothesis.split())
    return [{"said": said, "heard": heard, "count": n} for (said, heard), n in counts.most_common(MOST_WORDS)]


def length_by_speaker(rows: Sequence[Json]) -> Json:
    """WER of each length of each of the speakers with most words: `columns`, and `rows` of {name, cells: [{wer, words}]}."""
    bands = list(groups(rows, "length"))
    speakers = list(groups(rows, "speaker").items())[:MOST_SPEAKERS]
    cells = []
    for speaker, some in speakers:
        by_band: dict[str, list[Json]] = {}
        for row in some:
            by_band.setdefault(SLICES["length"](row), []).append(row)
        cells.append({"name": speaker, "cells": [_cell(by_band.get(band, [])) for band in bands]})
    return {"columns": bands, "rows": cells}


def position_by_length(rows: Sequence[Json], diffs: Sequence[Sequence[Diff]]) -> Json:
    """Errors per word in each tenth of the clip's words, by length; words put in count where they stand."""
    bands = list(groups(rows, "length"))
    errors = {band: [0] * POSITIONS for band in bands}
    words = {band: [0] * POSITIONS for band in bands}
    for row, steps in zip(rows, diffs, strict=True):
        band = SLICES["length"](row)
        length = sum(len(step.reference.split()) for step in steps)
        at = 0
        for step in steps:
            for _ in range(len(step.reference.split())):
                tenth = at * POSITIONS // length
                words[band][tenth] += 1
                errors[band][tenth] += step.kind != "equal"
                at += 1
            if step.kind == "insert" and length:
                errors[band][min(at, length - 1) * POSITIONS // length] += len(step.hypothesis.split())
    return {
        "columns": [f"{10 * i}–{10 * i + 10} %" for i in range(POSITIONS)],
        "rows": [
            {
                "name": band,
                "cells": [
                    {"wer": round(e / w, 4) if w else None, "words": w}
                    for e, w in zip(errors[band], words[band], strict=True)
                ],
            }
            for band in bands
        ],
    }


def _cell(rows: Sequence[Json]) -> Json:
    counts = total(Counts(**row["words"]) for row in rows)
    return {"wer": None if counts.rate is None else round(counts.rate, 4), "words": counts.length}


def curves(train: Sequence[Json], evals: Sequence[Json], metrics: Sequence[Metric]) -> list[Json]:
    """Learning curves as SVG paths in a 640×220 box, from the rows of each kind of a run's metrics."""
    losses = {
        "training": _smooth([(row["step"], row["loss"]) for row in train]),
        "validation": [(row["step"], row["loss"]) for row in evals],
    }
    rates = {
        metric.name: [(row["step"], row[metric.name]) for row in evals if row.get(metric.name) is not None]
        for metric in metrics
    }
    rate_title = "Error rate on the validation sample" if metrics[0].better == "lower" else "On the validation sample"
    charts = [("Loss per token", losses), (rate_title, rates)]
    return [_chart(title, lines) for title, lines in charts if any(lines.values())]


def _smooth(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """A running mean over a twentieth of the run; single steps are noise."""
    width = max(len(points) // 20, 1)
    return [
        (points[i][0], sum(value for _, value in points[max(0, i - width + 1) : i + 1]) / min(width, i + 1))
        for i in range(len(points))
    ]


def _chart(title: str, lines: dict[str, list[tuple[int, float]]]) -> Json:
    points = [point for line in lines.values() for point in line]
    last, top = max(step for step, _ in points) or 1, max(value for _, value in points) * 1.05 or 1.0

    def place(step: int, value: float) -> str:
        return f"{50 + 580 * step / last:.1f},{190 - 175 * value / top:.1f}"

    return {
        "title": title,
        "ticks": [(f"{190 - 175 * share:.1f}", f"{top * share:.2f}") for share in (0, 0.25, 0.5, 0.75, 1)],
        "last": last,
        "lines": [
            {
                "name": name,
                "points": " ".join(place(*point) for point in line),
                "dots": [(*place(*point).split(","), point[0], f"{point[1]:.3f}") for point in line]
                if len(line) < 60
                else [],
            }
            for name, line in lines.items()
            if line
        ],
    }
