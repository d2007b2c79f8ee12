"""Transcripts that do not match their audio are found; runs are judged by what was measured, and by nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import needs_browser, opened
from conftest import make_split, toy_recipe
from govor.corpus.manifests import read_clips, write_clips
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.families.base import Hypothesis
from govor.families.recogniser import RecognitionGates
from govor.measure.accept import judge
from govor.measure.audit import best_threshold, judged, partners, plant, precision_recall
from govor.measure.hallucination import measure, sentence, sounds
from govor.runs import Run

Govor = Callable[..., Any]


def clips(count: int) -> list[Clip]:
    return [
        Clip(f"c{i}", f"{i}.wav", f"věta číslo {i % 50} slov {'x' * (i % 7)}", 1.0 + i % 5, "cs", speaker=f"s{i % 3}")
        for i in range(count)
    ]


def test_planted_transcripts_are_other_ones_of_the_same_speaker_and_like_length() -> None:
    some = clips(200)
    found = plant(some, range(200), 0.05)
    assert len(found) == 10 and found == plant(some, range(200), 0.05)
    for place, source in found.items():
        assert some[place].transcript != some[source].transcript and some[place].speaker == some[source].speaker
        assert abs(len(some[place].transcript) - len(some[source].transcript)) <= 2
    other = partners(some, range(200))
    assert all(
        some[a].transcript != some[b].transcript and abs(some[a].duration - some[b].duration) <= 1
        for a, b in other.items()
    )


def test_the_threshold_is_set_on_one_half_and_judged_on_the_other() -> None:
    generator = np.random.default_rng(0)
    own = {i: float(generator.normal(4, 0.8)) for i in range(1000)}
    planted = {i: float(generator.normal(0, 0.5)) for i in range(0, 1000, 20)}
    result, rows = judged(own, planted)
    assert result["recall"] >= 0.9 and result["precision"] >= 0.8
    assert rows[0]["worth"] == min(round(value, 4) for value in own.values()) and rows[0]["suspicious"]
    assert result["suspicious"] == sum(value < result["threshold"] for value in own.values())
    blind, _ = judged(own, {i: own[i] for i in planted})
    assert blind["precision"] is None or blind["precision"] < 0.3, "a model that hears nothing finds nothing"


def test_thresholds_and_rates_by_hand() -> None:
    values, wrong = np.array([0.0, 1.0, 2.0, 3.0]), np.array([True, True, False, False])
    assert best_threshold(values, wrong) == 1.5
    assert precision_recall(values, wrong, 1.5) == (1.0, 1.0)
    assert precision_recall(values, wrong, 2.5) == (0.6667, 1.0)
    assert precision_recall(values, wrong, -1.0) == (None, 0.0)


def test_an_audit_finds_what_was_exchanged(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace, train=56, held_out=2)
    recipe = toy_recipe(
        split, tiny_folder, workspace / "toy.yaml", finetune={"epochs": 30, "clips_per_step": 8, "lr": 5e-3}
    )
    govor("train", recipe)
    rows = list(read_clips(split / "train.jsonl"))
    exchanged = [
        rows[0].replace(transcript=rows[7].transcript),
        *rows[1:7],
        rows[7].replace(transcript=rows[0].transcript),
        *rows[8:],
    ]
    write_clips(workspace / "manifests/mixed.jsonl", exchanged)
    done = govor("audit", "manifests/mixed.jsonl", "--model", "models/whisper/toy", "--max-share", "0.5", "--json")
    result = json.loads(done.stdout)
    assert result["clips"] == 56 and result["planted"] == 10 and result["recall"] >= 0.8
    listed = [
        json.loads(line) for line in (workspace / "reports/audit-mixed/suspicious.jsonl").read_text().splitlines()
    ]
    assert {rows[0].id, rows[7].id} <= {row["id"] for row in listed} and all(row["reason"] for row in listed)
    assert "next" not in done.stdout
    strict = govor(
        "audit", "manifests/mixed.jsonl", "--model", "models/whisper/toy", "--max-share", "0.0", "--overwrite", expect=1
    )
    assert "suspicious" in strict.stdout
    assert "needs 40" in govor("audit", split / "test.jsonl", "--model", "models/whisper/toy", expect=2).stderr


@needs_browser
def test_the_audits_page_lists_the_worst_first(workspace: Path) -> None:
    from govor.measure.audit import _write_page

    result = {
        "suspicious": 1,
        "clips": 2,
        "threshold": 0.5,
        "planted": 10,
        "precision": 1.0,
        "recall": None,
        "unheard": 0,
    }
    rows = [(clip, {"worth": float(i), "suspicious": not i}) for i, clip in enumerate(clips(2))]
    _write_page(workspace, result, rows)
    with opened(workspace / "index.html") as page:
        assert (
            page.locator("#clips tbody tr").count() == 2 and "suspicious" in page.locator("tbody tr").first.inner_text()
        )


def run_folder(gates: dict[str, Any]) -> Path:
    run = Path("models/whisper/r1")
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.yaml").write_text(json.dumps({"examples": {"context": "speech"}, "acceptance": gates}))
    Path("manifests/evals").mkdir(parents=True, exist_ok=True)
    return run


def test_gates_are_judged_by_what_was_measured(workspace: Path, govor: Govor) -> None:
    run = run_folder({"wer": 0.3, "wer_upper": 0.4, "cer": 0.2, "timestamp_coverage": 0.95, "hallucination_rate": 0.1})
    nothing = judge(Run(run))
    assert not nothing["accepted"] and all("not measured; run: govor" in entry["reason"] for entry in nothing["gates"])
    after = {"wer": 0.25, "wer_interval": [0.2, 0.45], "cer": 0.1, "manifest": {"sha256": "abc"}}
    Path("manifests/eval_r1.json").write_text(json.dumps({"run": "r1", "contexts": {"speech": {"after": after}}}))
    timed = {"context": "speech", "max_samples": None, "all": {"offset_seconds": 0.05, "coverage": 0.97}}
    for name, sha, more in (("x", "abc", {}), ("other", "def", {}), ("x-8", "abc", {"max_samples": 8})):
        file = Path(f"manifests/evals/r1__timestamps__{name}__speech.json")
        file.write_text(json.dumps({**timed, "manifest": {"sha256": sha}, **more}))
    Path("manifests/evals/r1__hallucination__speech.json").write_text(json.dumps({"hallucination_rate": 0.02}))
    done = govor("accept", "r1", expect=1)
    assert "red    wer_upper: 0.45, and at most 0.4 was wanted" in done.stdout and done.stdout.count("green") == 4
    kept = json.loads(Path("manifests/eval_r1.json").read_text())
    assert kept["accepted"] is False and kept["contexts"] and len(kept["acceptance"]["gates"]) == 5
    assert govor("accept", "r1", "--set", "wer=0.3", "--set", "timestamp_offset_seconds=0.08").stdout.endswith(
        "accepted: true\n"
    )
    Path("manifests/evals/r1__timestamps__x__speech.json").unlink()  # the others are of other clips, or of some
    assert not judge(Run(run), RecognitionGates(timestamp_offset_seconds=0.08))["accepted"]
    published = {"wer": 0.06, "wer_interval": [0.05, 0.07]}
    found = {"published": published, "wer": 0.09, "wer_interval": [0.08, 0.1], "cer": 0.02}
    suite = {"sets": {"eval-d1": {"contexts": {"speech": found}}}}
    Path("manifests/evals/r1__suite-hebrew.json").write_text(json.dumps(suite))
    on = judge(Run(run), RecognitionGates(measured_on="hebrew/eval-d1", wer=0.065, wer_upper=0.075))
    assert on["accepted"] and [gate["measured"] for gate in on["gates"]] == [0.06, 0.07]
    other = judge(Run(run), RecognitionGates(measured_on="hebrew/eval-d1", context="padded", wer=0.065))
    assert not other["accepted"] and "--suite hebrew --context padded" in other["gates"][0]["reason"]
    elsewhere = judge(Run(run), RecognitionGates(measured_on="hebrew/eval-d1", timestamp_coverage=0.9))
    assert "manifests/suites/hebrew/eval-d1.jsonl --timestamps" in elsewhere["gates"][0]["reason"]
    assert not judge(Run(run), RecognitionGates(measured_on="hebrew/fleurs", wer=0.5))["accepted"]
    suite["sets"]["eval-d1"]["contexts"]["speech"]["failed"] = 2
    Path("manifests/evals/r1__suite-hebrew.json").write_text(json.dumps(suite))
    unread = judge(Run(run), RecognitionGates(measured_on="hebrew/eval-d1", wer=0.065))
    assert not unread["accepted"] and "2 clips could not be read" in unread["gates"][0]["reason"]
    Path("manifests/evals/r1__suite-mine.json").write_text("[]")
    with pytest.raises(GovorError, match=r"suite-mine\.json holds a list where an object"):
        judge(Run(run), RecognitionGates(measured_on="mine/a", wer=0.1))


def test_gates_that_make_no_sense_are_refused(workspace: Path, govor: Govor) -> None:
    run_folder({})
    assert "states no gates" in govor("accept", "r1", expect=2).stderr
    assert "unknown setting 'were'" in govor("accept", "r1", "--set", "were=1", expect=2).stderr
    assert "SUITE/SET was wanted" in govor("accept", "r1", "--set", "measured_on=hebrew", expect=2).stderr
    with pytest.raises(GovorError, match="no recipe"):
        judge(Run(workspace))


class Talker:
    name = "talker"
    longest_seconds = 30.0

    def __init__(self, **about: Any) -> None:
        self.about = about

    def transcribe(self, clips: Any, *_: Any, **__: Any) -> list[Hypothesis]:
        return [Hypothesis(**{"text": "slova", "tokens": [1, 2], "mean_logprob": -0.1, **self.about}) for _ in clips]


def test_words_for_nothing_are_counted_and_guards_help() -> None:
    made = list(sounds())
    assert {len(wave) / 16_000 for _, wave in made} == {1.0, 4.0, 10.0, 28.0} and len({kind for kind, _ in made}) == 7
    assert all(np.isfinite(wave).all() and np.abs(wave).max() <= 1 for _, wave in made)
    loud: Any = Talker()
    found = measure(loud, "cs", "speech")
    assert found["bare_rate"] == 1.0 and found["guarded_rate"] < 1.0
    assert found["by_kind"]["silence"]["guarded_rate"] == 0.0 and found["by_kind"]["music"]["guarded_rate"] == 1.0
    quiet: Any = Talker(text="")
    assert measure(quiet, "cs", "speech")["bare_rate"] == 0.0
    doubting: Any = Talker(mean_logprob=-2.0, no_speech=0.9)
    assert measure(doubting, "cs", "speech")["hallucination_rate"] == 0.0
    assert "100% of" in sentence({"model": "m", "context": "speech", **found})
