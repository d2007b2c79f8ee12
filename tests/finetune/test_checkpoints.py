"""Which checkpoint is the best, and what counts where a metric has no value (O02, O04)."""

import json
from pathlib import Path

import pytest

from conftest import recipe_of, trained
from govor import runs
from govor.finetune import checkpoints
from govor.metrics.metric import LOSS, Metric


def checkpoint(folder: Path, step: int, **metrics: float | None) -> None:
    path = folder / f"step-{step:06d}"
    path.mkdir(parents=True)
    (path / "state.json").write_text(json.dumps({"step": step, "metrics": metrics, "data_sha256": ""}))


def test_of_equal_metrics_the_lower_loss_is_best(tmp_path: Path) -> None:
    run = runs.Run(tmp_path)
    for step, (wer, loss) in enumerate(
        [(0.5, 1.0), (0.4, 0.9), (0.4, 0.7), (0.4, 0.7), (0.6, 0.5), (None, 0.1)], start=1
    ):
        checkpoint(run.checkpoints, step, wer=wer, loss=loss)
    assert [path.name[-1] for path in checkpoints.best_by(run, Metric("wer", "lower"))] == [
        "3",
        "4",
        "2",
        "1",
        "5",
        "6",
    ]


def test_a_metric_that_is_never_measured_is_said(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from govor.finetune.validation import Validation

    monkeypatch.setattr(Validation, "_rates", lambda *_: {"wer": None, "cer": None})
    file = recipe_of(workspace, tiny_folder, evaluation={"metric": "wer", "decode_clips": 2})
    run, told = trained(file)
    said = [note for note in told.notes if "wer could not be measured" in note]
    assert len(said) == 1 and "ranked by loss" in said[0]
    best = json.loads((run / "checkpoints/best.json").read_text())["checkpoint"]
    assert best == checkpoints.best_by(runs.Run(run), LOSS)[0].name
