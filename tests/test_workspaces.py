"""The workspace is an object: nothing depends on the process's folder, and two are used at once."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from conftest import make_corpus, make_split, read_metrics, toy_recipe
from govor import recipe as recipes
from govor.finetune.train import train
from govor.measure.evaluate import EvalOptions, evaluate
from govor.measure.scoring import ClipSet
from govor.runs import Run, Workspace

Govor = Callable[..., object]
_OF_THE_CLOCK = (
    "seconds",
    "took_seconds",
    "real_time_factor",
    "created",
    "weights",
    "judged",
    "training_seconds",
    "mfu",
    "audio_hours_per_device_hour",
)


def whole_way(govor: Govor, tiny: Path, *before: str) -> None:
    """Recordings → a run with scores, a verdict, a package and a report."""
    commands = (
        ("inventory", "rec", "--language", "en", "--license", "own"),
        ("validate", "manifests/dataset_inventory.jsonl", "--min-seconds", "0.3", "--near-duplicates", "off"),
        ("normalize", "manifests/kept.jsonl", "--no-norm-txt"),
        ("split", "manifests/normalized.jsonl", "--name", "toy"),
        ("train", "toy.yaml", "--device", "cpu"),
        ("evaluate", str(tiny), "--manifest", "manifests/splits/toy/test.jsonl", "--context", "speech"),
        ("evaluate", "models/whisper/toy", "--manifest", "manifests/splits/toy/test.jsonl", "--context", "speech"),
        ("compare", "manifests/evals/tiny__toy-test__speech.json", "manifests/evals/toy__toy-test__speech.json"),
        ("accept", "toy", "--set", "wer=100"),
        ("package", "toy"),
        ("report", "toy"),
        ("transcribe", "models/whisper/toy", "rec/speaker0/clip000.wav", "--outputs"),
    )
    for command in commands:
        govor(*before, *command)


def content(root: Path) -> dict[str, object]:
    """Every file of a workspace, without what the clock says."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() or name.startswith(("logs/", "reports/")) or path.suffix in (".idx", ".html"):
            continue
        if path.suffix in (".json", ".jsonl") and "checkpoints" not in name:
            lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
            found[name] = [timeless(json.loads(line)) for line in lines]
        else:
            found[name] = path.read_bytes()
    return found


def timeless(value: object) -> object:
    if isinstance(value, dict):
        kept = {key: timeless(item) for key, item in value.items() if key not in _OF_THE_CLOCK}
        return {key: item for key, item in kept.items() if not key.endswith(("memory_mb", "memory"))}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def test_commands_write_the_same_from_wherever_they_are_given(workspace: Path, tiny_folder: Path, govor: Govor) -> None:
    here, there = workspace / "here", workspace / "there"
    make_corpus(here / "rec", 24)
    toy_recipe(Path("manifests/splits/toy"), tiny_folder, here / "toy.yaml")
    shutil.copytree(here, there)  # with the times of the files, which an inventory lists
    whole_way(govor, tiny_folder, "-w", "there")  # the process stands in the folder above
    assert sorted(path.name for path in workspace.iterdir()) == ["here", "there"], (
        "nothing lands where the process stands"
    )
    whole_way(govor, tiny_folder, "-w", str(here.absolute()))
    assert content(here) == content(there)
    assert str(workspace) not in (there / "models/whisper/toy/README.md").read_text()


def train_and_score(root: Path, recipe: Path) -> tuple[list[object], object]:
    """The losses of a run in a workspace, and its score."""
    torch.set_num_threads(1)  # counts for the thread that says it; sums of two threads are rounded otherwise
    place = Workspace(root)
    finished = train(place, recipes.load(str(recipe)), device="cpu")
    clips = ClipSet.read(place, place.path("manifests/splits/toy/test.jsonl"))
    options = EvalOptions(contexts=("speech",), precision="fp32", device="cpu")
    (scored,) = evaluate(place, "models/whisper/toy", clips, options)
    assert isinstance(finished.run, Run)
    return [row["loss"] for row in read_metrics(finished.run.folder, "train")], scored.result["wer"]


def test_two_workspaces_are_trained_and_scored_in_two_threads(workspace: Path, tiny_folder: Path) -> None:
    elsewhere = workspace / "elsewhere"
    recipe: dict[str, Path] = {}
    for seed, name in enumerate(("alone", "a", "b")):
        root = workspace / name
        make_split(root)
        overrides = {"finetune": {"seed": min(seed, 1), "lr": 1e-3}}
        recipe[name] = toy_recipe(Path("manifests/splits/toy"), tiny_folder, root / "toy.yaml", **overrides)
    elsewhere.mkdir()
    alone = train_and_score(workspace / "alone", recipe["b"])
    results: dict[str, object] = {}

    def work(name: str) -> None:
        results[name] = train_and_score(workspace / name, recipe[name if name == "b" else "alone"])

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results["b"] == alone, "what the other thread does changes no number"
    assert results["a"] != alone, "and they were two runs"
    assert {path.name for path in workspace.iterdir()} >= {"alone", "a", "b"} and not list(elsewhere.iterdir())
    assert not (workspace / "models").exists() and not (workspace / "manifests").exists()
