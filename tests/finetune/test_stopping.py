"""Runs that are stopped from outside: a signal saves, says how to go on, and changes nothing (T14, T15)."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from conftest import TORCHRUN, Silent, Zygote, read_metrics, recipe_of, trained
from govor import recipe as recipes
from govor import runs
from govor.finetune.train import train

Run = Callable[..., subprocess.CompletedProcess[str]]
FINETUNE = {"clips_per_step": 4, "epochs": 2, "lr": 1e-3, "precision": "fp32", "loader_workers": 0}


def written(metrics: Path) -> int:
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


LONG: dict[str, object] = {**FINETUNE, "epochs": 200, "loader_workers": 1, "dropout": 0.1}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_saves_and_says_how_to_go_on(
    workspace: Path, tiny_folder: Path, govor: Run, zygote: Zygote, name: str
) -> None:
    file = recipe_of(workspace, tiny_folder, finetune=LONG, evaluation={"evaluations": 2})
    run = workspace / "models/whisper/toy"
    words = ["train", file.name, "--set", "name=toy", "--overwrite", "--device", "cpu"]
    process = zygote.start(words, workspace, {})
    while process.poll() is None and written(run / "metrics.jsonl") < 4:
        time.sleep(0.01)
    os.killpg(process.pid, getattr(signal, name))  # the loader's workers hear it too
    _, err = process.communicate(120)
    assert process.returncode == 128 + getattr(signal, name), err
    assert "Traceback" not in err and f"{name}: finishing the step" in err
    (saved,) = runs.Run(run).whole_checkpoints()
    step = int(saved.name.removeprefix("step-"))
    assert step == written(run / "metrics.jsonl") and step < 300
    last = err.splitlines()[-1]
    assert last == (
        f"govor: {name}: models/whisper/toy is saved after step {step}; go on with: govor train toy.yaml --set name=toy "
        "--device cpu --resume"
    )
    if name == "SIGTERM":
        more = ["--set", f"finetune.max_steps={step + 3}"]
        govor(*last.partition("govor train")[2].split()[:0], "train", "toy.yaml", "--set", "name=toy", "--device", "cpu",
              "--resume-changed", *more)  # fmt: skip
        assert [row["step"] for row in read_metrics(run, "train")] == list(range(1, step + 4))
        assert all(
            json.loads((path / "state.json").read_text())["metrics"] for path in runs.Run(run).whole_checkpoints()
        )


def test_a_second_signal_ends_at_once(workspace: Path, tiny_folder: Path, zygote: Zygote) -> None:
    file = recipe_of(workspace, tiny_folder, finetune=LONG)
    code = (
        "import time\nfrom govor.finetune import checkpoints\n"
        "checkpoints.save = lambda *a, **k: time.sleep(60)\n"
        "from govor.cli import main\nmain()\n"
    )
    process = zygote.start(["train", str(file), "--device", "cpu"], workspace, {}, code)
    while process.poll() is None and written(workspace / "models/whisper/toy/metrics.jsonl") < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None, "it is saving"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143


def test_an_interrupted_run_is_the_run_that_was_not(workspace: Path, tiny_folder: Path) -> None:
    """Stopped between evaluations, and at a step that was to be evaluated: the same losses, figures and checkpoints."""
    settings: dict[str, object] = {**FINETUNE, "epochs": 4, "dropout": 0.1}
    file = recipe_of(workspace, tiny_folder, finetune=settings, evaluation={"evaluations": 3})
    whole, _ = trained(file, "name=whole")

    class Interrupting(Silent):
        at: ClassVar[int] = 0

        def step(self, record: Any, total_steps: int) -> None:
            if record.step == self.at:
                os.kill(os.getpid(), signal.SIGTERM)

    from govor.finetune.stopping import Interrupted

    for at in (3, 8):
        Interrupting.at = at
        with pytest.raises(Interrupted, match=f"is saved after step {at}") as caught:
            train(runs.Workspace(), recipes.load(str(file), ["name=cut"]), Interrupting(), device="cpu", resume=at == 8)
        assert caught.value.exit_code == 143
    cut, _ = trained(file, "name=cut", resume=True)
    for kind in ("train", "eval"):
        rows = [[(row["step"], row["loss"]) for row in read_metrics(run, kind)] for run in (whole, cut)]
        assert rows[0] == rows[1]
    names = [[path.name for path in runs.Run(run).whole_checkpoints()] for run in (whole, cut)]
    assert names[0] == names[1]


def test_ignored_signals_stay_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    from govor.finetune.stopping import Stop

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
    try:
        with Stop():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_two_processes_stop_together(workspace: Path, tiny_folder: Path, zygote: Zygote) -> None:
    file = recipe_of(workspace, tiny_folder, finetune={**LONG, "clips_per_step": 4}, evaluation={"evaluations": 2})
    run = workspace / "models/whisper/toy"
    torchrun = ["--standalone", "--nproc-per-node", "2", "-m", "govor", "train", file.name, "--device", "cpu"]
    process = zygote.start(torchrun, workspace, {}, TORCHRUN)
    while process.poll() is None and written(run / "metrics.jsonl") < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # to the launcher, which sends it on
    _, err = process.communicate(120)
    (saved,) = runs.Run(run).whole_checkpoints()
    step = int(saved.name.removeprefix("step-"))
    assert step == written(run / "metrics.jsonl")
    assert f"is saved after step {step}; go on with: govor train toy.yaml --device cpu --resume" in err


# ---- ranks, notes, logs (O02, O04, O11, O12, O15)
