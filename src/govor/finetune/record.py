"""From a run's record: repeating it, and averaging its checkpoints afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from govor.config import apply_overrides, read_yaml
from govor.device import autocast, pick_device
from govor.errors import GovorError
from govor.families.opening import base_sha256, best_checkpoint, find_model, trainable_folder
from govor.families.registry import family_class, family_of
from govor.finetune.average import average_and_judge
from govor.finetune.diagnose import write_diagnosis
from govor.finetune.survey import augment_sha256, fingerprints, survey
from govor.finetune.validation import Validation
from govor.finetune.watch import read_metrics
from govor.jsons import read_json, write_json
from govor.locks import held
from govor.machine import environment
from govor.recipe import Recipe, parse_recipe

COMPARED_STEPS = 100


@dataclass(frozen=True, slots=True)
class Repeated:
    """How the losses of a repetition's first steps lie to those of the run it repeats."""

    steps: int
    equal: int
    largest_difference: float
    sentence: str


def repeated_recipe(record: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe of a recorded run, under another name and with the number format that was chosen for it.

    Raises:
        GovorError: the file is no record of a run.
    """
    found = _record(record)
    values = {**found["recipe"], "name": f"{found['run']}-again"}
    values["finetune"] = {**values["finetune"], "precision": found["precision"]}
    return parse_recipe(apply_overrides(values, list(overrides)), record.name)


def check_repeatable(record: Path, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Refuse where the data or the base model are no longer those of the record; say what else differs.

    Raises:
        GovorError: a manifest or the base model has changed.
    """
    found = _record(record)
    _same_data(found, recipe)
    base = trainable_folder(find_model(recipe.base_model, say), say)
    if base_sha256(base) != found["base_sha256"]:
        raise GovorError(f"{recipe.base_model} is not the base model of {found['run']} (its hash differs).")
    now, then = environment(), found["environment"]
    packages = {
        name: (then["packages"].get(name), version)
        for name, version in now["packages"].items()
        if then["packages"].get(name) != version
    }
    differing = [f"{name} {old} → {new}" for name, (old, new) in packages.items()]
    differing += [f"{key} {then.get(key)} → {now[key]}" for key in ("processor", "gpu") if then.get(key) != now[key]]
    if differing:
        say(f"note: not the machine and versions of the record ({'; '.join(differing)}); losses may differ in rounding")


def compare_losses(old: Path, new: Path) -> Repeated | None:
    """The losses of the first steps of two runs; None where one of them has none kept."""
    before, after = (_losses(run) for run in (old, new))
    steps = sorted(before.keys() & after.keys())
    if not steps:
        return None
    differences = [abs(before[step] - after[step]) for step in steps]
    equal, largest = sum(difference == 0 for difference in differences), max(differences)
    told = "all equal" if equal == len(steps) else f"{equal} equal, largest difference {largest:.2g}"
    return Repeated(len(steps), equal, largest, f"losses of the first {len(steps)} steps against {old.name}: {told}")


def average_run(run: Path, count: int, device: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Average a finished run's checkpoints and note which ships.

    Raises:
        GovorError: no finished run, or fewer than two checkpoints.
    """
    with held(run, "averaged"):
        return _average_run(run, count, device, say)


def _average_run(run: Path, count: int, device: str, say: Callable[[str], None]) -> dict[str, Any]:
    if not (run / "run_manifest.json").exists():
        raise GovorError(f"{run} is no finished run (run_manifest.json is missing); train it first.")
    recipe = parse_recipe(read_yaml(run / "recipe.yaml"), str(run / "recipe.yaml"))
    chosen = pick_device(device).value
    accelerator = Accelerator(cpu=chosen == "cpu")
    _same_data(_record(run / "run_manifest.json"), recipe)
    family = family_class(family_of(run / "base", str(run)))
    renderer = family.load_renderer(run / "base")
    sources = survey(recipe, renderer, "timestamps" in renderer.features)
    validation = Validation(recipe, sources, accelerator)
    precision = autocast(accelerator.device.type, read_json(run / "precision.json")["value"])
    result = average_and_judge(run, recipe, count, validation, precision, accelerator, say)
    if result is None:
        raise GovorError(
            f"{run} keeps fewer than two checkpoints, so there is nothing to average; train with more evaluations."
        )
    best = best_checkpoint(run)
    state = read_json(best / "state.json")
    chance = (
        read_json(run / "diagnosis.json")["figures"].get("loss_chance") if (run / "diagnosis.json").exists() else None
    )
    write_diagnosis(run, recipe.evaluation.metric, chance)
    summary = {**read_json(run / "metrics.json"), "best_checkpoint": best.name, "best_step": state["step"]}
    summary |= {"metrics": state["metrics"], "average": result}
    write_json(run / "metrics.json", summary)
    write_json(run / "run_manifest.json", {**read_json(run / "run_manifest.json"), "result": summary})
    return result


def _same_data(record: dict[str, Any], recipe: Recipe) -> None:
    """Refuse where manifests or augmentation are not those of the record."""
    for part, found in fingerprints(recipe).items():
        before = record["data"].get(part)
        if before is None or before["sha256"] != found["sha256"]:
            raise GovorError(
                f"{found['path']} is not the manifest that {record['run']} was trained on (its hash differs); bring the old one "
                "back, or train the recipe anew."
            )
    if augment_sha256(recipe) != record.get("augment_sha256"):
        raise GovorError(f"{recipe.examples.augment} is not what {record['run']} was trained with (its hash differs).")


def _record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise GovorError(f"The record {path} was not found.")
    found = read_json(path)
    if not isinstance(found, dict) or not {"recipe", "data", "run", "precision", "base_sha256"} <= found.keys():
        raise GovorError(f"{path} is no run_manifest.json of a finished run; a recipe or such a record was wanted.")
    return found


def _losses(run: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_metrics(run, "train") if row["step"] <= COMPARED_STEPS}
