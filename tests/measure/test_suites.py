"""Suites of known sets: scored, resumed, beside what was published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import make_corpus, make_split, toy_recipe
from govor.corpus.formats.parquet import write_parquet
from govor.corpus.manifests import read_clips, write_clips
from govor.corpus.sources import registry
from govor.errors import GovorError
from govor.measure.suites import find_suite, suites
from govor.runs import Workspace
from rows import head_of

Govor = Callable[..., Any]


def test_every_set_of_every_suite_is_in_the_registry() -> None:
    for name, suite in suites().items():
        for wanted in suite.sets.values():
            assert wanted.split in registry().datasets[wanted.source].splits, (name, wanted)
        assert all(set(figures) <= set(suite.sets) for figures in suite.published.values())
    assert (
        len(find_suite(Workspace(), "hebrew").sets) == 6
        and find_suite(Workspace(), "hebrew").published["ivrit turbo"]["whatsapp"] == 0.071
    )
    with pytest.raises(GovorError, match="did you mean 'hebrew'"):
        find_suite(Workspace(), "hebrw")


def test_a_suite_of_local_parquet_is_scored_resumed_and_checked(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    split = make_split(workspace)
    recipe = toy_recipe(split, tiny_folder, workspace / "toy.yaml", finetune={"max_steps": 2, "epochs": 3})
    govor("train", recipe)
    held = list(read_clips(split / "test.jsonl"))
    (trained, *_) = read_clips(split / "train.jsonl")
    for name, clips in (("first", [*held[:2], trained]), ("second", held[2:])):
        folder = workspace / "data" / name
        folder.mkdir(parents=True)
        rows = [
            ({"transcript": c.transcript, "language": "en"}, Path(c.audio).read_bytes(), f"{c.id}.wav") for c in clips
        ]
        write_parquet(folder / "test-00000.parquet", rows)
    sets = {
        "first": {"source": "own/first"},
        "second": {"source": "own/second"},
        "third": {"source": "common-voice-mg"},
    }
    (workspace / "mine.yaml").write_text(
        json.dumps({"title": "ours", "normaliser": "ivrit", "sets": sets, "published": {"someone": {"first": 0.5}}})
    )
    arguments = (
        "evaluate",
        "models/whisper/toy",
        "--suite",
        "mine.yaml",
        "--suite-data",
        "data",
        "--context",
        "speech",
    )
    done = govor(*arguments, "--json", expect=1)
    result = json.loads(done.stdout)
    assert set(result["sets"]) == {"first", "second"} and "third" in result["not_run"]
    assert result["sets"]["first"]["overlap"]["audio"] == 1 and result["sets"]["second"]["overlap"]["clips"] == 0
    assert result["sets"]["first"]["contexts"]["speech"]["wer_without_overlap"] is not None
    assert [row["model"] for row in result["table"]] == ["someone", "toy, speech", "toy, speech"] and result["table"][
        0
    ]["first"] == 0.5
    first = workspace / result["sets"]["first"]["contexts"]["speech"]["file"]
    stamp = first.stat().st_mtime_ns
    again = govor(*arguments, expect=1)
    assert first.stat().st_mtime_ns == stamp and "is there already" in again.stderr
    assert "clips are in the training data" in again.stdout


def test_an_unfinished_scoring_goes_on(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    test = split / "test.jsonl"
    arguments = ("evaluate", tiny_folder, "--manifest", test, "--context", "speech")
    govor(*arguments)
    done = workspace / "manifests/evals/tiny__toy-test__speech.json"
    whole = [json.loads(line) for line in done.with_name("tiny__toy-test__speech.clips.jsonl").read_text().splitlines()]
    about = head_of(json.loads(done.read_text()))
    part = workspace / "manifests/evals/tiny__toy-test__speech.part.jsonl"
    kept = [{**whole[0], "hypothesis": "kept from before", "took_seconds": 1.0}]
    rows = [{**about, "clips": 4}, *kept]
    part.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"id": "cut in the mid')
    done.unlink()
    refused = govor(*arguments, expect=2)
    assert "--resume" in refused.stderr and part.exists()
    govor(*arguments, "--resume")
    rows = [json.loads(line) for line in done.with_name("tiny__toy-test__speech.clips.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [row["id"] for row in whole] and rows[0]["hypothesis"] == "kept from before"
    assert not part.exists()
    part.write_text(json.dumps({**about, "clips": 4, "context": "padded"}) + "\n" + json.dumps(kept[0]) + "\n")
    done.unlink()
    assert "is of another scoring (context differ)" in govor(*arguments, "--resume", expect=2).stderr


def test_what_to_score_on_is_asked_for(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    make_corpus(workspace / "rec", 2)
    assert "What to score on" in govor("evaluate", tiny_folder, expect=2).stderr
    assert "did you mean 'hebrew'" in govor("evaluate", tiny_folder, "--suite", "hebrw", expect=2).stderr


def test_failures_of_any_context_are_told_and_a_suite_keeps_its_contexts(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    test = make_split(workspace) / "test.jsonl"
    target = workspace / "manifests/suites/own/a.jsonl"
    target.parent.mkdir(parents=True)
    write_clips(target, list(read_clips(test)))
    (workspace / "own.yaml").write_text(json.dumps({"title": "own", "sets": {"a": {"source": "own/a"}}}))
    suite = ("evaluate", tiny_folder, "--suite", "own.yaml")
    govor(*suite, "--context", "speech")
    file = workspace / "manifests/evals/tiny__suite-own.json"
    govor(*suite, "--context", "padded")
    assert set(json.loads(file.read_text())["sets"]["a"]["contexts"]) == {"speech", "padded"}
    govor(*suite, "--context", "speech", "--beam-size", "2")
    assert file.with_name("tiny-beam2__suite-own.json").exists()
    assert set(json.loads(file.read_text())["sets"]["a"]["contexts"]) == {"speech", "padded"}
    govor("evaluate", tiny_folder, "--manifest", test, "--context", "speech")
    first, *_ = read_clips(test)
    Path(first.audio).write_bytes(b"RIFF nothing")
    told = govor("evaluate", tiny_folder, "--manifest", test, "--resume", expect=1)
    assert f"failed  {first.id}" in told.stderr
    assert "is of other weights" not in told.stderr
    told = govor(*suite, "--context", "speech", "--overwrite", expect=1)
    assert f"failed  {first.id}" in told.stderr
    assert json.loads(file.read_text())["sets"]["a"]["contexts"]["speech"]["failed"] == 1


def test_two_workspaces_in_one_process_are_scored_while_it_stands_elsewhere(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from govor.measure.evaluate import EvalOptions
    from govor.measure.suite_scores import SuiteOptions, score_suite

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = EvalOptions(("speech",), precision="fp32")
    results = []
    for name in ("a", "b"):
        place = Workspace(tmp_path / name)
        split = make_split(place.root, train=4, held_out=3)
        clips = [c.replace(audio=place.relative(c.audio)) for c in read_clips(split / "test.jsonl")]
        write_clips(split / "test.jsonl", clips)
        shutil.copytree(tiny_folder, place.path("models/tiny"))
        rows = [
            ({"transcript": c.transcript, "language": "en"}, place.path(c.audio).read_bytes(), f"{c.id}.wav")
            for c in clips
        ]
        place.path("data/first").mkdir(parents=True)
        write_parquet(place.path("data/first/test-00000.parquet"), rows)
        place.path("own.yaml").write_text(json.dumps({"title": "own", "sets": {"first": {"source": "own/first"}}}))
        scores = score_suite(place, "models/tiny", SuiteOptions("own.yaml", place.path("data")), options)
        assert scores.file == place.scoring("tiny", "suite-own") and not scores.result["not_run"]
        (found,) = scores.summaries
        assert found["file"] == "manifests/evals/tiny__own-first__speech.json" and found["clips"] == 3
        assert found["manifest"]["path"] == "manifests/suites/own/first.jsonl" and place.path(found["file"]).exists()
        (first, *_) = read_clips(place.path(found["manifest"]["path"]))
        assert first.audio.startswith("data/suites/own/first/audio.blob#")
        results.append({key: value for key, value in found.items() if "real_time" not in key and key != "seconds"})
    assert results[0] == {**results[1], "weights": results[0]["weights"]}
    assert not list(Path.cwd().iterdir())
