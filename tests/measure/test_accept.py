"""Runs are judged by what was measured, and by nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from govor import recipe as recipes
from govor.errors import GovorError
from govor.families.recogniser import RecognitionGates
from govor.measure.accept import judge
from govor.metrics.recognition import summarise, with_counts
from govor.runs import Run

Govor = Callable[..., Any]


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


def row(number: int, reference: str = "jedan dva", hypothesis: str = "jedan dva") -> dict[str, object]:
    about = {"language": "sr", "speaker": None, "source": None, "duration": 2.0, "audio": f"{number}.wav"}
    return {"id": f"c{number}", "reference": reference, "hypothesis": hypothesis, **about}


def keep(model: str, rows: list[dict[str, object]], **about: object) -> dict[str, object]:
    counted = with_counts(rows)
    summary = {"model": model, "set": "s", "context": "padded", **summarise(counted), **about}
    path = Path("manifests/evals") / f"{model}__s__padded"
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{path}.json").write_text(json.dumps(summary), encoding="utf-8")
    Path(f"{path}.clips.jsonl").write_text("".join(json.dumps(one) + "\n" for one in counted), encoding="utf-8")
    return summary


def test_the_stages_of_a_recipe_are_judged_by_name(workspace: Path, govor: Govor) -> None:
    """M9."""
    bcs = recipes.load("bcs-whisper-small").acceptance
    limits = {stage: bcs.at(stage)[1].gates() for stage in bcs.stages}
    times = {"timestamp_coverage": 0.8, "timestamp_offset_seconds": 0.2}
    assert limits == {
        "baseline": {"wer": 0.12, **times},
        "first-runs": {"wer": 0.3, **times},
        "production": {"wer": 0.2, **times},
    }
    assert bcs.at(None)[0] == "baseline"
    with pytest.raises(GovorError, match="There is no stage 'prod'"):
        bcs.at("prod")
    qwen = recipes.load("hebrew-qwen3-round3")
    assert qwen.finetune.phases[0].epochs == 3 and qwen.acceptance.at(None)[1].wer == 0.065
    assert qwen.acceptance.at("best-public")[1].wer == 0.051 and qwen.acceptance.at("best-public")[1].measured_on
    run = Path("models/whisper/r1")
    run.mkdir(parents=True)
    stages = {"stages": {"first": {"wer": 0.3}, "last": {"wer": 0.1}}}
    (run / "recipe.yaml").write_text(json.dumps({"examples": {"context": "padded"}, "acceptance": stages}))
    rows = [row(i, "a b c d e", "a b c d x" if i < 8 else "a b c d e") for i in range(10)]
    after = keep("r1", rows)
    headline = {"run": "r1", "contexts": {"padded": {"after": after}}}
    Path("manifests/eval_r1.json").write_text(json.dumps(headline))
    assert "stage: first" in govor("accept", "r1").stdout
    assert "stage: last" in govor("accept", "r1", "--stage", "last", expect=1).stdout
    assert "There is no stage 'next'" in govor("accept", "r1", "--stage", "next", expect=2).stderr
    assert "give one of them" in govor("accept", "r1", "--stage", "last", "--set", "wer=1", expect=2).stderr
    few = keep("r1", rows[-3:])
    Path("manifests/eval_r1.json").write_text(json.dumps({"run": "r1", "contexts": {"padded": {"after": few}}}))
    said = judge(Run(run))["gates"][0]
    assert said["passed"] and "3 clip(s) are too few to tell it from chance" in said["reason"]
    upper = judge(Run(run), RecognitionGates(wer_upper=0.9))
    assert not upper["accepted"] and "3 clip(s) give no interval" in upper["gates"][0]["reason"]
    Path("manifests/eval_r1.json").write_text(
        json.dumps({"run": "r1", "contexts": {"padded": {"after": {**few, "normaliser": "strict-v1"}}}})
    )
    assert "strict-v1, which has changed" in judge(Run(run))["gates"][0]["reason"]
