"""A run that was killed, a disk that is full, two processes: the curve is the same, nothing whole is lost."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import TORCHRUN, Started, Zygote, make_split, read_metrics, toy_recipe

SETTINGS = {
    "clips_per_step": 4,
    "epochs": 8,
    "max_batch_audio_seconds": 4.0,
    "dropout": 0.1,
    "loader_workers": 2,
    "lr": 1e-3,
    "precision": "fp32",
}
EVALUATIONS = {"evaluations": 2, "keep_best": 1}


Start = Callable[..., Started]


@pytest.fixture
def start(workspace: Path, zygote: Zygote) -> Start:
    """Starts a training in a process group of its own."""

    def run(*arguments: str) -> Started:
        return zygote.start(["train", *arguments, "--device", "cpu"], workspace, {})

    return run


def losses(run: Path) -> list[tuple[object, object]]:
    return [(row["step"], row["loss"]) for row in read_metrics(run, "train")]


def written_steps(metrics: Path) -> list[int]:
    """Steps of the whole lines of a file that is being written."""
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def kill_between(start: Start, workspace: Path, recipe: str, first: int, last: int) -> Path:
    """Start a run and SIGKILL it after `first` and before `last` steps; a machine that was too busy tries again."""
    metrics = workspace / "models/whisper/killed/metrics.jsonl"
    for _ in range(5):
        shutil.rmtree(metrics.parent, ignore_errors=True)
        process = start(recipe, "--set", "name=killed")
        while process.poll() is None and max(written_steps(metrics), default=0) < first:
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
        if first <= max(written_steps(metrics), default=0) < last:
            return metrics
    raise AssertionError("the run was never caught between two checkpoints")


# Silence is made anew at step 10, the checkpoint lies at step 12: it must hold what was made.
CACHED = {"context": "cached", "contexts": {"speech": 0.4, "cached": 0.6}, "silence_steps": 5}


@pytest.mark.parametrize("examples", [{}, CACHED], ids=["speech", "cached"])
def test_resume_after_sigkill_gives_bit_equal_losses(
    workspace: Path, tiny_folder: Path, start: Start, examples: dict[str, object]
) -> None:
    split = make_split(workspace)
    sections: dict[str, dict[str, object]] = {"finetune": SETTINGS, "evaluation": EVALUATIONS, "examples": examples}
    recipe = str(toy_recipe(split, tiny_folder, workspace / "toy.yaml", **sections))
    metrics = kill_between(start, workspace, recipe, 14, 23)
    assert [path.name for path in (metrics.parent / "checkpoints").glob("step-*")] == ["step-000012"]
    whole = start(recipe, "--set", "name=whole")
    (metrics.parent / "checkpoints/best.json").unlink()  # as if killed between saving and noting which is best
    assert whole.wait(300) == 0, whole.files["stderr"].read_text()
    resumed = start(recipe, "--set", "name=killed", "--resume")
    assert resumed.wait(300) == 0, resumed.files["stderr"].read_text()
    assert losses(workspace / "models/whisper/killed") == losses(workspace / "models/whisper/whole")
    assert [step for step, _ in losses(workspace / "models/whisper/killed")] == list(range(1, 25))
    evals = [
        [(row["step"], row["loss"]) for row in read_metrics(workspace / f"models/whisper/{name}", "eval")]
        for name in ("whole", "killed")
    ]
    assert evals[0] == evals[1]


def test_a_full_disk_leaves_the_previous_checkpoint_whole(workspace: Path, tiny_folder: Path, zygote: Zygote) -> None:
    split = make_split(workspace)
    recipe = str(toy_recipe(split, tiny_folder, workspace / "toy.yaml", evaluation={"evaluations": 3}))
    code = (
        "import resource, sys\n"
        "from govor.finetune import checkpoints\n"
        "plain = checkpoints.save\n"
        "def save(folder, module, optimizer, state, *rest):\n"
        "    if state.step > 2:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "    return plain(folder, module, optimizer, state, *rest)\n"
        "checkpoints.save = save\n"
        "from govor.cli import main\n"
        "main()\n"
    )
    done = zygote.run(["train", recipe, "--device", "cpu"], workspace, {}, code)
    assert done.returncode == 2, done.stderr
    assert "Cannot write the checkpoint of step 4" in done.stderr and "Traceback" not in done.stderr
    folder = workspace / "models/whisper/toy/checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best.json", "step-000002"]
    size = (folder / "step-000002/model.safetensors").stat().st_size
    assert size > 200_000, "the limit would have cut it"
    from govor.families.opening import load_checkpoint
    from govor.runs import Run

    load_checkpoint(Run(workspace / "models/whisper/toy"), folder / "step-000002")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000


def test_two_processes_give_the_loss_of_one(
    workspace: Path, tiny_folder: Path, zygote: Zygote, govor: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The two as users start them."""
    split = make_split(workspace)
    settings = {**SETTINGS, "dropout": 0.0, "clips_per_step": 6, "loader_workers": 0}
    recipe = str(
        toy_recipe(
            split,
            tiny_folder,
            workspace / "toy.yaml",
            finetune=settings,
            evaluation={"evaluations": 2, "decode_clips": 4},
        )
    )
    govor("train", recipe, "--set", "name=one", "--device", "cpu")
    torchrun = ["--standalone", "--nproc-per-node", "2", "-m", "govor", "train", recipe, "--set", "name=two"]
    done = zygote.run([*torchrun, "--device", "cpu"], workspace, {}, TORCHRUN)
    assert done.returncode == 0, done.stderr
    record = json.loads((workspace / "models/whisper/two/run_manifest.json").read_text())
    assert record["devices"] == 2, "two processes really took part"
    first, second = (read_metrics(workspace / f"models/whisper/{name}", "train") for name in ("one", "two"))
    assert [row["tokens"] for row in first] == [row["tokens"] for row in second]
    assert [row["loss"] for row in first] == pytest.approx([row["loss"] for row in second], rel=2e-4)
    assert first[0]["loss"] == pytest.approx(second[0]["loss"], rel=1e-6)
    evals = [read_metrics(workspace / f"models/whisper/{name}", "eval")[-1] for name in ("one", "two")]
    assert evals[0]["loss"] == pytest.approx(evals[1]["loss"], rel=1e-3)


def test_tokens_are_unequal_between_the_two_ranks(workspace: Path) -> None:
    from govor.corpus.manifests import Manifest
    from govor.examples.batching import Plan
    from govor.examples.dataset import TrainingSource
    from govor.families.whisper.tiny import tiny

    split = make_split(workspace)
    source = TrainingSource([Manifest(split / "train.jsonl")], tiny().renderer, 0)
    plan = Plan(source, 0, 6, 4.0, world_size=2)
    texts = [
        [sum(len(spec.clip.transcript) for batch in plan.step(step, rank) for spec in batch.specs) for rank in range(2)]
        for step in range(16)
    ]
    assert any(left != right for left, right in texts)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--set", "finetune.lr=2e-3"], r"another recipe \(finetune.lr: 0.001 → 0.002\)"),
        ([], "have changed since"),
    ],
)
def test_resume_refuses_another_recipe_or_other_data(
    workspace: Path, tiny_folder: Path, start: Start, change: list[str], sentence: str
) -> None:
    split = make_split(workspace)
    recipe = str(toy_recipe(split, tiny_folder, workspace / "toy.yaml"))
    assert start(recipe).wait(300) == 0
    if not change:
        manifest = split / "train.jsonl"
        manifest.write_text(manifest.read_text().replace('"sol', '"SOL'))
    again = start(recipe, "--resume", *change)
    stderr = again.communicate(300)[1]
    assert again.returncode == 2 and re.search(sentence, stderr), stderr


def ranks(zygote: Zygote, workspace: Path, arguments: list[str], code: str, **extra: str) -> str:
    """What two processes that train together wrote to stderr; they get what `torchrun` gives them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", **extra}
    both = [
        zygote.start(arguments, workspace, {**together, "RANK": rank, "LOCAL_RANK": rank}, code) for rank in ("0", "1")
    ]
    said = "".join(process.communicate(300)[1] for process in both)
    assert [process.returncode for process in both] == [0, 0], said
    return said


def test_two_processes_halve_together_when_one_runs_out_of_memory(
    workspace: Path, tiny_folder: Path, zygote: Zygote
) -> None:
    split = make_split(workspace)
    settings = {**SETTINGS, "dropout": 0.0, "clips_per_step": 8, "loader_workers": 0, "max_batch_audio_seconds": 100.0}
    file = toy_recipe(
        split, tiny_folder, workspace / "toy.yaml", finetune={**settings, "max_steps": 3}, evaluation=EVALUATIONS
    )
    code = (
        "import os, torch\n"
        "from govor.families.whisper.model import Whisper\n"
        "plain = Whisper.loss\n"
        "def small(self, batch, **options):\n"
        "    if os.environ['RANK'] == '1' and self.module.training and len(batch['mels']) > 1:\n"
        "        raise torch.OutOfMemoryError('injected')\n"
        "    return plain(self, batch, **options)\n"
        "if os.environ.get('SMALL'):\n"
        "    Whisper.loss = small\n"
        "from govor.cli import main\n"
        "main()\n"
    )
    for name, small in (("roomy", ""), ("tight", "1")):
        arguments = ["train", str(file), "--device", "cpu", "--set", f"name={name}"]
        said = ranks(zygote, workspace, arguments, code, SMALL=small)
    roomy, tight = (read_metrics(workspace / f"models/whisper/{name}", "train") for name in ("roomy", "tight"))
    assert [row["loss"] for row in roomy] == pytest.approx([row["loss"] for row in tight], rel=2e-4)
    assert [row["tokens"] for row in roomy] == [row["tokens"] for row in tight], "the effective batch is kept"
    record = json.loads((workspace / "models/whisper/tight/run_manifest.json").read_text())
    assert record["memory_halvings"] >= 1
    assert "expandable_segments" in said
