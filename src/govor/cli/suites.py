"""A suite of known sets: fetched, compared with the training data, scored, laid beside published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from govor.cli import console
from govor.cli.evaluate import run_evaluation, tell_failed
from govor.cli.models import check_model
from govor.cli.summary import exit_if


def run_suite(
    model: str, name: str, data: Path | None, hear: bool | None, options: tuple[Any, ...], as_json: bool
) -> None:
    """Score every set that can be had; exit 1 where some could not."""
    from govor.corpus.manifests import read_clips
    from govor.errors import GovorError
    from govor.jsons import read_json, write_json
    from govor.machine import now
    from govor.measure.evaluate import read_eval
    from govor.measure.overlap import overlap, overlap_line, training_manifests
    from govor.measure.suites import find_suite, set_manifest, set_result, table, with_earlier
    from govor.metrics.text import NAME
    from govor.runs import Workspace

    suite = find_suite(name)
    contexts, beam_size, engine, precision, device, max_samples, overwrite = options
    check_model(model, engine, device)
    manifests, not_run = {}, {}
    for label, wanted in suite.sets.items():
        try:
            manifests[label] = set_manifest(name, label, wanted, data, console.note)
        except GovorError as error:
            not_run[label] = str(error)
            console.note(f"left out  {error}")
    if not manifests:
        raise GovorError(f"None of the {len(suite.sets)} sets of {name} could be had; the reasons stand above.")
    training = training_manifests(Path(model))
    overlaps = {}
    for label, manifest in manifests.items():
        clips = list(read_clips(manifest))
        with console.bar(f"compare {label} with the training data", None) as bar:
            overlaps[label] = overlap(clips, training, hear, bar.advance)
        console.note(overlap_line(label, overlaps[label]))
    # A suite takes hours: finished sets are never scored twice unless asked for.
    results: dict[str, dict[str, Any]] = {}
    made: list[dict[str, Any]] = []
    for label, manifest in manifests.items():
        summaries = run_evaluation(
            model, manifest, contexts, beam_size, engine, precision, device, overwrite, max_samples,
            resume=not overwrite, set_name=f"{Path(name).stem}-{label}",
        )  # fmt: skip
        made += summaries
        scorings = {s["context"]: (s, read_eval(Path(s["file"]))[1]) for s in summaries}
        results[label] = set_result(suite, scorings, overlaps[label])
    # Under the name that its scorings have, which says how it was decoded.
    scored = str(made[0]["model"])
    part = "" if max_samples is None else f"-{max_samples}"
    target = Workspace().evals / f"{scored}__suite-{Path(name).stem}{part}.json"
    results = with_earlier(results, read_json(target) if target.exists() else None)
    shown = table(suite, scored, results)
    result = {"suite": name, "model": model, "created": now(), "sets": results, "not_run": not_run, "table": shown}
    write_json(target, result)
    console.result(_suite_lines(suite.title, shown, results), result, as_json)
    if suite.published_from:
        console.note(
            f"published figures: {suite.published_from}; the {suite.normaliser} normaliser is theirs, {NAME} ours"
        )
    console.made(target, f"govor report {Path(model).name}")
    exit_if(tell_failed(made) or bool(not_run))


def _suite_lines(title: str, rows: list[dict[str, Any]], results: dict[str, dict[str, Any]]) -> str:
    sets = [key for key in rows[-1] if key not in ("model", "normaliser")]
    widths = [max(22, *(len(row["model"]) for row in rows)), max(len(row["normaliser"]) for row in rows)]
    lines = [title, " ".join([f"{'':<{widths[0]}}", f"{'':<{widths[1]}}", *(f"{name:>14}" for name in sets)])]
    for row in rows:
        cells = [f"{'–':>14}" if row[name] is None else f"{row[name]:>14.3f}" for name in sets]
        lines.append(" ".join([f"{row['model']:<{widths[0]}}", f"{row['normaliser']:<{widths[1]}}", *cells]))
    for name, found in results.items():
        for about in dict.fromkeys(one.get("about_words") for one in found["contexts"].values()):
            lines += [f"{name}: {about}"] if about else []
        if found["overlap"]["clips"]:
            without = {c: one["wer_without_overlap"] for c, one in found["contexts"].items()}
            rates = ", ".join(f"{rate:.3f} {context}" for context, rate in without.items() if rate is not None)
            lines.append(
                f"{name}: {found['overlap']['clips']} clips are in the training data"
                + (f"; strict WER without them {rates}" if rates else "")
            )
    return "\n".join(lines)
