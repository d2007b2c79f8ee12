"""A family that transcribes nothing is scored, compared, judged and reported by its own metrics; what needs texts refuses it."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
from pydantic import Field

from conftest import speech
from govor.corpus.manifests import write_clips
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.families import registry
from govor.families.opening import Opened
from govor.families.settings import FamilySettings, Gates
from govor.families.task import ContextMode, DecodeOptions, Measurement, Row
from govor.measure.accept import accept, gates_given, judge
from govor.measure.audit import audit
from govor.measure.compare import compare
from govor.measure.evaluate import EvalOptions, evaluate
from govor.measure.hallucination import score_hallucination
from govor.measure.lines import compare_lines, score_line, slice_tables
from govor.measure.report.build import report
from govor.measure.scoring import ClipSet, read_eval, rescore
from govor.measure.timestamps import score_timestamps
from govor.metrics.errors import ErrorReport, of_labels
from govor.metrics.intervals import choose_clusters
from govor.metrics.metric import Metric
from govor.runs import Json, Workspace

LABELS = ("over", "more")


class ToyGates(Gates):
    """Gates of the toy."""

    macro_f1: float | None = Field(None, gt=0)
    macro_f1_lower: float | None = Field(None, gt=0)


def macro_f1(rows: Sequence[Row]) -> float:
    pairs = Counter((row["reference"], row["hypothesis"]) for row in rows)
    scores = []
    for label in LABELS:
        right = pairs[label, label]
        given = sum(count for (_, answer), count in pairs.items() if answer == label)
        true = sum(count for (reference, _), count in pairs.items() if reference == label)
        scores.append(2 * right / (given + true) if given + true else 0.0)
    return round(sum(scores) / len(scores), 6)


class Judging:
    """Is the sentence over? One of two labels for each clip."""

    name = "audio-classification"
    metrics = (Metric("macro_f1", "higher"),)
    gates = (Metric("macro_f1", "higher"), Metric("macro_f1_lower", "higher"))
    contexts: tuple[ContextMode, ...] = ("speech",)
    evidence = ("reference", "hypothesis")

    def evidence_for(self, gate: str) -> tuple[Measurement, str]:
        return "scoring", gate

    def errors(self, row: Row) -> tuple[int, int]:
        return int(not row["right"]), 1

    def report(self, before: Sequence[Row], after: Sequence[Row]) -> ErrorReport:
        return replace(of_labels(before, after), unit="turns")

    def refuse(self, clip: Clip) -> str | None:
        return None if "turn" in clip.labels else f"clip '{clip.id}' has no label 'turn'"

    def check_clips(self, model: Any, clips: Sequence[Clip], manifest: Path, options: DecodeOptions) -> None:
        """All are taken."""

    def answers(
        self, model: Any, clips: Sequence[Clip], options: DecodeOptions, on_done: Any = None, on_unreadable: Any = None
    ) -> Iterator[list[Row]]:
        yield [{**self.unanswered(clip), "hypothesis": model.answers[clip.id]} for clip in clips]

    def unanswered(self, clip: Clip) -> Row:
        about = {"id": clip.id, "audio": clip.audio, "offset": clip.offset, "duration": clip.duration}
        return {**about, "reference": clip.labels["turn"], "hypothesis": ""}

    def counted(self, rows: Sequence[Row]) -> list[Row]:
        return [{**row, "right": row["reference"] == row["hypothesis"]} for row in rows]

    def sound(self, row: Row) -> bool:
        return row["reference"] in LABELS and isinstance(row["hypothesis"], str)

    def current(self, summary: Row, rows: Sequence[Row] = ()) -> bool:
        return all("right" in row for row in rows)

    def rates(self, rows: Sequence[Row]) -> dict[str, float | None]:
        return {"macro_f1": macro_f1(rows)}

    def summarise(self, rows: Sequence[Row]) -> Json:
        clusters = choose_clusters(rows)
        drawn = np.random.default_rng(0).integers(0, len(rows), (200, len(rows)))
        spread = np.quantile([macro_f1([rows[i] for i in some]) for some in drawn], [0.025, 0.975])
        return {
            "clips": len(rows),
            "audio_seconds": sum(row["duration"] for row in rows),
            "interval": {"unit": clusters.unit, "clusters": clusters.count, "note": clusters.note, "level": 0.95},
            "macro_f1": macro_f1(rows),
            "macro_f1_interval": [round(float(value), 6) for value in spread],
        }

    def compare(self, before: Sequence[Row], after: Sequence[Row], names: tuple[str, str]) -> Json:
        a, b = macro_f1(before), macro_f1(after)
        gains = [int(new["right"]) - int(old["right"]) for old, new in zip(before, after, strict=True)]
        change = {"difference": b - a, "difference_interval": None, "relative_change": (b - a) / a if a else None}
        return {
            **dict(zip("ab", names, strict=True)),
            "clips": len(gains),
            "test": {"method": "none", "note": "a toy"},
            "macro_f1": {"a": a, "b": b, **change, "p_value": 0.01},
            **{name: sum(gain == sign for gain in gains) for name, sign in (("better", 1), ("worse", -1), ("same", 0))},
            "verdict": "B is better" if b > a else "B is not better",
        }


class Model:
    """Answers by heart."""

    name: ClassVar[str] = "toy-judge"

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers


Opener = Callable[[str, dict[str, str]], None]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace somewhere else than the process stands, and the toy family."""
    package = ModuleType("toy_judge")
    settings = FamilySettings(task=Judging(), gates=ToyGates, formats=("hf",))
    monkeypatch.setitem(sys.modules, "toy_judge", package)
    monkeypatch.setitem(sys.modules, "toy_judge.settings", SimpleNamespace(SETTINGS=settings))  # type: ignore[arg-type]
    monkeypatch.setitem(registry._FAMILIES, "toy-judge", "toy_judge")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    workspace = Workspace(tmp_path / "w")
    (workspace.root / "audio").mkdir(parents=True)
    clips = []
    for number in range(10):
        soundfile.write(workspace.root / f"audio/{number}.wav", speech(["sol"], 1.0), 16_000)
        label = {"turn": LABELS[number % 2]}
        clips.append(Clip(f"c{number}", f"audio/{number}.wav", "", 1.0, "en", labels=label, transcribed=False))
    write_clips(workspace.path("manifests/turns.jsonl"), clips)
    return workspace


@pytest.fixture
def opening(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Makes every model that is opened answer so."""

    def make(name: str, answers: dict[str, str]) -> None:
        opened = Opened(name, Model(answers), place.root, Judging())  # type: ignore[arg-type]
        for module in ("evaluate", "hallucination", "timestamps", "audit"):
            monkeypatch.setattr(f"govor.measure.{module}.open_model", lambda *_: (opened, "fp32"))

    return make


def test_it_goes_through_evaluate_compare_accept_and_report(place: Workspace, opening: Opener) -> None:
    clips = ClipSet.read(place, place.path("manifests/turns.jsonl"))
    files = {}
    for name, wrong in (("base", 5), ("r1", 1)):
        opening(name, {c.id: "more" if i < wrong else c.labels["turn"] for i, c in enumerate(clips.clips)})
        (scored,) = evaluate(place, name, clips)
        files[name] = scored.file
        assert scored.result["task"] == "audio-classification" and scored.result["context"] == "speech"
        assert scored.result["file"] == f"manifests/evals/{name}__turns__speech.json"
        assert scored.result["manifest"]["path"] == "manifests/turns.jsonl" and "wer" not in scored.result
        assert not {"decoding", "ran_on", "heavy"} & scored.result.keys(), "a classifier searches for nothing"
    assert score_line(scored.result).startswith("r1 on turns, speech: macro f1 0.89") and not list(
        slice_tables(scored.result)
    )
    assert evaluate(place, "r1", clips, EvalOptions(existing="resume"))[0].reused
    with pytest.raises(GovorError, match="already exists"):
        evaluate(place, "r1", clips)
    assert rescore(files["r1"])["macro_f1"] == read_eval(files["r1"])[0]["macro_f1"] > 0.88

    compared = compare(place, files["base"], files["r1"], "r1")
    assert not {"decoding", "decided_by"} & compared.result.keys()
    # By hand: (4/7 + 10/13) / 2 and (8/9 + 10/11) / 2.
    assert "macro f1  0.6703 → 0.8990  (+34.1% relative" in compare_lines(compared.result, compared.task)
    run = place.run("toy-judge", "r1")
    run.folder.mkdir(parents=True)
    (run.folder / "recipe.yaml").write_text(json.dumps({"family": "toy-judge", "acceptance": {"macro_f1": 0.8}}))
    verdict, _ = accept(run)
    (gate,) = verdict["gates"]
    assert verdict["accepted"] and "and at least 0.8 was wanted" in gate["reason"]
    assert not accept(run, gates_given(run, ["macro_f1=0.95"]))[0]["accepted"]
    bound = accept(run, gates_given(run, ["macro_f1_lower=0.99"]))[0]["gates"][0]
    assert bound["measured"] == scored.result["macro_f1_interval"][0] and not bound["passed"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judging, "evidence_for", lambda _, gate: ("hallucination", gate))
        assert "--hallucination" in judge(run)["gates"][0]["reason"], "the task says where a gate is measured"

    page = report(run)
    assert page == (place.reports / "r1/index.html").resolve()
    text = page.read_text(encoding="utf-8")
    assert "Errors are turns" in text, "the task says what its errors are"
    assert "macro f1 before" in text and "WER" not in text and 'class="better"' in text
    assert '"audio/00000.wav"' in (page.parent / "clips.js").read_text(encoding="utf-8")
    assert not list(Path.cwd().iterdir()), "nothing is written where the process stands"


def test_what_needs_texts_refuses_it(place: Workspace, opening: Opener) -> None:
    opening("r1", {})
    clips = ClipSet.read(place, place.path("manifests/turns.jsonl"))
    asked: dict[str, Callable[[], object]] = {
        "hallucination": lambda: score_hallucination(place, "r1", EvalOptions()),
        "timestamps": lambda: score_timestamps(place, "r1", clips, EvalOptions()),
        "audit": lambda: audit(place, clips, "r1"),
    }
    for name, ask in asked.items():
        with pytest.raises(GovorError, match="speech recogniser was wanted") as error:
            ask()
        assert error.value.exit_code == 2, name
    with pytest.raises(GovorError, match="no search that could be plain"):
        evaluate(place, "r1", clips, EvalOptions(plain=True))
    with pytest.raises(GovorError, match="no audio context 'padded'"):
        evaluate(place, "r1", clips, EvalOptions(("padded",)))
    write_clips(
        place.path("manifests/texts.jsonl"), [clips.clips[0].replace(labels={}, transcript="sol", transcribed=True)]
    )
    with pytest.raises(GovorError, match="no label 'turn'"):
        evaluate(place, "r1", ClipSet.read(place, place.path("manifests/texts.jsonl")))
    assert not place.evals.exists()
