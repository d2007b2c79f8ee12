"""Known sets, and whether a model has seen them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from conftest import make_corpus, make_split, toy_recipe
from govor.corpus.formats.parquet import write_parquet
from govor.corpus.manifests import read_clips, write_clips
from govor.corpus.records import Clip
from govor.corpus.sources import registry
from govor.errors import GovorError
from govor.measure.overlap import overlap, overlap_line
from govor.measure.suites import find_suite, suites
from govor.runs import Workspace

Govor = Callable[..., Any]


def clip(folder: Path, name: str, words: str, seed: int, gain: float = 1.0) -> Clip:
    # Tones whose pitches and lengths are drawn: no two seeds sound alike.
    generator = np.random.default_rng(seed)
    parts = [
        np.sin(2 * np.pi * generator.uniform(300, 3000) * np.arange(generator.integers(1500, 5000)) / 16_000)
        for _ in range(16)
    ]
    wave = gain * 0.3 * np.concatenate(parts)
    soundfile.write(folder / f"{name}.wav", wave, 16_000)
    return Clip(name, str(folder / f"{name}.wav"), words, len(wave) / 16_000, "en", license="own")


def test_overlap_is_counted_by_audio_near_duplicate_and_sentence(tmp_path: Path) -> None:
    test = [clip(tmp_path, f"t{i}", words, i) for i, words in enumerate(["sol", "luna mar", "pan pan vid", "zem"])]
    same_audio = test[0].replace(id="x0", transcript="something else")
    louder = clip(tmp_path, "x1", "luna mar", 1, gain=0.5).replace(transcript="louder")
    same_words = clip(tmp_path, "x2", "pan pan vid", 77).replace(transcript="Pan, pan: VID!")
    write_clips(tmp_path / "train.jsonl", [same_audio, louder, same_words])
    found = overlap(Workspace(), test, [tmp_path / "train.jsonl"])
    assert (found["audio"], found["sentence"]) == (1, 1) and found["near_duplicate"] >= 2
    assert "t3" not in found["ids"] and {"t0", "t1", "t2"} <= set(found["ids"])
    assert "clips stand in the training data" in overlap_line("set", found)
    deaf = overlap(Workspace(), test, [tmp_path / "train.jsonl"], hear=False)
    assert deaf["near_duplicate"] == 0 and deaf["sentence"] == 1 and "--hear-training" in overlap_line("set", deaf)
    nothing = overlap(Workspace(), test, [tmp_path / "gone.jsonl"])
    assert nothing["training_manifests_missing"] and "was not checked" in overlap_line("set", nothing)


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
    about = {
        key: json.loads(done.read_text())[key]
        for key in ("model", "source", "set", "context", "beam_size", "engine", "precision", "weights", "manifest")
    }
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
