"""Which data a run is made with: the hashes by which it is known again."""

from __future__ import annotations

from govor.corpus.manifests import fingerprint
from govor.errors import GovorError
from govor.files import sha256_of, sha256_of_lines
from govor.recipe import Recipe
from govor.runs import Json, RunRecord, Workspace


def fingerprints(workspace: Workspace, recipe: Recipe) -> dict[str, Json]:
    """Path, rows and hash of each manifest of a run, by `source/part`."""
    manifests = {
        f"{name}/{part}": workspace.path(source.split) / f"{part}.jsonl"
        for name, source in recipe.data.by_name().items()
        for part in ("train", "validation")
    }
    return {part: {**fingerprint(path), "path": workspace.as_given(path)} for part, path in manifests.items()}


def augment_sha256(workspace: Workspace, recipe: Recipe) -> str | None:
    """The hash of the augmentation's settings, which are as much a part of a run as its data."""
    file = recipe.examples.augment
    return None if file is None else sha256_of(workspace.path(file))


def check_same_data(workspace: Workspace, record: RunRecord, recipe: Recipe) -> None:
    """Refuse where manifests or augmentation are not those of a run's record."""
    for part, manifest in fingerprints(workspace, recipe).items():
        before = record.data.get(part)
        if before is None or before["sha256"] != manifest["sha256"]:
            raise GovorError(
                f"{manifest['path']} is not the manifest that {record.run} was trained on (its hash differs); bring the old "
                "one back, or train the recipe anew."
            )
    if augment_sha256(workspace, recipe) != record.augment_sha256:
        raise GovorError(f"{recipe.examples.augment} is not what {record.run} was trained with (its hash differs).")


def data_sha256(workspace: Workspace, recipe: Recipe, data: dict[str, Json]) -> str:
    """One hash over a run's manifests and augmentation."""
    augment = augment_sha256(workspace, recipe)
    return sha256_of_lines([data[part]["sha256"] for part in sorted(data)] + ([augment] if augment else []))
