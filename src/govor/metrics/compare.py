"""Two scorings of the same clips: is B better than A, by how much, and is that more than chance?"""

from __future__ import annotations

from collections.abc import Sequence

from govor.errors import GovorError
from govor.metrics.influence import SIGNIFICANT, Without, paired_and_decided
from govor.metrics.intervals import FEWEST_CLUSTERS, Clusters, Difference, choose_clusters, paired_difference
from govor.metrics.recognition import by_id
from govor.metrics.slices import SLICES, groups
from govor.metrics.wer import Counts, about_units, total
from govor.runs import Json

_MOST_VALUES = 15
_NAMED = 10


def compare(rows_a: Sequence[Json], rows_b: Sequence[Json], name_a: str, name_b: str) -> Json:
    """Rates, paired difference with interval and p-value, wins and losses, biggest changes.

    Raises:
        GovorError: the clips or their references differ; the missing ones are named.
    """
    a, b = by_id(rows_a, name_a), by_id(rows_b, name_b)
    _same_clips(a, b, name_a, name_b)
    if not a:
        raise GovorError(f"{name_a} and {name_b} hold no clips, so there is nothing to compare.")
    order = sorted(a)
    clusters = choose_clusters([a[name] for name in order])
    result: Json = {
        "a": name_a,
        "b": name_b,
        "clips": len(order),
        "test": {
            "method": "paired bootstrap",
            "unit": clusters.unit,
            "clusters": clusters.count,
            "note": clusters.note,
        },
        "about_words": about_units(row.get("language") for row in a.values()),
    }
    deciding: Without | None = None
    for rate, unit in (("wer", "words"), ("cer", "characters")):
        counts_a, counts_b = ([Counts(**side[name][unit]) for name in order] for side in (a, b))
        errors_a, errors_b = ([c.errors for c in counts] for counts in (counts_a, counts_b))
        lengths = [c.length for c in counts_a]
        if rate == "wer":
            paired, deciding = paired_and_decided(errors_a, errors_b, lengths, clusters)
        else:
            paired = paired_difference(errors_a, errors_b, lengths, clusters)
        result[rate] = _paired(total(counts_a).rate, total(counts_b).rate, paired)
    result["normalisation"] = normalisation_share([a[name] for name in order], [b[name] for name in order])
    result["slices"] = _by_slice([a[name] for name in order], [b[name] for name in order])
    changes = {name: _errors(b[name]) - _errors(a[name]) for name in order}
    ranked = sorted(order, key=lambda name: changes[name])
    result["better"] = sum(change < 0 for change in changes.values())
    result["worse"] = sum(change > 0 for change in changes.values())
    result["same"] = sum(change == 0 for change in changes.values())
    result["biggest_gains"] = [name for name in ranked[:5] if changes[name] < 0]
    result["biggest_losses"] = [name for name in ranked[::-1][:5] if changes[name] > 0]
    result["verdict"] = verdict(result["wer"], clusters.count, clusters.unit)
    result["decided_by"] = None if deciding is None else _deciding(deciding, order, clusters)
    return result


def _paired(a: float | None, b: float | None, paired: Difference) -> Json:
    spread = [round(paired.interval.low, 6), round(paired.interval.high, 6)] if paired.interval else None
    return {
        "a": _rounded(a),
        "b": _rounded(b),
        "difference": round(paired.difference, 6),
        "difference_interval": spread,
        "relative_change": round((b - a) / a, 6) if a and b is not None else None,
        "p_value": paired.p_value,
    }


def _deciding(without: Without, order: Sequence[str], clusters: Clusters) -> Json:
    """The few clips that a difference hangs on, and what is to be said without them."""
    wer = _paired(without.a, without.b, without.difference)
    said = verdict(wer, clusters.count, clusters.unit)
    about = f"WER {without.a:.4f} → {without.b:.4f}, {said}"
    return {"ids": [order[place] for place in without.places], "wer": wer, "verdict": about}


def normalisation_share(rows_a: Sequence[Json], rows_b: Sequence[Json]) -> Json:
    """How much of a strict gain in WER is spelling that the lenient normaliser forgives: 1 is all of it, 0 none.

    The share is (strict gain − lenient gain) / strict gain; None where there is no strict gain. Below 0, words got better
    by more than their spelling shows.
    """
    rates = {
        unit: [total(Counts(**row[unit]) for row in rows).rate for rows in (rows_a, rows_b)]
        for unit in ("words", "lenient_words")
    }
    gains = {unit: None if a is None or b is None else round(a - b, 6) for unit, (a, b) in rates.items()}
    strict, lenient = gains["words"], gains["lenient_words"]
    known = strict is not None and lenient is not None and strict > 0
    share = round((strict - lenient) / strict, 4) if known and strict is not None and lenient is not None else None
    return {
        "lenient_wer": {"a": _rounded(rates["lenient_words"][0]), "b": _rounded(rates["lenient_words"][1])},
        "strict_gain": strict,
        "lenient_gain": lenient,
        "share_of_gain": share,
    }


def _by_slice(rows_a: Sequence[Json], rows_b: Sequence[Json]) -> dict[str, list[Json]]:
    """The paired difference within each value of each slice that has more than one, for values of at least 6 clips."""
    other = {row["id"]: row for row in rows_b}
    result: dict[str, list[Json]] = {}
    for kind in SLICES:
        by_value = groups(rows_a, kind)
        if len(by_value) < 2:
            continue
        entries: list[Json] = []
        for value, some in by_value.items():
            if len(some) < FEWEST_CLUSTERS or len(entries) == _MOST_VALUES:
                continue
            a, b = ([Counts(**row["words"]) for row in side] for side in (some, [other[row["id"]] for row in some]))
            paired = paired_difference(
                [c.errors for c in a], [c.errors for c in b], [c.length for c in a], choose_clusters(some)
            )
            spread = paired.interval
            entries.append(
                {
                    "value": value,
                    "clips": len(some),
                    "a": _rounded(total(a).rate),
                    "b": _rounded(total(b).rate),
                    "difference": round(paired.difference, 6),
                    "difference_interval": [round(spread.low, 6), round(spread.high, 6)] if spread else None,
                    "p_value": paired.p_value,
                }
            )
        if entries:
            result[kind] = entries
    return result


def verdict(wer: Json, clusters: int, unit: str) -> str:
    """The comparison in words; `clusters` is over how many of `unit` it was tested."""
    p = wer["p_value"]
    if clusters < FEWEST_CLUSTERS:
        return f"no verdict: {clusters} {unit}(s) are too few to tell a gain from chance; compare {FEWEST_CLUSTERS} or more"
    if p is None:
        return "no test is possible: no words in the references"
    if p >= SIGNIFICANT:
        return f"no difference shown (p = {p:.3f})"
    direction = "better" if wer["difference"] < 0 else "worse"
    share = f" by {abs(wer['relative_change']):.1%} relative" if wer["relative_change"] is not None else ""
    return f"B is {direction}{share} (p {format_p(p)})"


def format_p(p: float | None) -> str:
    """A p-value as people write it."""
    if p is None:
        return "n/a"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _same_clips(a: dict[str, Json], b: dict[str, Json], name_a: str, name_b: str) -> None:
    for missing, holder, lacking in (
        (a.keys() - b.keys(), name_a, name_b),
        (b.keys() - a.keys(), name_b, name_a),
    ):
        if missing:
            shown = ", ".join(sorted(missing)[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
            raise GovorError(
                f"{lacking} lacks {len(missing)} of the clips of {holder} ({shown}); only scores of the same clips compare."
            )
    changed = [name for name in a if a[name]["reference"] != b[name]["reference"]]
    if changed:
        raise GovorError(
            f"The references of {len(changed)} clips differ (first: {min(changed)}); score both models on one manifest."
        )


def _errors(row: Json) -> int:
    return Counts(**row["words"]).errors


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
