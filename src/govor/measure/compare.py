"""Two scorings of the same clips: is B better than A, by how much, and is that more than chance?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from govor.errors import GovorError
from govor.measure.evaluate import ClipRow, by_id
from govor.measure.intervals import choose_clusters, paired_difference
from govor.measure.wer import Counts, total


def compare(rows_a: Sequence[ClipRow], rows_b: Sequence[ClipRow], name_a: str, name_b: str) -> dict[str, Any]:
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
    result: dict[str, Any] = {
        "a": name_a,
        "b": name_b,
        "clips": len(order),
        "test": {
            "method": "paired bootstrap",
            "unit": clusters.unit,
            "clusters": clusters.count,
            "note": clusters.note,
        },
    }
    for rate, unit in (("wer", "words"), ("cer", "characters")):
        counts_a, counts_b = ([Counts(**side[name][unit]) for name in order] for side in (a, b))
        found = paired_difference(
            [c.errors for c in counts_a], [c.errors for c in counts_b], [c.length for c in counts_a], clusters
        )
        rate_a, rate_b = total(counts_a).rate, total(counts_b).rate
        spread = [round(found.interval.low, 6), round(found.interval.high, 6)] if found.interval else None
        result[rate] = {
            "a": _rounded(rate_a),
            "b": _rounded(rate_b),
            "difference": round(found.difference, 6),
            "difference_interval": spread,
            "relative_change": round((rate_b - rate_a) / rate_a, 6) if rate_a and rate_b is not None else None,
            "p_value": found.p_value,
        }
    changes = {name: _errors(b[name]) - _errors(a[name]) for name in order}
    ranked = sorted(order, key=lambda name: changes[name])
    result["better"] = sum(change < 0 for change in changes.values())
    result["worse"] = sum(change > 0 for change in changes.values())
    result["same"] = sum(change == 0 for change in changes.values())
    result["biggest_gains"] = [name for name in ranked[:5] if changes[name] < 0]
    result["biggest_losses"] = [name for name in ranked[::-1][:5] if changes[name] > 0]
    result["verdict"] = verdict(result["wer"])
    return result


def verdict(wer: dict[str, Any]) -> str:
    """The comparison in words."""
    p = wer["p_value"]
    if p is None:
        return "no test is possible: fewer than two clusters, or no words in the references"
    if p >= 0.05:
        return f"no difference shown (p = {p:.3f})"
    direction = "better" if wer["difference"] < 0 else "worse"
    share = f" by {abs(wer['relative_change']):.1%} relative" if wer["relative_change"] is not None else ""
    return f"B is {direction}{share} (p {format_p(p)})"


def format_p(p: float | None) -> str:
    """A p-value as people write it."""
    if p is None:
        return "n/a"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _same_clips(a: dict[str, ClipRow], b: dict[str, ClipRow], name_a: str, name_b: str) -> None:
    for missing, holder, lacking in (
        (a.keys() - b.keys(), name_a, name_b),
        (b.keys() - a.keys(), name_b, name_a),
    ):
        if missing:
            shown = ", ".join(sorted(missing)[:3]) + (", …" if len(missing) > 3 else "")
            raise GovorError(
                f"{lacking} lacks {len(missing)} of the clips of {holder} ({shown}); only scores of the same clips compare."
            )
    changed = [name for name in a if a[name]["reference"] != b[name]["reference"]]
    if changed:
        raise GovorError(
            f"The references of {len(changed)} clips differ (first: {min(changed)}); score both models on one manifest."
        )


def _errors(row: ClipRow) -> int:
    return Counts(**row["words"]).errors


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
