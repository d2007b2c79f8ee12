"""Scores by language, speaker, length, source and noise: where a model is good and where it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from govor.corpus.alike import name_key
from govor.corpus.balance import LENGTH_EDGES_SECONDS, SNR_EDGES_DB, band
from govor.languages import language_key
from govor.metrics.intervals import Corpus, choose_clusters, intervals
from govor.metrics.wer import counted
from govor.runs import Json

UNKNOWN = "unknown"

SLICES: dict[str, Callable[[Json], str]] = {
    "language": lambda row: language_key(row.get("language")) or UNKNOWN,
    "speaker": lambda row: name_key(row.get("speaker") or "") or UNKNOWN,
    "length": lambda row: band(row["duration"], LENGTH_EDGES_SECONDS, "s"),
    "source": lambda row: name_key(row.get("source") or "") or UNKNOWN,
    "snr": lambda row: UNKNOWN if row.get("snr_db") is None else band(row["snr_db"], SNR_EDGES_DB, "dB"),
}
# Of each kind so many values get a row of their own: those with the most words.
MOST_VALUES = 30


def groups(rows: Sequence[Json], kind: str) -> dict[str, list[Json]]:
    """Rows by their value of one kind of slice: bands in order, other values by their words, most first."""
    by_value: dict[str, list[Json]] = {}
    for row in rows:
        by_value.setdefault(SLICES[kind](row), []).append(row)
    if kind in ("length", "snr"):
        return dict(sorted(by_value.items(), key=lambda item: _edge(item[0])))
    return dict(sorted(by_value.items(), key=lambda item: (-sum(row["words"]["length"] for row in item[1]), item[0])))


def by_slice(rows: Sequence[Json]) -> dict[str, list[Json]]:
    """For each kind of slice that has more than one value: clips, words, WER with interval, CER, by value.

    Values past the first 30 are summed up as one row.
    """
    slices = [(kind, value, some) for kind in SLICES for value, some in _shown(groups(rows, kind))]
    words = [counted(some, "words") for _, _, some in slices]
    clusters = [choose_clusters(some) for _, _, some in slices]
    spreads = intervals([Corpus(c.errors, c.lengths, drawn) for c, drawn in zip(words, clusters, strict=True)])
    result: dict[str, list[Json]] = {}
    for (kind, value, some), said, drawn, spread in zip(slices, words, clusters, spreads, strict=True):
        wer, cer = said.total().rate, counted(some, "characters").total().rate
        entry = {
            "value": value,
            "clips": len(some),
            "words": said.total().length,
            "wer": None if wer is None else round(wer, 6),
            "wer_interval": [round(spread.low, 6), round(spread.high, 6)] if spread else None,
            "unit": drawn.unit,
            "cer": None if cer is None else round(cer, 6),
        }
        result.setdefault(kind, []).append(entry)
    return result


def _shown(by_value: dict[str, list[Json]]) -> list[tuple[str, list[Json]]]:
    """The values that get a row; none where there is but one."""
    if len(by_value) < 2:
        return []
    shown = list(by_value.items())
    if len(shown) <= MOST_VALUES:
        return shown
    rest = [row for _, some in shown[MOST_VALUES:] for row in some]
    return [*shown[:MOST_VALUES], (f"{len(by_value) - MOST_VALUES} others", rest)]


def _edge(value: str) -> tuple[int, float]:
    """Where a band stands: `≤ 5 s` by its edge, `> 30 s` after all of those, what is unknown last."""
    if value == UNKNOWN:
        return 2, 0.0
    sign, edge, _ = value.split(" ")
    return int(sign == ">"), float(edge)
