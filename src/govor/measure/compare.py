"""Is one scoring better than another? The comparison is filed, and where it is a run's gain, in its headline file too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from govor.files import refuse_existing
from govor.jsons import write_json
from govor.measure.headline import compared, file_comparisons
from govor.progress import SILENT, Progress
from govor.runs import Json, Workspace, check_name


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison gave, the file that it stands in, and the run whose headline file it was put into, if any."""

    file: Path
    result: Json
    task: str | None
    run: str | None


def compare(
    workspace: Workspace,
    before_file: Path,
    after_file: Path,
    run: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Comparison:
    """Compare two scorings of the same clips.

    Args:
        run: whose before and after they are; by default the run that the newer one is of, where the older is its base model.
        out: in place of `manifests/compare/…`, where an earlier comparison is replaced.

    Raises:
        GovorError: the scorings cannot be compared or are of another task than the run, or `out` is there.
    """
    if run is not None:
        check_name(run)
    if out is not None:
        refuse_existing(out, overwrite)
    pair = compared(workspace, before_file, after_file)
    before, after = pair["before"], pair["after"]
    name = run or _run_of_gain(workspace, before, after)
    parts = f"{before['model']}__vs__{after['model']}__{after['set']}__{after['context']}.json"
    file = out or workspace.manifests / "compare" / parts
    headed = name if before["context"] == after["context"] else None
    if headed is not None:
        file_comparisons(workspace, headed, {after["context"]: pair}, progress=progress)
    write_json(file, pair["comparison"])
    return Comparison(file, pair["comparison"], after.get("task"), headed)


def _run_of_gain(workspace: Workspace, before: Json, after: Json) -> str | None:
    """The run that `after` is of, where `before` is of the base model that it began from."""
    runs = [run for run in workspace.runs() if run.name == after["model"] and run.finished]
    gains = any(run.record().base_model == before.get("source") for run in runs)
    return str(after["model"]) if gains else None
