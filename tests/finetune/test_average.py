"""Averages of checkpoints: of the best, and never in place of something better."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Silent, make_split, toy_recipe
from govor import recipe as recipes
from govor.corpus.manifests import Manifest, write_clips
from govor.errors import GovorError
from govor.finetune.average import average_run
from govor.finetune.train import train
from govor.finetune.validation import Validation
from govor.package.build import package
from govor.runs import Workspace


def settings_of(workspace: Path, base: Path, **sections: Any) -> str:
    return str(toy_recipe(make_split(workspace), base, workspace / "toy.yaml", **sections))


@pytest.fixture
def losses_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the evaluations of a run give these losses."""

    def script(*losses: float) -> None:
        waiting = [9.0, *losses]
        monkeypatch.setattr(Validation, "measure", lambda *_, **__: {"loss": waiting.pop(0), "wer": None, "cer": None})

    return script


def test_an_average_takes_the_best_by_loss_and_no_others(workspace: Path, tiny_folder: Path, losses_of: Any) -> None:
    file = settings_of(workspace, tiny_folder, finetune={"epochs": 4}, evaluation={"evaluations": 12, "average": 5})
    losses_of(5, 4, 3, 2, 1, 1.1, 1.2, 1.3, 1.4, 6, 7, 8, 0.5)
    finished = train(Workspace(), recipes.load(file), Silent(), device="cpu")
    result = json.loads((finished.run.folder / "average.json").read_text())
    assert [member["checkpoint"] for member in result["members"]] == [f"step-{n:06d}" for n in (5, 6, 7, 8, 9)]
    diagnosis = json.loads((finished.run.folder / "diagnosis.json").read_text())
    assert diagnosis["checkpoint"] == "average-5"
    assert diagnosis["why"].startswith("the mean of 5 checkpoints has a validation loss of 0.5000, the best single")
    checks = package(finished.run, ["hf"], None)
    assert checks.checkpoint == "average-5"
    card = (finished.run.folder / "README.md").read_text()
    assert "the mean of several checkpoints was taken: step-000005" in card
    package(finished.run, ["hf"], "step-000006", overwrite=True)
    assert "step-000006 was taken by hand" in (finished.run.folder / "README.md").read_text()


def test_averaging_later_takes_what_is_kept_and_never_unships_a_better_one(
    workspace: Path, tiny_folder: Path, losses_of: Any
) -> None:
    file = settings_of(workspace, tiny_folder, finetune={"epochs": 2}, evaluation={"evaluations": 6})
    losses_of(5, 4, 3, 2, 2.5, 2.6, 1.0, 1.5)
    run = train(Workspace(), recipes.load(file), Silent(), device="cpu").run
    told = Silent()
    assert average_run(run, 5, "cpu", told)["shipped"] == "average-3"
    assert any("5 were asked for, and the best 3 by loss are kept" in text for text in told.notes)
    assert average_run(run, 2, "cpu", told)["shipped"] == "average-3", "1.5 is worse than 1.0"
    assert json.loads((run.checkpoints / "best.json").read_text()) == {
        "checkpoint": "average-3",
        "metric": "loss",
        "value": 1.0,
    }
    assert json.loads((run.folder / "diagnosis.json").read_text())["checkpoint"] == "average-3"
    split = Path(recipes.load(file).data.split or "")
    write_clips(split / "validation.jsonl", list(Manifest(split / "validation.jsonl"))[:2])
    with pytest.raises(GovorError, match="is not the manifest that toy was trained on"):
        average_run(run, 3, "cpu", told)
