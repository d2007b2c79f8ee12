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
    assert "<h2>Diagnosis: " in page and "Use <strong>step-" in page
    drawn = (workspace / "reports/toy/clips.js").read_text().splitlines()
    assert len(drawn) == 2 + len(Path(workspace / test).read_text().splitlines())
    assert len(list((workspace / "reports/toy/audio").iterdir())) == len(drawn) - 2
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
    run = workspace / "models/whisper/toy-fast-dev"
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


def test_nothing_but_a_report_is_replaced_by_a_report(govor: Govor, workspace: Path) -> None:
    from govor.corpus.manifests import write_rows
    from govor.jsons import write_json
    from govor.measure.headline import add_to_headline
    from govor.measure.scoring import write_eval
    from govor.metrics.recognition import with_counts
    from govor.runs import Workspace

    row = {"id": "a", "audio": "gone.wav", "duration": 1.0, "reference": "sol", "hypothesis": "mar"}
    write_rows(workspace / "m.jsonl", [{**row, "transcript": "sol", "language": "en"}])
    os.chdir(workspace)
    files = [Path("manifests/evals/x"), Path("manifests/evals/y")]
    for file in files:
        write_eval(
            Workspace(),
            file,
            with_counts([row]),
            {"model": file.name, "set": "m", "context": "speech"},
            Path("m.jsonl"),
        )
    add_to_headline(Workspace(), "toy", {"speech": (files[0].with_suffix(".json"), files[1].with_suffix(".json"))})
    write_json(Path("models/whisper/toy/metrics.json"), {})
    (workspace / "precious").mkdir()
    (workspace / "precious/thesis.txt").write_text("years of work")
    found = govor("report", "toy", "--out", "precious", "--overwrite", expect=None)
    assert "holds other things than a report" in sentence(found)
    assert (workspace / "precious/thesis.txt").exists()
    govor("report", "toy")
    govor("report", "toy", "--overwrite")
    assert '["a", null, 1.0,' in (workspace / "reports/toy/clips.js").read_text(), (
        "audio that is gone costs the clip nothing else"
    )


def test_an_old_run_gives_way_only_when_the_new_one_can_begin(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    recipe = toy_recipe(split, tiny_folder, workspace / "toy.yaml")
    govor("train", recipe)
    weights = workspace / "models/whisper/toy/checkpoints/step-000006/model.safetensors"
    assert weights.exists()
    assert "was not found" in sentence(govor("train", recipe, "--overwrite", "--set", "base_model=./gone", expect=None))
    next(iter((workspace / "audio").rglob("clip000.wav"))).rename(workspace / "moved.wav")
    found = sentence(govor("train", recipe, "--overwrite", expect=None))
    assert "audio of clip 'clip000' was not found" in found
    assert weights.exists()
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be read" in sentence(govor("transcribe", "models/whisper/toy", _clip(workspace), expect=None))
    # What failed before its first checkpoint is no run: the corrected call simply works.
    assert "was not found" in sentence(
        govor("train", recipe, "--set", "name=typo", "--set", "base_model=./gone", expect=None)
    )
    assert not (workspace / "models/whisper/typo").exists()


def test_parts_of_a_recording_are_parts_also_at_offset_0(govor: Govor, workspace: Path) -> None:
    import json as js

    soundfile.write(workspace / "long.wav", speech(["sol", "mar"] * 10), 16_000)
    rows = [
        {"audio_filepath": "long.wav", "text": "sol mar", "duration": 2.0, "offset": offset, "lang": "en", "id": name}
        for name, offset in (("a", 0), ("b", 2.0), ("c", 4))
    ]
    (workspace / "nemo.jsonl").write_text("".join(js.dumps(row) + "\n" for row in rows))
    govor("manifest", "nemo.jsonl", "--out", "m.jsonl")
    govor("validate", "m.jsonl", expect=None)
    kept = [js.loads(line) for line in (workspace / "manifests/kept.jsonl").read_text().splitlines()]
    assert [(row["offset"], row["duration"]) for row in kept] == [(0.0, 2.0), (2.0, 2.0), (4.0, 2.0)]
    from govor.corpus.manifests import read_clips
    from govor.corpus.samples import clip_samples

    os.chdir(workspace)
    assert [len(clip_samples(clip)) for clip in read_clips("manifests/kept.jsonl")] == [32_000] * 3


def test_a_clip_longer_than_its_manifest_says_is_not_cut_silently(workspace: Path) -> None:
    from govor.corpus.records import Clip
    from govor.corpus.samples import clip_samples
    from govor.errors import AudioError

    soundfile.write(workspace / "a.wav", speech(["sol"] * 10), 16_000)
    with pytest.raises(AudioError, match=r"'x' lasts 3.00 s and its manifest says 1.00 s"):
        clip_samples(Clip("x", "a.wav", "sol", 1.0, "en"))


def test_hostile_rows_are_dropped_with_their_reason(govor: Govor, workspace: Path) -> None:
    _clip(workspace)
    good = {"id": 7, "audio": "a.wav", "transcript": "sol mar", "duration": 1.0, "language": "en"}
    bad = [
        {**good, "id": "b", "offset": "1.0"},
        {**good, "id": "c", "audio": "a\u0000.wav"},
        {**good, "id": "d", "transcript": "\ud83d"},
        {"id": "e"},
    ]
    (workspace / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [good, *bad]))
    govor("validate", "m.jsonl", expect=1)
    dropped = [json.loads(line) for line in (workspace / "manifests/dropped.jsonl").read_text().splitlines()]
    assert [row["rule"] for row in dropped] == ["malformed_row", "unreadable", "bad_transcript", "malformed_row"]
    (kept,) = (json.loads(line) for line in (workspace / "manifests/kept.jsonl").read_text().splitlines())
    assert kept["id"] == "7"
    assert "nothing lies between" in sentence(
        govor("validate", "m.jsonl", "--min-seconds", 9, "--max-seconds", 2, "--overwrite", expect=None)
    )
    assert "max_seconds" in sentence(govor("validate", "m.jsonl", "--max-seconds", -1, "--overwrite", expect=None))


def test_folders_of_one_name_keep_their_clips_apart(govor: Govor, workspace: Path) -> None:
    for place, seed in (("a/rec", 0), ("b/rec", 1)):
        make_corpus(workspace / place, 4, speakers=1, seed=seed)
    govor("inventory", "a/rec", "b/rec", "--language", "en")
    rows = [json.loads(line) for line in (workspace / "manifests/dataset_inventory.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 8 and {row["id"].split("/")[0] for row in rows} == {"a", "b"}
    assert "must end in .jsonl" in sentence(govor("inventory", "a/rec", "--out", "inv.csv", expect=None))


def test_a_fifo_among_the_recordings_is_named_and_not_waited_for(govor: Govor, workspace: Path) -> None:
    make_corpus(workspace / "rec", 3)
    os.mkfifo(workspace / "rec/pipe.wav")
    done = govor("inventory", "rec", "--language", "en", expect=1)
    assert "pipe.wav is not a regular file" in done.stderr


@pytest.mark.parametrize("setting", ["name=[e", "name=2024-13-45", "finetune.lr=true", "finetune.epochs=1e308"])
def test_odd_settings_are_one_sentence(govor: Govor, setting: str) -> None:
    sentence(govor("train", "whisper", "--set", setting, expect=None))
