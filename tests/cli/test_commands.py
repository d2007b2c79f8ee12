"""The commands as a user runs them: a chain through files, and one clear sentence for every bad input."""

import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from conftest import make_corpus, make_split, speech, toy_recipe

Govor = Callable[..., Any]


def sentence(done: Any) -> str:
    """The one sentence of a refused command."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("govor: ")]
    return str(line)


def test_the_whole_chain_through_files(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    make_corpus(workspace / "rec", 40, speakers=10)
    govor("inventory", "rec", "--language", "en", "--license", "own")
    assert (workspace / "manifests/dataset_inventory.csv").read_text().count("\n") == 41
    govor("validate", "manifests/dataset_inventory.jsonl")
    govor("normalize", "manifests/kept.jsonl")
    proof = json.loads(govor("split", "manifests/normalized.jsonl", "--name", "mine", "--json").stdout)
    assert not any(count for pairs in proof["overlaps"].values() for count in pairs.values())
    recipe = toy_recipe(Path("manifests/splits/mine"), tiny_folder, workspace / "toy.yaml", finetune={"epochs": 3})
    trained = govor("train", recipe, "--json")
    assert json.loads(trained.stdout)["best_checkpoint"].startswith("step-")
    assert "next  govor evaluate models/whisper/toy" in trained.stderr
    test = "manifests/splits/mine/test.jsonl"
    govor("evaluate", tiny_folder, "--manifest", test)
    scored = json.loads(govor("evaluate", "models/whisper/toy", "--manifest", test, "--json").stdout)
    assert [summary["context"] for summary in scored] == ["padded", "speech"]
    for context in ("padded", "speech"):
        a, b = (f"manifests/evals/{model}__mine-test__{context}.json" for model in ("tiny", "toy"))
        compared = govor("compare", a, b)
    assert "paired p" in compared.stdout and "govor report toy" in compared.stderr
    govor("report", "toy")
    page = (workspace / "reports/toy/index.html").read_text()
    assert page.count("<article") == len(Path(workspace / test).read_text().splitlines())
    assert len(list((workspace / "reports/toy/audio").iterdir())) == page.count("<article")
    assert "Learning curves" in page and "://" not in page, "it opens from disk"
    govor("package", "toy", "--format", "hf,ct2")
    clip = json.loads((workspace / test).read_text().splitlines()[0])["audio"]
    spoken = govor("transcribe", "models/whisper/toy", clip, "--format", "json")
    assert json.loads(spoken.stdout)["model"] == "toy"
    assert govor("transcribe", "models/whisper/toy", clip, "--engine", "ct2").returncode == 0
    again = govor("package", "toy", expect=2)
    assert "already exists" in again.stderr


def test_a_long_recording_is_transcribed_in_windows(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    soundfile.write(workspace / "long.flac", np.tile(speech(["sol", "mar"], seconds=1.0), 65), 16_000)
    pieces = json.loads(govor("transcribe", tiny_folder, "long.flac", "--language", "en", "--format", "json").stdout)[
        "pieces"
    ]
    assert len(pieces) >= 3 and pieces[0]["start"] == 0 and pieces[-1]["end"] == pytest.approx(65, abs=0.01)
    assert all(a["end"] == b["start"] for a, b in itertools.pairwise(pieces))


def test_fast_dev_run_makes_a_checkpoint_and_metrics(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    govor(
        "train",
        toy_recipe(split, tiny_folder, workspace / "toy.yaml", finetune={"epochs": 500}),
        "--fast-dev-run",
    )
    run = workspace / "models/whisper/toy-dev"
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-000002"]
    assert json.loads((run / "metrics.json").read_text())["total_steps"] == 2


def test_overlap_that_was_allowed_marks_the_proof_and_ends_with_1(govor: Govor, workspace: Path) -> None:
    make_corpus(workspace / "rec", 20, speakers=4)
    govor("manifest", "rec", "--language", "en", "--speaker", "anna")
    assert "--allow-overlap speaker" in sentence(govor("split", "manifests/rec.jsonl", expect=None))
    govor("split", "manifests/rec.jsonl", "--allow-overlap", "speaker", expect=1)
    proof = json.loads((workspace / "manifests/splits/rec/proof.json").read_text())
    assert proof["allowed_overlaps"] == ["speaker"] and proof["overlaps"]["speaker"]["train/test"] == 1


def test_the_workspace_option(govor: Govor, workspace: Path) -> None:
    make_corpus(workspace / "elsewhere" / "rec", 4)
    govor("--workspace", "elsewhere", "manifest", "rec", "--language", "en")
    assert (workspace / "elsewhere/manifests/rec.jsonl").exists()
    assert "cannot be entered" in sentence(govor("--workspace", "nowhere", "inventory", "rec", expect=None))


def test_missing_files(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    assert "gone.wav was not found" in sentence(govor("transcribe", tiny_folder, "gone.wav", expect=None))
    assert "gone.jsonl was not found" in sentence(govor("validate", "gone.jsonl", expect=None))
    assert "gone.jsonl was not found" in sentence(
        govor("evaluate", tiny_folder, "--manifest", "gone.jsonl", expect=None)
    )
    assert "folder gone was not found" in sentence(govor("inventory", "gone", expect=None))
    assert "'gone' was not found" in sentence(govor("transcribe", "gone", _clip(workspace), expect=None))
    assert "train.jsonl was not found" in sentence(govor("train", "whisper", "--set", "data.split=gone", expect=None))
    assert "no recipe 'gone'" in sentence(govor("train", "gone", expect=None))
    assert "no run 'gone'" in sentence(govor("report", "gone", expect=None))


def _clip(folder: Path, name: str = "a.wav") -> Path:
    path = folder / name
    soundfile.write(path, speech(["sol", "mar"], seconds=1.0), 16_000)
    return path


def test_files_that_are_no_audio(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    (workspace / "text.wav").write_text("no audio at all")
    (workspace / "zero.wav").write_bytes(b"")
    assert "text.wav is not audio that can be read" in sentence(
        govor("transcribe", tiny_folder, "text.wav", expect=None)
    )
    assert "zero.wav is empty" in sentence(govor("transcribe", tiny_folder, "zero.wav", expect=None))
    _clip(workspace)
    both = govor("transcribe", tiny_folder, "a.wav", "text.wav", "--language", "en", expect=1)
    assert "a.wav\t" in both.stdout and "text.wav is not audio" in both.stderr


def test_a_truncated_mp3_is_dropped_with_its_reason_and_the_rest_is_kept(govor: Govor, workspace: Path) -> None:
    folder = make_corpus(workspace / "rec", 5)
    path = folder / "cut.mp3"
    soundfile.write(path, np.tile(speech(["sol"], seconds=1.0), 8), 16_000)
    path.with_suffix(".txt").write_text("sol")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    govor("inventory", "rec", "--language", "en")
    done = govor("validate", "manifests/dataset_inventory.jsonl", expect=1)
    assert re.search(r"kept rows\s+5", done.stdout)
    (row,) = [json.loads(line) for line in (workspace / "manifests/dropped.jsonl").read_text().splitlines()]
    assert row["rule"] == "truncated" and row["measured"] < row["limit"]


def test_empty_transcripts_and_nothing_usable(govor: Govor, workspace: Path) -> None:
    (workspace / "rec").mkdir()
    _clip(workspace / "rec")
    (workspace / "rec/a.txt").write_text(" \n")
    assert "1 empty_transcript" in sentence(govor("manifest", "rec", "--language", "en", expect=None))
    govor("inventory", "rec", "--language", "en")
    assert "None of the 1 rows can be used: 1 empty_transcript" in sentence(
        govor("validate", "manifests/dataset_inventory.jsonl", expect=None)
    )
    assert (workspace / "manifests/dropped.jsonl").exists(), "the reason is written"


def test_a_malformed_manifest_line_names_file_and_line(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    with (split / "train.jsonl").open("a") as handle:
        handle.write('{"id": "x", "audio": \n')
    recipe = toy_recipe(split, tiny_folder, workspace / "toy.yaml")
    assert "train.jsonl:13: the line is not valid JSON" in sentence(govor("train", recipe, expect=None))
    assert "train.jsonl:13" in sentence(govor("normalize", split / "train.jsonl", expect=None))


def test_unknown_and_contradictory_settings(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    recipe = toy_recipe(make_split(workspace), tiny_folder, workspace / "toy.yaml")
    assert "did you mean 'warmup_steps'" in sentence(govor("train", recipe, "--set", "finetune.warmup=3", expect=None))
    both = govor(
        "train",
        recipe,
        "--set",
        "examples.context=padded",
        "--set",
        "examples.full_length_share=0.5",
        expect=None,
    )
    assert "drop one of the two" in sentence(both)
    assert "give one of the two" in sentence(govor("train", recipe, "--resume", "--overwrite", expect=None))
    assert "no checkpoint to resume from" in sentence(govor("train", recipe, "--resume", expect=None))
    assert not (workspace / "models").exists() or not list((workspace / "models").rglob("*.safetensors"))


def test_existing_output_is_refused_and_untouched(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    recipe = toy_recipe(make_split(workspace), tiny_folder, workspace / "toy.yaml")
    govor("train", recipe)
    before = {path: path.stat().st_mtime_ns for path in (workspace / "models").rglob("*") if path.is_file()}
    assert "already exists; give --resume" in sentence(govor("train", recipe, expect=None))
    assert before == {path: path.stat().st_mtime_ns for path in (workspace / "models").rglob("*") if path.is_file()}
    govor("train", recipe, "--overwrite")


def test_a_folder_without_write_permission(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    """Root ignores permission bits, so a file stands where a folder is wanted; for others the bits are taken too."""
    recipe = toy_recipe(make_split(workspace), tiny_folder, workspace / "toy.yaml")
    (workspace / "models").write_text("in the way")
    assert "Cannot write" in sentence(govor("train", recipe, expect=None))
    if os.geteuid():
        (workspace / "models").unlink()
        workspace.chmod(0o500)
        found = govor("train", recipe, expect=None)
        workspace.chmod(0o700)
        assert "not permitted" in sentence(found)


def test_data_that_cannot_be_trained_on(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    recipe = toy_recipe(split, tiny_folder, workspace / "toy.yaml")
    original = (split / "train.jsonl").read_text()

    def with_first(**changes: object) -> str:
        first, rest = original.split("\n", 1)
        (split / "train.jsonl").write_text(json.dumps({**json.loads(first), **changes}) + "\n" + rest)
        return sentence(govor("train", recipe, "--overwrite", expect=None))

    assert "needs 606 tokens and Whisper's decoder holds 448" in with_first(transcript="x" * 600)
    assert "no token for language 'hbs'" in with_first(language="hbs")
    assert "longer than Whisper's window of 30 s" in with_first(duration=31.5)
    assert "empty transcript" in with_first(transcript=" ")
    (split / "train.jsonl").write_text("")
    assert "holds no clips" in sentence(govor("train", recipe, "--overwrite", expect=None))


def test_quickstart_on_own_recordings(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    make_corpus(workspace / "rec", 40, speakers=10)
    settings = [
        "--set",
        "finetune.epochs=3",
        "--set",
        "finetune.precision=fp32",
        "--set",
        "evaluation.decode_clips=4",
    ]
    done = govor("quickstart", "--audio", "rec", "--language", "en", "--base-model", tiny_folder, *settings)
    assert (
        "reports/quickstart-rec/index.html" in done.stdout and "reference" in done.stdout and "paired p" in done.stdout
    )
    again = govor("quickstart", "--audio", "rec", "--language", "en", "--base-model", tiny_folder, *settings)
    assert "reusing models/whisper/quickstart-rec" in again.stderr
    assert "give --language" in sentence(govor("quickstart", "--audio", "rec", expect=None))
    (workspace / "empty").mkdir()
    assert "at least 12 are needed" in sentence(
        govor("quickstart", "--audio", "empty", "--language", "en", expect=None)
    )
