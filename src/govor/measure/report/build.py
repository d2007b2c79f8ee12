"""`reports/<run>/index.html`: scores, learning curves, where the errors lie, and every clip with audio and word diff.

The clips stand in a script beside the page and are drawn as they are scrolled to, so that 20,000 of them stay usable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from govor.errors import GovorError
from govor.files import atomic_folder
from govor.jsons import read_json, script_json
from govor.measure.evaluate import read_eval
from govor.measure.report.audio import copy_audio
from govor.measure.report.figures import (
    curves,
    length_by_speaker,
    letter_confusions,
    metrics_of,
    position_by_length,
    word_confusions,
)
from govor.measure.report.page import render
from govor.metrics.recognition import ClipRow, by_id
from govor.metrics.wer import Counts, Diff, word_diffs
from govor.runs import Workspace

FILES = frozenset({"index.html", "clips.js", "audio"})
# Recordings of a large test set would fill gigabytes: those with most errors are the ones to listen to.
MOST_AUDIO = 2_000
_KINDS = {"equal": 0, "substitute": 1, "delete": 2, "insert": 3}


def build_report(run: Path, target: Path, overwrite: bool, most_audio: int = MOST_AUDIO) -> Path:
    """Write the report of a run from its headline file and metrics; returns the page's path.

    Raises:
        GovorError: the run has not been scored.
    """
    headline_file = Path("manifests") / f"eval_{run.name}.json"
    headline = read_json(headline_file) if headline_file.exists() else {}
    if not headline.get("contexts"):
        raise GovorError(
            f"{run.name} has not been scored before and after; run: govor compare EVAL_BEFORE EVAL_AFTER --run {run.name}"
        )
    context, first = next(iter(headline["contexts"].items()))
    before, after = (by_id(read_eval(Path(first["files"][side]))[1], side) for side in ("before", "after"))
    if before.keys() != after.keys() or len(after) != first["after"]["clips"]:
        raise GovorError(
            f"The scorings of {run.name} have changed since they were compared; run: govor compare EVAL_BEFORE EVAL_AFTER --run {run.name}"
        )
    order = sorted(after, key=lambda name: (-Counts(**after[name]["words"]).errors, name))
    rows = [after[name] for name in order]
    languages = [row.get("language") for row in rows]
    diffs_after = word_diffs([(row["reference"], row["hypothesis"]) for row in rows], languages)
    diffs_before = word_diffs([(before[name]["reference"], before[name]["hypothesis"]) for name in order], languages)
    with atomic_folder(target, "the report", replace=overwrite) as folder:
        (folder / "audio").mkdir()
        clips = [
            _clip(number, row, before[row["id"]], diffs, folder if number < most_audio else None)
            for number, (row, *diffs) in enumerate(zip(rows, diffs_before, diffs_after, strict=True))
        ]
        script = "const CLIPS = [\n" + ",\n".join(script_json(clip) for clip in clips) + "\n];\n"
        (folder / "clips.js").write_text(script, encoding="utf-8", errors="backslashreplace")
        page = render(
            "index.html",
            run=run.name,
            headline=headline,
            shown_context=context,
            clips=len(clips),
            audio=min(len(clips), most_audio),
            curves=curves(metrics_of(run)),
            letters=letter_confusions(rows),
            confused=word_confusions(diffs_after),
            heat=length_by_speaker(rows),
            positions=position_by_length(rows, diffs_after),
            slices=first["comparison"].get("slices", {}),
            normalisation=first["comparison"].get("normalisation"),
            extra=_extra(run.name),
            record=read_json(run / "run_manifest.json") if (run / "run_manifest.json").exists() else None,
            diagnosis=read_json(run / "diagnosis.json") if (run / "diagnosis.json").exists() else None,
        )
        (folder / "index.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    return target / "index.html"


def _clip(number: int, row: ClipRow, old: ClipRow, diffs: list[list[Diff]], folder: Path | None) -> list[Any]:
    """[id, audio, seconds, speaker, source, language, reference, words, errors before and after, diff before and after]."""
    audio = None if folder is None else copy_audio(row["audio"], row.get("offset"), row["duration"], folder, number)
    errors = [Counts(**side["words"]).errors for side in (old, row)]
    names = [row.get(key) or "" for key in ("speaker", "source", "language")]
    said = [row["id"], audio, round(row["duration"], 1), *names, row["reference"], row["words"]["length"], *errors]
    return [*said, *([_step(step) for step in steps] for steps in diffs)]


def _step(step: Diff) -> list[Any]:
    """A step of a diff: [0, words], [1, said, heard], [2, left out], [3, put in]."""
    if step.kind == "equal":
        return [0, step.hypothesis]
    texts = {"substitute": [step.reference, step.hypothesis], "delete": [step.reference], "insert": [step.hypothesis]}
    return [_KINDS[step.kind], *texts[step.kind]]


def _extra(run: str) -> dict[str, Any]:
    """What else was measured of the run: timestamps, hallucination, suites."""
    found: dict[str, Any] = {"timestamps": [], "hallucination": [], "suites": []}
    for kind, pattern in (
        ("timestamps", f"{run}__timestamps__*.json"),
        ("hallucination", f"{run}__hallucination__*.json"),
        ("suites", f"{run}__suite-*.json"),
    ):
        held = [read_json(path) for path in sorted(Workspace().evals.glob(pattern))]
        found[kind] = [one for one in held if isinstance(one, dict)]
    return found
