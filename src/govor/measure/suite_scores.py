"""The sets of a suite scored: compared with the training data, every context by itself, beside published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from govor.corpus.manifests import read_clips
from govor.errors import GovorError
from govor.families.task import Row
from govor.files import exists
from govor.machine import now
from govor.measure.evaluate import EvalOptions, evaluate, refuse_other_task
from govor.measure.overlap import overlap, overlap_line, training_manifests
from govor.measure.scoring import PLAIN, ClipSet, decoding_of, read_eval
from govor.measure.suites import Suite, find_suite, set_manifest
from govor.metrics.intervals import choose_clusters, interval
from govor.metrics.text import NAME
from govor.metrics.wer import score, total
from govor.progress import SILENT, Progress
from govor.runs import Json, Workspace, read_scoring, write_scoring

_ALIKE = ("weights", "manifest_sha256", "clips", "decoding", "normaliser")


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """Which suite, by name or as a YAML file, and from where.

    `data` is a folder with SET/*.parquet, where the Hub is not to be asked; `hear` decodes the training audio to compare sounds
    (by default where it is at most 50 hours); `max_samples` is how many clips of each set are scored at most.
    """

    name: str
    data: Path | None = None
    hear: bool | None = None
    max_samples: int | None = None


@dataclass(frozen=True, slots=True)
class SuiteScores:
    """What scoring a suite gave: the result with the file that it stands in, and the summary of each scoring."""

    suite: Suite
    file: Path
    result: Json
    summaries: list[Json]


def score_suite(
    workspace: Workspace, model: str, wanted: SuiteOptions, options: EvalOptions, progress: Progress = SILENT
) -> SuiteScores:
    """Score every set that can be had; the others stand under `not_run` with the reason.

    A suite takes hours: finished sets are never scored twice, unless `options.existing` is "overwrite".

    Raises:
        GovorError: there is no such suite, no set of it can be had, or the model cannot be scored on one.
    """
    suite = find_suite(workspace, wanted.name)
    if options.engine == "torch":
        refuse_other_task(workspace, model, "--suite")
    manifests, not_run = _manifests(workspace, suite, wanted, progress)
    training = training_manifests(workspace, model)
    overlaps: dict[str, Json] = {}
    for label, manifest in manifests.items():
        clips = list(read_clips(manifest, workspace.root))
        with progress.bar(f"compare {label} with the training data", None) as bar:
            overlaps[label] = overlap(workspace, clips, training, wanted.hear, bar.advance)
        progress.note(overlap_line(label, overlaps[label]))
    if options.existing != "overwrite":
        options = replace(options, existing="resume")
    results: dict[str, Json] = {}
    summaries: list[Json] = []
    for label, manifest in manifests.items():
        clip_set = ClipSet.read(workspace, manifest, wanted.max_samples, f"{Path(wanted.name).stem}-{label}")
        scored = [one.result for one in evaluate(workspace, model, clip_set, options, progress)]
        summaries += scored
        scorings = {one["context"]: (one, read_eval(workspace.path(one["file"]))[1]) for one in scored}
        results[label] = set_result(suite, scorings, overlaps[label])
    # Under the name that its scorings have, which says how it was decoded.
    name = str(summaries[0]["model"])
    part = "" if wanted.max_samples is None else f"-{wanted.max_samples}"
    file = workspace.scoring(name, f"suite-{Path(wanted.name).stem}{part}")
    results = with_earlier(results, read_scoring(file) if exists(file) else None)
    about = {"suite": wanted.name, "model": model, "created": now()}
    result = {**about, "sets": results, "not_run": not_run, "table": table(suite, name, results)}
    write_scoring(file, result)
    return SuiteScores(suite, file, result, summaries)


def _manifests(
    workspace: Workspace, suite: Suite, wanted: SuiteOptions, progress: Progress
) -> tuple[dict[str, Path], dict[str, str]]:
    """The manifest of each set that can be had, and why the others cannot."""
    manifests: dict[str, Path] = {}
    not_run: dict[str, str] = {}
    for label, test_set in suite.sets.items():
        try:
            manifests[label] = set_manifest(workspace, wanted.name, label, test_set, wanted.data, progress)
        except GovorError as error:
            not_run[label] = str(error)
            progress.note(f"left out  {error}")
    if not manifests:
        raise GovorError(f"None of the {len(suite.sets)} sets of {wanted.name} could be had; the reasons stand above.")
    return manifests, not_run


def rate_by(rows: Sequence[Row], normaliser: str) -> Json:
    """Corpus `wer` and `wer_interval` with any normaliser."""
    scores = score(
        [row["reference"] for row in rows],
        [row["hypothesis"] for row in rows],
        [row.get("language") for row in rows],
        normaliser,
    )
    counts = [one.words for one in scores]
    rate = total(counts).rate
    spread = interval([c.errors for c in counts], [c.length for c in counts], choose_clusters(rows))
    return {
        "wer": None if rate is None else round(rate, 6),
        "wer_interval": [round(spread.low, 6), round(spread.high, 6)] if spread else None,
    }


def set_result(suite: Suite, scorings: Mapping[str, tuple[Json, list[Row]]], overlap: Json) -> Json:
    """What a suite keeps of one set: each context by itself, since the better of two on a test set is nobody's score.

    Args:
        scorings: summary and clip rows by context.
        overlap: what `measure.overlap.overlap` found of this set.
    """
    known = set(overlap["ids"])
    contexts = {}
    for context, (summary, rows) in scorings.items():
        clean = [row for row in rows if row["id"] not in known]
        contexts[context] = {
            **{key: summary[key] for key in ("clips", "wer", "wer_interval", "cer", "cer_interval", "file", "weights")},
            "manifest_sha256": summary["manifest"]["sha256"],
            "decoding": decoding_of(summary),
            "failed": len(summary.get("failed", [])),
            "normaliser": NAME,
            "about_words": summary.get("about_words"),
            "published": {"normaliser": suite.normaliser, **rate_by(rows, suite.normaliser)},
            "wer_without_overlap": rate_by(clean, NAME)["wer"] if 0 < len(clean) < len(rows) else None,
        }
    return {"contexts": contexts, "overlap": {key: value for key, value in overlap.items() if key != "ids"}}


def with_earlier(results: dict[str, Json], earlier: object) -> dict[str, Json]:
    """The results with the contexts that an earlier file of the suite holds of the same weights and clips, decoded and counted
    alike."""
    old = earlier.get("sets", {}) if isinstance(earlier, dict) else {}
    for name, result in results.items():
        (now, *_) = result["contexts"].values()
        for context, one in old.get(name, {}).get("contexts", {}).items():
            one = {"decoding": PLAIN, **one}
            if all(one.get(key) == now[key] for key in _ALIKE):
                result["contexts"].setdefault(context, one)
    return results


def table(suite: Suite, model: str, ours: dict[str, Json]) -> list[Json]:
    """Rows of WER by set: the published ones, then ours in each context, with the suite's normaliser and the strict one."""
    rows: list[Json] = [
        {"model": name, "normaliser": suite.normaliser, **{name_: figures.get(name_) for name_ in suite.sets}}
        for name, figures in suite.published.items()
    ]
    contexts = dict.fromkeys(context for result in ours.values() for context in result["contexts"])
    for context in contexts:
        of_set = {name: ours[name]["contexts"].get(context, {}) if name in ours else {} for name in suite.sets}
        about = {"model": f"{model}, {context}"}
        if suite.normaliser != NAME:
            published = {name: result.get("published", {}).get("wer") for name, result in of_set.items()}
            rows.append({**about, "normaliser": suite.normaliser, **published})
        rows.append({**about, "normaliser": NAME, **{name: result.get("wer") for name, result in of_set.items()}})
    return rows
