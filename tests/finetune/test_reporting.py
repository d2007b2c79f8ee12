"""What a run says while it goes on (O11, O12, O15)."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from conftest import recipe_of, trained

Run = Callable[..., subprocess.CompletedProcess[str]]


FINETUNE = {"clips_per_step": 4, "epochs": 2, "lr": 1e-3, "precision": "fp32", "loader_workers": 0}


def test_a_log_moves_between_evaluations(workspace: Path, tiny_folder: Path, govor: Run) -> None:
    file = recipe_of(workspace, tiny_folder, finetune={**FINETUNE, "epochs": 20}, evaluation={"evaluations": 1})
    done = govor("train", file, "--device", "cpu")
    lines = [line for line in done.stderr.splitlines() if line.startswith("step ") and " of 60" in line]
    assert 10 <= len(lines) <= 25 and all("loss " in line and "left " in line for line in lines[1:])


def test_a_phase_may_be_called_what_looks_like_markup(workspace: Path, tiny_folder: Path, govor: Run) -> None:
    phases = [{"name": "[/x]", "epochs": 1}, {"name": "[live] a", "epochs": 1}]
    file = recipe_of(workspace, tiny_folder, finetune={**FINETUNE, "phases": phases})
    done = govor("train", file, "--device", "cpu")
    assert "phase [/x]: steps 1 to 3" in done.stderr and "phase [live] a" in done.stderr


def test_the_log_has_memory_and_utilisation_without_a_gpu(workspace: Path, tiny_folder: Path) -> None:
    trained(recipe_of(workspace, tiny_folder))
    rows = [json.loads(line) for line in Path("logs/training/toy.log").read_text().splitlines()]
    steps = [row for row in rows if row["message"] == "step"]
    assert steps and all(row["gpu_utilization"] is None and row["memory"] is None for row in steps)
