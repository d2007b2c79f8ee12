"""`reports/<run>/index.html`: scores, learning curves, where the errors lie, and every clip with audio and word diff.

The clips stand in a script beside the page and are drawn as they are scrolled to, so that 20,000 of them stay usable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from govor.errors import GovorError
from govor.families.registry import task_named
from govor.families.task import Row, Task
from govor.files import atomic_folder, exists, refuse_existing
from govor.jsons import script_json
from govor.measure.lines import doubts, trouble
from govor.measure.report.audio import copy_audio
from govor.measure.report.figures import curves
from govor.measure.report.page import check_replaceable, render
from govor.measure.scoring import read_eval
from govor.metrics.recognition import by_id
from govor.metrics.wer import Diff
from govor.runs import Json, Run, Workspace, read_scoring

FILES = frozenset({"index.html", "clips.js", "audio"})
# Recordings of a large test set would fill gigabytes: those with most errors are the ones to listen to.
MOST_AUDIO = 2_000
_KINDS = {"equal": 0, "substitute": 1, "delete": 2, "insert": 3}


def report(run: Run, out: Path | None = None, overwrite: bool = False, most_audio: int = MOST_AUDIO) -> Path:
    """Write the report of a run from its headline file and metrics; returns the page's path.

    Args:
        out: in place of `reports/<run>`; a folder that holds other things than a report is never replaced.
        most_audio: how many recordings are copied beside the page, of the clips with most errors.

    Raises:
        GovorError: the run has not been scored, or its scorings have changed since they were compared.
    """
    target = (out or run.workspace.reports / run.name).resolve()
    refuse_existing(target, overwrite)
    check_replaceable(target, FILES, "a report")
    headline: Json = run.headline() or {}
    if not headline.get("contexts"):
        raise GovorError(
            f"{run.name} has not been scored before and after; run: govor compare EVAL_BEFORE EVAL_AFTER --run {run.name}"
        )
    context, first = next(iter(headline["contexts"].items()))
    task = task_named(first["after"].get("task"), run.workspace.headline(run.name))
    before, after = _rows(run, first)
    names = sorted(after, key=lambda name: (-task.errors(after[name])[0], name))
    pairs = [(before[name], after[name]) for name in names]
    errors = task.report([old for old, _ in pairs], [new for _, new in pairs])
    with atomic_folder(target, "the report", replace=overwrite) as folder:
        (folder / "audio").mkdir()
        clips = [
            [*_clip(number, pair, task, run.workspace, folder if number < most_audio else None), *map(_steps, diffs)]
            for number, (pair, diffs) in enumerate(zip(pairs, errors.diffs, strict=True))
        ]
        script = "const CLIPS = [\n" + ",\n".join(script_json(clip) for clip in clips) + "\n];\n"
        (folder / "clips.js").write_text(script, encoding="utf-8", errors="backslashreplace")
        page = render(
            "index.html",
            run=run.name,
            headline=headline,
            metrics=task.metrics,
            shown_context=context,
            clips=len(clips),
            audio=min(len(clips), most_audio),
            curves=curves(run.metrics("train"), run.metrics("eval"), task.metrics),
            slices=first["comparison"].get("slices", {}),
            normalisation=first["comparison"].get("normalisation"),
            doubts=[*doubts(first["comparison"]), *trouble(first["after"])],
            extra=_extra(run),
            record=run.record().as_json() if run.finished else None,
            diagnosis=run.read("diagnosis.json") if exists(run.folder / "diagnosis.json") else None,
            unit=errors.unit,
            letters=errors.letters,
            confused=errors.confused,
            heat=errors.heat,
            positions=errors.positions,
        )
        (folder / "index.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    return target / "index.html"


def _rows(run: Run, context: Json) -> tuple[dict[str, Row], dict[str, Row]]:
    """The rows before and after, by clip."""
    before, after = (
        by_id(read_eval(run.workspace.path(context["files"][side]))[1], side) for side in ("before", "after")
    )
    if before.keys() != after.keys() or len(after) != context["after"]["clips"]:
        raise GovorError(
            f"The scorings of {run.name} have changed since they were compared; run: govor compare EVAL_BEFORE EVAL_AFTER --run {run.name}"
        )
    return before, after


def _clip(number: int, pair: tuple[Row, Row], task: Task, workspace: Workspace, folder: Path | None) -> list[object]:
    """[id, audio, seconds, speaker, source, language, reference, words, errors before and after]; the diffs follow."""
    row = pair[1]
    file = str(workspace.path(row["audio"]))
    audio = None if folder is None else copy_audio(file, row.get("offset"), row["duration"], folder, number)
    names = [row.get(key) or "" for key in ("speaker", "source", "language")]
    (old, _), (new, units) = map(task.errors, pair)
    return [row["id"], audio, round(row["duration"], 1), *names, row["reference"], units, old, new]


def _steps(diff: Sequence[Diff]) -> list[list[object]]:
    return [_step(step) for step in diff]


def _step(step: Diff) -> list[object]:
    """A step of a diff: [0, words], [1, said, heard], [2, left out], [3, put in]."""
    if step.kind == "equal":
        return [0, step.hypothesis]
    texts = {"substitute": [step.reference, step.hypothesis], "delete": [step.reference], "insert": [step.hypothesis]}
    return [_KINDS[step.kind], *texts[step.kind]]


def _extra(run: Run) -> dict[str, list[Json]]:
    """What else was measured of the run: timestamps, hallucination, suites."""
    patterns = {"timestamps": ("timestamps", "*"), "hallucination": ("hallucination", "*"), "suites": ("suite-*",)}
    files = {kind: run.workspace.scorings(run.name, *parts) for kind, parts in patterns.items()}
    return {kind: [read_scoring(file) for file in some] for kind, some in files.items()}
