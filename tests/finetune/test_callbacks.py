"""Callbacks can end or prune a run; a metric counts in its own direction; a run needs no current folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Silent, make_split, read_metrics, toy_recipe
from govor import recipe as recipes
from govor.finetune import checkpoints
from govor.finetune.callbacks import Callback, End, Evaluation, Pruned
from govor.finetune.diagnose import diagnose
from govor.finetune.stopping_callbacks import Patience
from govor.finetune.train import train
from govor.metrics.metric import Metric
from govor.recipe import Evaluation as EvaluationSettings
from govor.runs import Run, Workspace

F1 = Metric("f1", "higher")


class Recording(Callback):
    """Writes down the moments that it is told of."""

    def __init__(self, end_at: int | None = None, prune_at: int | None = None) -> None:
        self.moments: list[str] = []
        self.end_at, self.prune_at = end_at, prune_at

    def begun(self) -> End | None:
        self.moments.append("begun")
        return None

    def entered(self, phase: Any, trained: Any) -> None:
        self.moments.append(f"phase {phase.name}")

    def stepped(self, record: Any) -> None:
        self.moments.append(f"step {record.step}")

    def evaluated(self, evaluation: Evaluation) -> None:
        self.moments.append(f"evaluated {evaluation.step}")
        if evaluation.step == self.prune_at:
            raise Pruned("worse than half of the trials")

    def saved(self, step: int, checkpoint: Path, best: Path) -> None:
        self.moments.append(f"saved {checkpoint.name}")

    def verdict(self, evaluation: Evaluation) -> End | None:
        return End("good enough") if evaluation.step == self.end_at else None

    def concluded(self, best: Path, metrics: Any) -> None:
        self.moments.append(f"concluded {best.name}")

    def close(self) -> None:
        self.moments.append("closed")


def toy(workspace: Path, base: Path) -> recipes.Recipe:
    settings = {"evaluations": 3}
    return recipes.load(str(toy_recipe(make_split(workspace), base, workspace / "toy.yaml", evaluation=settings)))


def test_a_callback_hears_every_moment_in_order(workspace: Path, tiny_folder: Path) -> None:
    heard = Recording()
    finished = train(Workspace(), toy(workspace, tiny_folder), device="cpu", callbacks=[heard])
    steps = [
        moment
        for first in (1, 3, 5)
        for moment in (
            f"step {first}",
            f"step {first + 1}",
            f"evaluated {first + 1}",
            f"saved step-00000{first + 1}",
        )
    ]
    best = finished.best.name
    assert heard.moments == ["evaluated 0", "begun", "phase train", *steps, f"concluded {best}", "closed"]
    assert finished.ended is None


def test_a_callback_ends_a_run_which_is_concluded_as_every_run(workspace: Path, tiny_folder: Path) -> None:
    heard = Recording(end_at=4)
    finished = train(Workspace(), toy(workspace, tiny_folder), device="cpu", callbacks=[heard])
    assert finished.ended == End("good enough") and finished.run.finished
    assert finished.metrics["steps_done"] == 4 and finished.metrics["total_steps"] == 6
    assert heard.moments[-3:] == ["saved step-000004", f"concluded {finished.best.name}", "closed"]


def test_a_pruned_run_is_not_concluded_and_can_be_gone_on_with(workspace: Path, tiny_folder: Path) -> None:
    recipe = toy(workspace, tiny_folder)
    heard = Recording(prune_at=4)
    with pytest.raises(Pruned, match="worse than half"):
        train(Workspace(), recipe, device="cpu", callbacks=[heard])
    run = Workspace().run("whisper", "toy")
    assert heard.moments[-2:] == ["evaluated 4", "closed"]
    assert not run.finished and [path.name for path in run.whole_checkpoints()] == ["step-000002"]
    whole = train(Workspace(), recipe.model_copy(update={"name": "whole"}), device="cpu")
    resumed = train(Workspace(), recipe, resume=True, device="cpu")
    losses = [[row["loss"] for row in read_metrics(run.folder, "train")] for run in (whole.run, resumed.run)]
    assert losses[0] == losses[1]


def test_patience_counts_gains_in_the_direction_of_the_metric() -> None:
    def seen(values: list[float | None], **settings: float) -> list[bool]:
        patience = Patience(EvaluationSettings(**settings), F1, 0)  # type: ignore[arg-type]
        return [patience.seen(step, value) for step, value in enumerate(values, start=1)]

    assert seen([0.1, 0.2, 0.3, 0.25, 0.28], patience=2) == [True, True, True, True, False]
    assert seen([0.1, 0.15, 0.19], patience=2, min_gain=0.1) == [True, True, False]
    assert seen([None, 0.0, None, None], patience=2) == [True, True, True, False], (
        "anything beats what was not measured"
    )


def test_checkpoints_are_ranked_and_pruned_in_the_direction_of_the_metric(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step, (f1, loss) in enumerate([(0.9, 5.0), (0.5, 1.0), (0.9, 4.0), (None, 3.0), (0.1, 2.0)], start=1):
        folder = run.checkpoints / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"step": step, "metrics": {"f1": f1, "loss": loss}}))
        checkpoints.prune(run, F1, 1)
    assert [path.name[-1] for path in checkpoints.best_by(run, F1)] == ["3", "2", "5", "4"]
    best = json.loads((run.checkpoints / "best.json").read_text())
    assert best == {"checkpoint": "step-000003", "metric": "f1", "value": 0.9}


def test_the_diagnosis_says_highest_where_higher_is_better() -> None:
    rows: list[dict[str, Any]] = [{"step": 0, "loss": 2.0, "f1": None}]
    rows += [{"step": step, "loss": 1.0 / step, "f1": f1} for step, f1 in enumerate((0.2, 0.8, 0.4), start=1)]
    verdict = diagnose(rows, F1, None, "step-000002")
    assert verdict.why == (
        "its validation f1 0.8000 is the highest of 3 (the loss was lowest at step 3, where f1 was 0.4000)"
    )


def test_a_workspace_elsewhere_is_trained_in(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is read and written below the workspace, and names its files as from within."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(there)
    split = make_split(Path())
    rows = (split / "train.jsonl").read_text()
    assert '"audio": "audio/' in rows
    Path("hard.yaml").write_text("gain: {probability: 1.0}\n")
    file = toy_recipe(
        split, tiny_folder, Path("toy.yaml"), examples={"augment": "hard.yaml"}, evaluation={"average": 2}
    )
    from_within = train(Workspace(), recipes.load("toy.yaml"), device="cpu")
    within = {kind: read_metrics(from_within.run.folder, kind) for kind in ("train", "eval")}
    record = json.loads((from_within.run.folder / "run_manifest.json").read_text())
    monkeypatch.chdir(here)
    workspace = Workspace(there)
    recipe = recipes.load(str(there / file), ["name=outside"])
    told = Silent()
    finished = train(workspace, recipe, told, device="cpu")
    assert finished.run.folder == there / "models/whisper/outside" and not list(here.iterdir())
    for kind in ("train", "eval"):
        rows_of = read_metrics(finished.run.folder, kind)
        assert [row["loss"] for row in rows_of] == [row["loss"] for row in within[kind]]
    other = json.loads((finished.run.folder / "run_manifest.json").read_text())
    assert other["data"] == record["data"] and other["data"]["toy/train"]["path"] == "manifests/splits/toy/train.jsonl"
    assert (there / "logs/training/outside.log").exists()
