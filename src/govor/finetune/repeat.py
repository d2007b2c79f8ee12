"""Whether a run can be repeated from its record, and how the losses of the two compare; see also `request`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from govor.errors import GovorError
from govor.families.opening import base_sha256, find_model, trainable_folder
from govor.finetune.data import check_same_data
from govor.machine import environment
from govor.progress import SILENT, Progress
from govor.recipe import Recipe
from govor.runs import Run, Workspace, read_record

COMPARED_STEPS = 100


@dataclass(frozen=True, slots=True)
class Repeated:
    """How the losses of a repetition's first steps lie to those of the run it repeats."""

    steps: int
    equal: int
    largest_difference: float
    sentence: str


def check_repeatable(workspace: Workspace, file: Path, recipe: Recipe, progress: Progress = SILENT) -> None:
    """Refuse where the data or the base model are no longer those of the record; say what else differs.

    Raises:
        GovorError: a manifest or the base model has changed.
    """
    record = read_record(file)
    check_same_data(workspace, record, recipe)
    base = trainable_folder(find_model(workspace.model(recipe.base_model), progress.note), progress.note)
    if base_sha256(base) != record.base_sha256:
        raise GovorError(f"{recipe.base_model} is not the base model of {record.run} (its hash differs).")
    now, then = environment(), record.environment
    packages = {
        name: (then["packages"].get(name), version)
        for name, version in now["packages"].items()
        if then["packages"].get(name) != version
    }
    differing = [f"{name} {old} → {new}" for name, (old, new) in packages.items()]
    differing += [f"{key} {then.get(key)} → {now[key]}" for key in ("processor", "gpu") if then.get(key) != now[key]]
    if differing:
        progress.note(
            f"note: not the machine and versions of the record ({'; '.join(differing)}); losses may differ in rounding"
        )


def compare_losses(old: Run, new: Run) -> Repeated | None:
    """The losses of the first steps of two runs; None where one of them has none kept."""
    before, after = (_losses(run) for run in (old, new))
    steps = sorted(before.keys() & after.keys())
    if not steps:
        return None
    differences = [abs(before[step] - after[step]) for step in steps]
    equal, largest = sum(difference == 0 for difference in differences), max(differences)
    equality = "all equal" if equal == len(steps) else f"{equal} equal, largest difference {largest:.2g}"
    return Repeated(
        len(steps), equal, largest, f"losses of the first {len(steps)} steps against {old.name}: {equality}"
    )


def _losses(run: Run) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in run.metrics("train") if row["step"] <= COMPARED_STEPS}
