"""What a scoring of a recogniser says: rows of clips with counted errors, and their sums with intervals and slices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from govor.errors import GovorError
from govor.metrics.intervals import Corpus, choose_clusters, intervals
from govor.metrics.slices import by_slice
from govor.metrics.text import LENIENT, NAME
from govor.metrics.wer import COUNTED, about_units, counted, score
from govor.runs import Json


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
    return summary


def by_id(rows: Iterable[Json], name: str) -> dict[str, Json]:
    """Rows by clip id; a repeated id is refused."""
    rows_by_id: dict[str, Json] = {}
    for row in rows:
        if row["id"] in rows_by_id:
            raise GovorError(f"{name} holds the clip '{row['id']}' twice.")
        rows_by_id[row["id"]] = row
    return rows_by_id
