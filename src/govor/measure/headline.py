"""`manifests/eval_<run>.json`: a run's before and after in one file, with what `govor accept` said, for the card and the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from govor.config import read_yaml
from govor.errors import GovorError
from govor.families.registry import task_named, task_of
from govor.files import exists
from govor.machine import now
from govor.measure.accept import judged_scores, with_scores
from govor.measure.scoring import decoding_of, read_eval, refuse_unread
from govor.progress import SILENT, Progress
from govor.recipe import family_in
from govor.runs import Json, Workspace


def compared(workspace: Workspace, before_file: Path, after_file: Path) -> Json:
    """Two scorings of the same clips: summary `before` and `after`, their `comparison`, and their `files`.

    Raises:
        GovorError: they are of different tasks or clips, or hold clips that could not be read.
    """
    (before, before_rows), (after, after_rows) = read_eval(before_file), read_eval(after_file)
    refuse_unread(before_file, before)
    refuse_unread(after_file, after)
    if before.get("task") != after.get("task"):
        raise GovorError(f"{before_file} and {after_file} are of different tasks; only scores of one task compare.")
    names = (str(before["model"]), str(after["model"]))
    comparison = task_named(after.get("task"), after_file).compare(before_rows, after_rows, names)
    decoding = {"a": decoding_of(before), "b": decoding_of(after)}
    return {
        "before": before,
        "after": after,
        "comparison": {**comparison, **({"decoding": decoding} if all(decoding.values()) else {})},
        "files": {"before": workspace.as_given(before_file), "after": workspace.as_given(after_file)},
    }


def add_to_headline(
    workspace: Workspace,
    run: str,
    pairs: Mapping[str, tuple[Path, Path]],
    fresh: bool = False,
    progress: Progress = SILENT,
) -> Json:
    """Compare (before, after) scorings per audio context and put them into the run's headline file; see `file_comparisons`."""
    contexts = {context: compared(workspace, *files) for context, files in pairs.items()}
    return file_comparisons(workspace, run, contexts, fresh, progress)


def file_comparisons(
    workspace: Workspace,
    run: str,
    comparisons: Mapping[str, Json],
    fresh: bool = False,
    progress: Progress = SILENT,
) -> Json:
    """Put comparisons into a run's headline file, by audio context; returns its content.

    Other contexts already there stay, unless `fresh`. The verdict of `govor accept` stays the run's `acceptance` as long as the
    scores that it judged are the same. Where they are not, it moves to `earlier_verdicts`, with those scores: no verdict is lost.

    Raises:
        GovorError: they are of another task than the run.
    """
    for comparison in comparisons.values():
        _refuse_other_task(workspace, run, comparison["after"])
    old: Json = workspace.read_headline(run) or {"contexts": {}}
    contexts = {**({} if fresh else old["contexts"]), **comparisons}
    headline: Json = {"run": run, "created": now(), "contexts": contexts}
    earlier = list(old.get("earlier_verdicts", []))
    if "acceptance" in old:
        verdict = old["acceptance"]
        judged, current = (judged_scores(verdict, some) for some in (old["contexts"], contexts))
        if judged == current:
            headline |= {"accepted": old["accepted"], "acceptance": verdict}
        else:
            earlier.append(with_scores(verdict, old["contexts"]))
            said = "accepted" if old["accepted"] else "not accepted"
            progress.note(
                f"the verdict of {verdict.get('judged')} ({said}) was of other scores and is one of the earlier verdicts now; "
                f"judge again with: govor accept {run}"
            )
    if earlier:
        headline["earlier_verdicts"] = earlier
    workspace.write_headline(run, headline)
    return headline


def _refuse_other_task(workspace: Workspace, name: str, summary: Json) -> None:
    """Refuse scores that no run of that name can have; where there is no such run, anything is taken."""
    recipes = [run.recipe_file for run in workspace.runs() if run.name == name and exists(run.recipe_file)]
    tasks = dict.fromkeys(task_of(family_in(read_yaml(file))).name for file in recipes)
    scored = task_named(summary.get("task"), f"the scoring of {summary.get('model')}").name
    if tasks and scored not in tasks:
        raise GovorError(
            f"{name} is for {' and '.join(tasks)}, and these scores are of {scored}; give the run that they are of."
        )
