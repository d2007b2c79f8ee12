"""What a scoring of a recogniser says: rows of clips with counted errors, and their sums with intervals and slices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from govor.errors import GovorError
from govor.metrics.intervals import Corpus, choose_clusters, intervals
from govor.metrics.loops import loop_at
from govor.metrics.slices import by_slice
from govor.metrics.text import LENIENT, NAME
from govor.metrics.wer import COUNTED, Counts, about_units, counted, score, total
from govor.runs import Json

# A few clips make much of the errors where each makes this many times a clip's mean, and this share of all; no more are
# named, and nothing is said of less than so much together.
_TIMES_THE_MEAN = 10
_SHARE_OF_ONE = 0.02
_MOST_HEAVY = 5
_SHARE_OF_ALL = 0.1
# So many clips that ran on are named.
_NAMED = 20
_FLAGS = {"loops": "loop", "cut": "cut", "retried": "retried"}


def with_counts(rows: Sequence[Json]) -> list[Json]:
    """The rows with word and character counts, strict and lenient."""
    references, hypotheses = [row["reference"] for row in rows], [row["hypothesis"] for row in rows]
    languages = [row.get("language") for row in rows]
    scores = {by: score(references, hypotheses, languages, by) for by in (NAME, LENIENT)}
    return [
        {**row, **{key: getattr(scores[by][place], unit).to_row() for key, (by, unit) in COUNTED.items()}}
        for place, row in enumerate(rows)
    ]


def summarise(rows: Sequence[Json]) -> Json:
    """Corpus WER and CER with intervals, strict and lenient, and by slice, from rows with counts."""
    clusters = choose_clusters(rows)
    summary: Json = {
        "clips": len(rows),
        "audio_seconds": round(sum(row["duration"] for row in rows), 3),
        "normaliser": NAME,
        "about_words": about_units(row.get("language") for row in rows),
        "interval": {"unit": clusters.unit, "clusters": clusters.count, "note": clusters.note, "level": 0.95},
    }
    counts = {unit: counted(rows, unit) for unit in COUNTED}
    units = {"wer": counts["words"], "cer": counts["characters"]}
    spreads = intervals([Corpus(unit.errors, unit.lengths, clusters) for unit in units.values()])
    for (name, unit), spread in zip(units.items(), spreads, strict=True):
        corpus = unit.total()
        summary[name] = None if corpus.rate is None else round(corpus.rate, 6)
        summary[f"{name}_interval"] = [round(spread.low, 6), round(spread.high, 6)] if spread else None
        summary[f"{name}_counts"] = corpus.to_row()
    lenient = {unit: counts[f"lenient_{unit}"].total().rate for unit in ("words", "characters")}
    summary["lenient"] = {
        "normaliser": LENIENT,
        "wer": None if lenient["words"] is None else round(lenient["words"], 6),
        "cer": None if lenient["characters"] is None else round(lenient["characters"], 6),
    }
    summary["slices"] = by_slice(rows)
    return {**summary, "ran_on": ran_on(rows), "heavy": heavy(rows)}


def ran_on(rows: Sequence[Json]) -> Json:
    """How many texts are loops, were cut by the limit, or were drawn again, and WER and CER without the loops and the cut.

    Rows that say nothing of loops (a server's, and older ones) are judged by their words.
    """
    flags = [set(row["flags"]) if "flags" in row else _flags(row) for row in rows]
    wild = [bool({"loop", "cut"} & some) for some in flags]
    ids = [row["id"] for row, bad in zip(rows, wild, strict=True) if bad]
    result: Json = {name: sum(flag in some for some in flags) for name, flag in _FLAGS.items()}
    rest = [row for row, bad in zip(rows, wild, strict=True) if not bad] if ids else rows
    for name, unit in (("wer", "words"), ("cer", "characters")):
        rate = total(Counts(**row[unit]) for row in rest).rate
        result[f"{name}_without"] = None if rate is None else round(rate, 6)
    return {**result, "clips": len(ids), "ids": ids[:_NAMED]}


def heavy(rows: Sequence[Json]) -> Json | None:
    """The few clips that make much of all word errors: `clips`, `share`, `ids`, the worst first; None where none do.

    Each of them makes ten times the errors of the mean clip or more, and 2 % of all; they are five at most, and make 10 %
    together.
    """
    errors = {row["id"]: Counts(**row["words"]).errors for row in rows}
    every = sum(errors.values())
    if not every:
        return None
    least = max(_TIMES_THE_MEAN * every / len(errors), _SHARE_OF_ONE * every)
    ids = sorted((name for name, own in errors.items() if own >= least), key=lambda name: (-errors[name], name))
    share = sum(errors[name] for name in ids[:_MOST_HEAVY]) / every
    return (
        None
        if share < _SHARE_OF_ALL
        else {"clips": len(ids[:_MOST_HEAVY]), "share": round(share, 4), "ids": ids[:_MOST_HEAVY]}
    )


def _flags(row: Json) -> set[str]:
    seen = {"loop": loop_at(row["hypothesis"].split()) is not None, "cut": row.get("complete") is False}
    return {flag for flag, there in seen.items() if there}


def by_id(rows: Iterable[Json], name: str) -> dict[str, Json]:
    """Rows by clip id; a repeated id is refused."""
    rows_by_id: dict[str, Json] = {}
    for row in rows:
        if row["id"] in rows_by_id:
            raise GovorError(f"{name} holds the clip '{row['id']}' twice.")
        rows_by_id[row["id"]] = row
    return rows_by_id
