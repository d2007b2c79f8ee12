"""A run's before, after and verdict in one file: no verdict is lost, whatever is compared afterwards."""

import json
from pathlib import Path
from typing import Any

import pytest

from govor.errors import GovorError
from govor.families import registry
from govor.families.recogniser import RecognitionGates
from govor.measure.accept import OWN_TEST_SET, accept
from govor.measure.compare import compare
from govor.measure.headline import add_to_headline
from govor.measure.scoring import write_eval
from govor.runs import Json, Run, Workspace


class Notes:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def scored(place: Workspace, model: str, wrong: int, context: str = "speech") -> Path:
    rows = [
        {"id": f"c{i}", "audio": "a.wav", "offset": None, "duration": 1.0, "language": "en", "speaker": None,
         "source": None, "snr_db": 9.0, "reference": "sol mar", "hypothesis": "sol pan" if i < wrong else "sol mar"}
        for i in range(8)
    ]  # fmt: skip
    manifest = place.path("m.jsonl")
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text('{"id": "a", "audio": "a", "transcript": "x", "duration": 1, "language": "en"}\n')
    file = place.scoring(f"{model}-{wrong}", "m", context)
    write_eval(place, file, rows, {"model": f"{model}-{wrong}", "set": "m", "context": context}, manifest)
    return file


def judged_run(place: Workspace) -> Run:
    """A run that was scored, compared and accepted."""
    run = place.run("toys", "r1")
    run.folder.mkdir(parents=True)
    (run.folder / "recipe.yaml").write_text(json.dumps({"examples": {"context": "speech"}}))
    add_to_headline(place, "r1", {"speech": (scored(place, "base", 6), scored(place, "r1", 2))})
    verdict, file = accept(run, RecognitionGates(wer=0.2))
    assert verdict["accepted"] and file == place.headline("r1")
    return run


def headline(run: Run) -> Json:
    found: Any = run.headline()
    return dict(found)


def test_a_verdict_on_other_scores_becomes_an_earlier_one(tmp_path: Path) -> None:
    place, notes = Workspace(tmp_path / "w"), Notes()
    run = judged_run(place)
    given = headline(run)["acceptance"]
    files = {wrong: scored(place, "r1", wrong) for wrong in (2, 3, 4)}
    base = scored(place, "base", 6)
    compare(place, base, files[2], "r1", progress=notes)  # type: ignore[arg-type]
    assert headline(run)["acceptance"] == given and "earlier_verdicts" not in headline(run) and not notes.lines
    compare(place, base, files[3], "r1", progress=notes)  # type: ignore[arg-type]
    once = headline(run)
    assert "accepted" not in once and "acceptance" not in once
    (earlier,) = once["earlier_verdicts"]
    assert {key: earlier[key] for key in given} == given and earlier["scores"]["wer"] == 2 / 16
    assert earlier["scores"]["manifest"]["path"] == "m.jsonl" and "earlier verdicts" in notes.lines[0]
    compare(place, base, files[4], "r1", progress=notes)  # type: ignore[arg-type]
    assert headline(run)["earlier_verdicts"] == [earlier] and len(notes.lines) == 1
    second, _ = accept(run, RecognitionGates(wer=0.2))
    assert not second["accepted"] and headline(run)["earlier_verdicts"] == [earlier]
    compare(place, base, files[2], "r1")
    assert [one["accepted"] for one in headline(run)["earlier_verdicts"]] == [True, False]


def test_a_fresh_headline_keeps_verdicts_and_those_that_still_hold(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    run = judged_run(place)
    given = headline(run)["acceptance"]
    pair = (scored(place, "base", 6), scored(place, "r1", 2))
    add_to_headline(place, "r1", {"speech": pair}, fresh=True)
    assert headline(run)["acceptance"] == given and headline(run)["accepted"]
    padded = (scored(place, "base", 6, "padded"), scored(place, "r1", 2, "padded"))
    for _ in range(2):
        add_to_headline(place, "r1", {"padded": padded}, fresh=True)
        found = headline(run)
        assert list(found["contexts"]) == ["padded"] and "acceptance" not in found
        assert [one["judged"] for one in found["earlier_verdicts"]] == [given["judged"]]
    add_to_headline(place, "r1", {"speech": pair}, fresh=True)
    assert len(headline(run)["earlier_verdicts"]) == 1


def test_a_verdict_on_a_suites_set_holds_whatever_is_compared(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    run = judged_run(place)
    verdict, _ = accept(run, RecognitionGates(measured_on="hebrew/eval-d1", wer=0.2))
    add_to_headline(place, "r1", {"speech": (scored(place, "base", 6), scored(place, "r1", 5))}, fresh=True)
    assert headline(run)["acceptance"] == verdict
    assert [one["measured_on"] for one in headline(run)["earlier_verdicts"]] == [OWN_TEST_SET], "the first one alone"


def test_a_verdict_after_a_verdict_keeps_the_first(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    run = judged_run(place)
    first = headline(run)["acceptance"]
    second, _ = accept(run, RecognitionGates(wer=0.01))
    third, _ = accept(run, RecognitionGates(wer=0.3))
    assert headline(run)["acceptance"] == third and headline(run)["accepted"] is True
    earlier = headline(run)["earlier_verdicts"]
    assert [{key: one[key] for key in first} for one in earlier] == [first, second]
    assert [one["scores"]["wer"] for one in earlier] == [2 / 16] * 2


def test_scores_of_another_task_are_not_a_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workspace(tmp_path / "w")
    run = judged_run(place)
    monkeypatch.setattr(registry, "_FAMILIES", {**registry._FAMILIES, "tone": "toy_family"})
    before = headline(run)
    tones = []
    for model in ("base", "tone-1"):
        rows = [
            {"id": f"c{i}", "audio": "a.wav", "duration": 1.0, "speaker": f"s{i}", "source": None, "language": "cs",
             "reference": "low", "hypothesis": "low" if model == "tone-1" else "high"} for i in range(8)
        ]  # fmt: skip
        about = {"model": model, "set": "m", "context": "speech", "task": "audio-classification"}
        write_eval(place, place.scoring(model, "m", "speech"), rows, about, place.path("m.jsonl"))
        tones.append(place.scoring(model, "m", "speech"))
    with pytest.raises(GovorError, match="r1 is for automatic-speech-recognition, and these scores are of audio-class"):
        compare(place, *tones, "r1")
    assert headline(run) == before and not (place.manifests / "compare").exists()
    assert compare(place, *tones, "another").run == "another", "a run elsewhere, of which nothing is known here"
