"""Where the errors of answers lie, as a report shows it: confusions, speakers, places within a clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import jiwer

from govor.languages import without_spaces
from govor.metrics.slices import SLICES, groups
from govor.metrics.text import scoring_text
from govor.metrics.wer import Counts, Diff, total, word_diffs
from govor.runs import Json

MOST_LETTERS = 20
MOST_WORDS = 20
MOST_SPEAKERS = 12
POSITIONS = 10
NOTHING = "∅"


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """What a report shows of rows before and after.

    Attributes:
        unit: what is counted, many of it: words, answers.
        diffs: (before, after) of each clip.
        confused: `{said, heard, count}`, most often first.
        letters: see `letter_confusions`; none where nothing is written.
        heat: see `length_by_speaker`.
        positions: see `position_by_length`.
    """

    unit: str
    diffs: list[tuple[list[Diff], list[Diff]]]
    confused: list[Json]
    letters: Json = field(default_factory=lambda: {"letters": []})
    heat: Json | None = None
    positions: Json | None = None


def of_texts(before: Sequence[Json], after: Sequence[Json]) -> ErrorReport:
    """Of clips that were written down."""
    languages = [row.get("language") for row in after]
    diffs_before, diffs_after = (
        word_diffs([(row["reference"], row["hypothesis"]) for row in rows], languages) for rows in (before, after)
    )
    return ErrorReport(
        "words",
        list(zip(diffs_before, diffs_after, strict=True)),
        word_confusions(diffs_after),
        letter_confusions(after),
        length_by_speaker(after),
        position_by_length(after, diffs_after),
    )


def of_labels(before: Sequence[Json], after: Sequence[Json]) -> ErrorReport:
    """Of clips whose answers are labels, each right or wrong as a whole."""

    def diff(row: Json) -> list[Diff]:
        kind = "equal" if row["reference"] == row["hypothesis"] else "substitute"
        return [Diff(kind, str(row["reference"]), str(row["hypothesis"]))]

    wrong = [row for row in after if row["reference"] != row["hypothesis"]]
    counts = Counter((str(row["reference"]), str(row["hypothesis"])) for row in wrong)
    confused: list[Json] = [{"said": said, "heard": heard, "count": n} for (said, heard), n in counts.most_common()]
    return ErrorReport("answers", [(diff(old), diff(new)) for old, new in zip(before, after, strict=True)], confused)


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
