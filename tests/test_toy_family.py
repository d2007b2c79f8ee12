"""A family that transcribes nothing goes the whole way by the ordinary commands: adding one is a folder and a line.

The family is `toy_family`: it hears whether a tone is low or high, and more macro F1 is better.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import yaml

from conftest import Zygote, read_metrics
from govor.jsons import read_json
from toy_family.tiny import CLASSES, tiny, tone

Govor = Callable[..., "subprocess.CompletedProcess[str]"]
STEPS, EVERY = 300, 30
KNOWING_IT = (
    "from govor.families import registry; registry.register('tone', 'toy_family'); from govor.cli import main; main()"
)


@pytest.fixture
def tones(workspace: Path) -> Path:
    """Recordings of 12 players with a label each and no words, and an untrained classifier."""
    rows = []
    for number in range(120):
        label = CLASSES[number % 2]
        file = Path("uploads") / f"tone{number:03d}.wav"
        file.parent.mkdir(exist_ok=True)
        soundfile.write(file, tone(label, 0.6 + 0.002 * number, seed=number), 16_000)
        seconds = soundfile.info(file).duration
        about = {"id": file.stem, "audio": str(file), "duration": seconds, "language": "cs"}
        labels = {"tone": label, "timbre": CLASSES[number % 2 == 0]}
        rows.append({**about, "labels": labels, "speaker": f"p{number % 12}", "license": "own"})
    manifest = workspace / "tones.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny(seed=1).save(workspace / "base")
    return manifest


@pytest.fixture
def command(workspace: Path, zygote: Zygote) -> Govor:
    """govor in a process of its own, that knows the family."""

    def run(*arguments: object, expect: int | None = 0) -> "subprocess.CompletedProcess[str]":
        done = zygote.run(arguments, workspace, {}, KNOWING_IT)
        assert expect is None or done.returncode == expect, f"govor {arguments}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def recipe(workspace: Path, **evaluation: object) -> Path:
    file = workspace / "tone.yaml"
    values = {
        "name": "tone-1",
        "family": "tone",
        "base_model": "base",
        "data": {"split": "manifests/splits/tones"},
        "finetune": {
            "clips_per_step": 8,
            "max_steps": STEPS,
            "epochs": 1000,
            "lr": 3e-3,
            "warmup_steps": 5,
            "loader_workers": 0,
            "precision": "fp32",
        },
        "evaluation": {
            "evaluations": STEPS // EVERY,
            "metric": "macro_f1",
            "decode_clips": 16,
            "loss_clips": 16,
            **evaluation,
        },
        "acceptance": {"macro_f1": 0.8},
    }
    file.write_text(yaml.safe_dump(values))
    return file


def killed(workspace: Path, zygote: Zygote, file: Path) -> None:
    """Train until some checkpoints are there, then SIGKILL."""
    run = workspace / "models/tone/tone-1"
    for _ in range(5):
        shutil.rmtree(run, ignore_errors=True)
        process = zygote.start(["train", file], workspace, {}, KNOWING_IT)
        while process.poll() is None and len(list(run.glob("checkpoints/step-*"))) < 2:
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
            return
    raise AssertionError("the run was never caught in the middle")


def test_a_classifier_goes_the_whole_way(workspace: Path, zygote: Zygote, tones: Path, command: Govor) -> None:
    command("validate", tones)
    done = command("split", "manifests/kept.jsonl", "--name", "tones")
    assert "govor train RECIPE.yaml --set data.split=manifests/splits/tones" in done.stderr, (
        "no shipped recipe is for it"
    )
    file, run = recipe(workspace, patience=3, average=2), workspace / "models/tone/tone-1"

    killed(workspace, zygote, file)
    assert not (run / "run_manifest.json").exists()
    before = len(read_metrics(run, "eval"))
    resumed = command("train", file, "--resume")
    assert "resuming after step" in resumed.stderr
    evaluations = [row for row in read_metrics(run, "eval") if row["step"]]
    assert len(evaluations) >= before - 1

    # Higher is better: the best checkpoint has the highest F1, and training stopped once no higher one came.
    best = max(row["macro_f1"] for row in evaluations)
    result = read_json(run / "metrics.json")
    assert result["metric"] == "macro_f1" and result["metrics"]["macro_f1"] == best > 0.9
    assert evaluations[-1]["step"] < STEPS and "stopped at step" in resumed.stderr, "early stopping by its own metric"
    assert "highest" in json.dumps(read_json(run / "diagnosis.json")) or best == 1.0
    members = read_json(run / "average.json")["members"]
    assert len(members) == 2

    test = "manifests/splits/tones/test.jsonl"
    assert "macro_f1" in command("evaluate", "base", "--manifest", test, "--json").stdout
    scored = json.loads(command("evaluate", run, "--manifest", test, "--json").stdout)[0]
    assert scored["task"] == "audio-classification" and scored["macro_f1"] > 0.9 and "wer" not in scored
    evals = workspace / "manifests/evals"
    compared = command("compare", evals / "base__tones-test__speech.json", evals / "tone-1__tones-test__speech.json")
    assert "macro f1" in compared.stdout and "B is better" in compared.stdout and "WER" not in compared.stdout

    accepted = json.loads(command("accept", "tone-1", "--json").stdout)
    assert accepted["accepted"] is True and accepted["gates"][0]["gate"] == "macro_f1"
    refused = json.loads(
        command("accept", "tone-1", "--set", "macro_f1=1", "--set", "macro_f1_lower=1", "--json", expect=None).stdout
    )
    assert refused["gates"][0]["measured"] == scored["macro_f1"]

    done = command("package", "tone-1")
    assert "govor evaluate models/tone/tone-1 --manifest TEST.jsonl" in done.stderr and "transcribe" not in done.stderr
    package = read_json(run / "package.json")
    assert package["formats"] == ["safetensors"] and package["checks"]["safetensors"]["clips"] > 0
    card = (run / "README.md").read_text()
    assert "audio-classification" in card and "library_name" not in card and "audio context:" not in card
    command("report", "tone-1")
    page = (workspace / "reports/tone-1/index.html").read_text()
    assert "macro" in page and "WER" not in page


def test_a_setting_of_its_own_reaches_it(workspace: Path, tones: Path, command: Govor) -> None:
    command("split", tones, "--name", "tones")
    file, run = recipe(workspace), workspace / "models/tone/tone-1"
    refused = command("train", file, "--set", "examples.label=colour", expect=2)
    assert "has no label 'colour'" in refused.stderr and not run.exists()

    command(
        "train",
        file,
        "--set",
        "examples.label=timbre",
        "--set",
        "finetune.max_steps=60",
        "--set",
        "evaluation.evaluations=1",
    )
    assert read_json(run / "base/config.json")["label"] == "timbre" and read_json(workspace / "base/config.json") == {
        **read_json(run / "base/config.json"),
        "label": "tone",
    }
    command("package", "tone-1")
    test = "manifests/splits/tones/test.jsonl"
    (scored,) = json.loads(command("evaluate", run, "--manifest", test, "--json").stdout)
    rows = [json.loads(line) for line in (workspace / test).read_text().splitlines()]
    answers = workspace / "manifests/evals/tone-1__tones-test__speech.clips.jsonl"
    references = {row["id"]: row["reference"] for row in map(json.loads, answers.read_text().splitlines())}
    assert references == {row["id"]: row["labels"]["timbre"] for row in rows} and scored["macro_f1"] > 0.9


def test_a_run_that_goes_on_for_another_label_is_of_that_one(
    workspace: Path, zygote: Zygote, tones: Path, command: Govor
) -> None:
    command("split", tones, "--name", "tones")
    file, base = recipe(workspace), workspace / "models/tone/tone-1/base/config.json"
    killed(workspace, zygote, file)
    assert read_json(base)["label"] == "tone"
    command("train", file, "--resume-changed", "--set", "examples.label=timbre")
    assert read_json(base)["label"] == "timbre"


def test_adapters_are_trained_on_a_label_of_its_own(workspace: Path, tones: Path, command: Govor) -> None:
    command("split", tones, "--name", "tones")
    file, run = recipe(workspace), workspace / "models/tone/tone-1"
    changes = ["examples.label=timbre", "finetune.method=lora", "finetune.max_steps=40", "evaluation.evaluations=1"]
    command("train", file, *(part for change in changes for part in ("--set", change)))
    assert list(run.glob("checkpoints/*/adapter_model.safetensors"))
    command("package", "tone-1")
    assert read_json(run / "config.json")["label"] == "timbre"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "finetune.activation_checkpointing=true",
            "finetune.activation_checkpointing is set and the family tone has no",
        ),
        ("examples.context=padded", "examples.context is set and the family tone has no examples with it"),
        ("examples.context=cached", "examples.context is set and the family tone has no examples with it"),
        ("examples.contexts={speech: 0.5, padded: 0.5}", "examples.contexts.padded is set"),
        ("examples.contexts={speech: 0.5, cached: 0.5}", "examples.contexts.cached is set"),
        ("examples.full_length_share=0.5", "examples.full_length_share is set"),
    ],
)
def test_a_setting_that_it_lacks_is_refused_by_its_name(
    workspace: Path, tones: Path, command: Govor, setting: str, sentence: str
) -> None:
    command("split", tones, "--name", "tones")
    done = command("train", recipe(workspace), "--set", setting, expect=2)
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert not (workspace / "models/tone/tone-1").exists()


def test_what_it_cannot_do_is_one_sentence(workspace: Path, tones: Path, command: Govor) -> None:
    for arguments in (
        ("transcribe", "base", "uploads/tone000.wav"),
        ("evaluate", "base", "--hallucination"),
        ("align", tones, "--model", "base"),
        ("audit", tones, "--model", "base"),
        ("evaluate", "base", "--manifest", tones, "--engine", "ct2"),
    ):
        done = command(*arguments, expect=2)
        assert "Traceback" not in done.stderr and done.stderr.count("govor: ") == 1, done.stderr
        assert "govor package" not in done.stderr, "what is suggested is not refused"


def test_a_recogniser_refuses_rows_without_words(
    workspace: Path, tones: Path, tiny_folder: Path, command: Govor
) -> None:
    done = command("evaluate", tiny_folder, "--manifest", tones, expect=2)
    assert "transcript" in done.stderr
