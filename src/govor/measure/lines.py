"""Scorings and comparisons in words, by the metrics of their task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from govor.families.registry import task_named
from govor.families.task import Task
from govor.measure.scoring import PLAIN
from govor.metrics.compare import format_p
from govor.metrics.metric import Metric
from govor.progress import TableRow
from govor.runs import Json


def score_line(summary: Json) -> str:
    """One scoring on one line."""
    rates = "  ".join(_rate(metric, summary) for metric in _task(summary).metrics)
    lenient = summary.get("lenient", {}).get("wer")
    spelled = "" if lenient is None else f"  lenient WER {lenient:.4f}"
    speed = summary.get("real_time_factor")
    extra = "" if speed is None else f", {speed:.2f} x real time"
    if summary.get("latency"):
        latency = summary["latency"]
        extra += f", latency p50 {latency['p50_seconds']:.2f} s, p95 {latency['p95_seconds']:.2f} s"
    notes = [summary.get("interval", {}).get("note"), summary.get("about_words"), _decoded(summary)]
    about = "".join(f"; {note}" for note in notes if note)
    return (
        f"{summary['model']} on {summary['set']}, {summary['context']}: {rates}{spelled}  "
        f"({summary['clips']} clips{extra}{about})"
    )


def score_lines(summary: Json) -> str:
    """The same, and below it what part of the errors is of few clips or of texts that ran on."""
    return "\n".join([score_line(summary), *(f"  {line}" for line in trouble(summary))])


def _decoded(summary: Json) -> str | None:
    return "decoded plainly" if summary.get("decoding") == PLAIN else None


def trouble(summary: Json) -> Iterator[str]:
    """What of a scoring's errors is of few clips, or of texts that ran on."""
    wild = summary.get("ran_on")
    if wild and (wild["clips"] or wild["retried"]):
        counts = f"loops {wild['loops']}, cut by the limit {wild['cut']}, drawn again {wild['retried']}"
        without = "n/a" if wild["wer_without"] is None else f"{wild['wer_without']:.4f}"
        yield counts + (f"; WER without the {wild['clips']} that loop or were cut {without}" if wild["clips"] else "")
    few = summary.get("heavy")
    if few:
        make = "makes" if few["clips"] == 1 else "make"
        yield f"{few['clips']} of {summary['clips']} clips {make} {few['share']:.0%} of all errors: {', '.join(few['ids'])}"


def slice_tables(summary: Json) -> Iterator[tuple[str, list[TableRow]]]:
    """A title and rows for each kind of slice."""
    metrics = _task(summary).metrics
    for kind, rows in summary.get("slices", {}).items():
        yield f"{metrics[0].label} by {kind}", [_slice_row(row, metrics) for row in rows]


def compare_lines(result: Json, task: str | None = None) -> str:
    """A comparison for people; `task` is what the scorings say that they are of."""
    lines = []
    for metric in task_named(task, "the comparison").metrics:
        item = result[metric.name]
        change = "n/a" if item["relative_change"] is None else f"{item['relative_change']:+.1%}"
        numbers = " → ".join("n/a" if item[side] is None else f"{item[side]:.4f}" for side in ("a", "b"))
        lines.append(f"{metric.label}  {numbers}  ({change} relative, paired p {format_p(item['p_value'])})")
    lines.append(
        f"clips better {result['better']}, worse {result['worse']}, same {result['same']}; {result['test']['note']}"
    )
    if result.get("about_words"):
        lines.append(result["about_words"])
    lines.append(result["verdict"])
    lines += doubts(result)
    return "\n".join(lines)


def doubts(result: Json) -> list[str]:
    """What is to be known before a comparison is believed: few clips decide it, or its sides were decoded in two ways."""
    few, decoding, lines = result.get("decided_by"), result.get("decoding"), []
    if few:
        decide, them = ("decides", "it") if len(few["ids"]) == 1 else ("decide", "them")
        lines.append(
            f"{len(few['ids'])} of {result['clips']} clips {decide} this ({', '.join(few['ids'])}): without {them} {few['verdict']}"
        )
    if decoding and (decoding["a"] == PLAIN) != (decoding["b"] == PLAIN):
        lines.append(
            f"A was decoded {_way(decoding['a'])}, B {_way(decoding['b'])}: a part of the difference may be that; score both alike"
        )
    return lines


def _way(decoding: str | None) -> str:
    ways = {PLAIN: "plainly (--plain)", "served": "as engines do", "server": "by a server"}
    return ways.get(str(decoding), "otherwise")


def verdict_lines(verdict: Json) -> str:
    """What `govor accept` says."""
    lines = [f"{'green' if e['passed'] else 'red  '}  {e['gate']}: {e['reason']}" for e in verdict["gates"]]
    if verdict["stage"]:
        lines.append(f"stage: {verdict['stage']}")
    lines.append(f"accepted: {'true' if verdict['accepted'] else 'false'}")
    return "\n".join(lines)


def suite_lines(title: str, result: Json) -> str:
    """A suite's table, and what is to be known of its sets."""
    rows = result["table"]
    sets = [key for key in rows[-1] if key not in ("model", "normaliser")]
    widths = [max(22, *(len(row["model"]) for row in rows)), max(len(row["normaliser"]) for row in rows)]
    lines = [title, " ".join([f"{'':<{widths[0]}}", f"{'':<{widths[1]}}", *(f"{name:>14}" for name in sets)])]
    for row in rows:
        cells = [f"{'–':>14}" if row[name] is None else f"{row[name]:>14.3f}" for name in sets]
        lines.append(" ".join([f"{row['model']:<{widths[0]}}", f"{row['normaliser']:<{widths[1]}}", *cells]))
    for name, scored in result["sets"].items():
        for about in dict.fromkeys(one.get("about_words") for one in scored["contexts"].values()):
            lines += [f"{name}: {about}"] if about else []
        if scored["overlap"]["clips"]:
            without = {c: one["wer_without_overlap"] for c, one in scored["contexts"].items()}
            rates = ", ".join(f"{rate:.3f} {context}" for context, rate in without.items() if rate is not None)
            lines.append(
                f"{name}: {scored['overlap']['clips']} clips are in the training data"
                + (f"; strict WER without them {rates}" if rates else "")
            )
    return "\n".join(lines)


def offset_line(result: Json) -> str:
    """How well words were timed, on one line."""
    timed = result["all"]
    if timed["offset_seconds"] is None:
        return f"{result['model']}: no word could be placed"
    guess = "; approximate, this family has no aligner" if result["approximate"] else ""
    return (
        f"{result['model']} on {result['splices']} splices of {result['set']}: mean offset "
        f"{timed['offset_seconds'] * 1000:.0f} ms, {timed['coverage']:.1%} of {timed['words']} words in their own line{guess}"
    )


_OF_OFFSETS = {
    "offset s": "offset_seconds",
    "onset s": "onset_seconds",
    "end s": "end_seconds",
    "p90 s": "p90_seconds",
    "in line": "coverage",
    "words": "words",
    "unsaid left out": "unsaid_left_out",
}


def offset_rows(result: Json) -> list[TableRow]:
    """The same by what was wrong with the recordings."""
    measured = {name: value for name, value in result.items() if isinstance(value, dict) and "offset_seconds" in value}
    return [
        {
            "": name if name != "all" else "as recorded",
            **{title: one.get(key, "") for title, key in _OF_OFFSETS.items()},
        }
        for name, one in measured.items()
    ]


def _task(summary: Json) -> Task:
    return task_named(summary.get("task"), "the scoring")


def _rate(metric: Metric, summary: Json) -> str:
    value, spread = summary[metric.name], summary.get(f"{metric.name}_interval")
    if value is None:
        return f"{metric.label} n/a"
    return f"{metric.label} {value:.4f}" + (f" [{spread[0]:.4f}, {spread[1]:.4f}]" if spread else "")


def _slice_row(row: Json, metrics: tuple[Metric, ...]) -> TableRow:
    main, *others = metrics

    def shown(metric: Metric) -> str:
        return "n/a" if row[metric.name] is None else f"{row[metric.name]:.3f}"

    spread = row[f"{main.name}_interval"]
    return {
        "": row["value"],
        "clips": row["clips"],
        **({"words": row["words"]} if "words" in row else {}),
        main.label: shown(main),
        "95 %": "" if spread is None else f"{spread[0]:.3f} – {spread[1]:.3f}",
        **{metric.label: shown(metric) for metric in others},
    }


def failed_lines(summaries: Sequence[Json]) -> list[str]:
    """The clips that count as empty because they could not be read, or got no answer; nothing where there are none."""
    failed = {item["id"]: item["reason"] for summary in summaries for item in summary.get("failed", [])}
    lines = [f"failed  {name}: {reason}" for name, reason in list(failed.items())[:10]]
    if failed:
        lines.append(f"{len(failed)} clips could not be scored and count as empty; mend them, then --resume")
    return lines
