"""Transcripts that do not match their audio are found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from browser import needs_browser, opened
from conftest import make_split, toy_recipe
from govor.corpus.manifests import read_clips, write_clips
from govor.corpus.records import Clip
from govor.measure.audit import best_threshold, judged, partners, plant, precision_recall

Govor = Callable[..., Any]


def test_only_an_audit_is_replaced_by_an_audit(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace, train=40)
    (workspace / "precious").mkdir()
    (workspace / "precious/thesis.txt").write_text("years of work")
    found = govor("audit", split / "train.jsonl", "--model", tiny_folder, "--out", "precious", "--overwrite", expect=2)
    assert "holds other things than an audit" in found.stderr and (workspace / "precious/thesis.txt").exists()
    blind = govor("audit", split / "train.jsonl", "--model", tiny_folder, "--max-share", "1.0", expect=None)
    assert blind.returncode in (0, 1) and "Traceback" not in blind.stderr


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
