"""Going on with a run: what may differ from how it was begun, and what of that is written down.

A setting that changes no number of the run passes. One that changes some passes when that is asked for in so many words,
and stands in the run's record. What makes another model does not pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from govor.errors import GovorError
from govor.files import write_text
from govor.finetune.begun import recipe_of
from govor.finetune.data import data_sha256
from govor.jsons import read_log, to_json
from govor.machine import now
from govor.recipe import Recipe
from govor.runs import Json, Run, read_state

# Where a run computes, who is told, what is kept, and places: the base model and the manifests are known by their hashes.
_NO_NUMBER = re.compile(
    r"finetune\.(activation_checkpointing|loader_workers)|evaluation\.keep_best|(tracking|acceptance)\..*|base_model"
    r"|data\.(sources\..+\.)?split"
)
_ANOTHER_MODEL = re.compile(r"name|family|finetune\.method|finetune\.lora\.(rank|alpha|rslora|targets|quantize)")


@dataclass(frozen=True, slots=True)
class Change:
    """One setting, `name: old → new`, and whether it changes numbers of the run."""

    name: str
    text: str
    counts: bool


def changes(run: Run, recipe: Recipe, data: dict[str, Json]) -> list[Change]:
    """How a recipe and its data (the fingerprints of its manifests) differ from what `run` was begun with.

    Raises:
        GovorError: by what makes another model.
    """
    old = recipe_of(run)
    differences = [
        Change(name, f"{name}: {json.dumps(before)} → {json.dumps(after)}", _counts(name, old, recipe, run))
        for name, before, after in _differing(old.model_dump(mode="json"), recipe.model_dump(mode="json"))
    ]
    for change in differences:
        if _ANOTHER_MODEL.fullmatch(change.name):
            raise GovorError(
                f"{run.folder} was begun with another recipe ({change.text}), which makes another model; train that under a "
                "new name."
            )
    start = run.last_checkpoint()
    assert start is not None
    if read_state(start)["data_sha256"] != data_sha256(run.workspace, recipe, data):
        where = ", ".join(source.split for source in recipe.data.by_name().values())
        augment = f" or the settings in {recipe.examples.augment}" if recipe.examples.augment else ""
        differences.append(Change("data", f"the manifests of {where}{augment}", True))
    return differences


def check(run: Run, differences: Sequence[Change], allowed: bool) -> None:
    """Refuse what changes numbers, unless that is `allowed`.

    Raises:
        GovorError: with every such change.
    """
    counting = [change for change in differences if change.counts]
    if allowed or not counting:
        return
    settings = "; ".join(change.text for change in counting if change.name != "data")
    manifests = "".join(f"{change.text[0].upper()}{change.text[1:]}" for change in counting if change.name == "data")
    reason = f"{run.folder} was begun with another recipe ({settings})" if settings else ""
    reason += (". " if reason and manifests else "") + (
        f"{manifests} have changed since {run.folder} was begun" if manifests else ""
    )
    raise GovorError(
        f"{reason}; go on with the same, or with --resume-changed, which notes the change in the run's record, or train anew "
        "under another name."
    )


def note(run: Run, recipe: Recipe, differences: Sequence[Change]) -> None:
    """Write down what changed, and after which step; the run's recipe is the changed one from here."""
    if not differences:
        return
    start = run.last_checkpoint()
    assert start is not None
    entry = {
        "after_step": int(read_state(start)["step"]),
        "at": now(),
        "changed": [change.text for change in differences],
        "changes_numbers": any(change.counts for change in differences),
    }
    write_text(run.folder / "resumed.jsonl", "".join(f"{to_json(one)}\n" for one in (*noted(run), entry)))
    write_text(run.recipe_file, recipe.to_yaml())


def noted(run: Run) -> list[Json]:
    """Every time the run went on with something changed."""
    return read_log(run.folder / "resumed.jsonl")


def _counts(name: str, old: Recipe, recipe: Recipe, run: Run) -> bool:
    if name == "finetune.max_batch_audio_seconds":  # rounding alone, unless dropout draws along other batches
        return any(used.finetune.dropout or used.finetune.lora.dropout for used in (old, recipe))
    if name == "finetune.precision":
        return recipe.finetune.precision not in ("auto", run.read("precision.json")["value"])
    return not _NO_NUMBER.fullmatch(name)


def _differing(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Settings that differ, by dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            name
            for key in sorted({*old, *new})
            for name in _differing(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
        ]
    return [] if old == new else [(prefix, old, new)]
