"""Rows with their counts: stored, counted again, and added up."""

import json
from pathlib import Path

from govor.measure.scoring import read_eval, rescore, write_eval
from govor.metrics.recognition import summarise, with_counts
from govor.metrics.text import (
    NAME,
)
from govor.runs import Workspace


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


def test_an_older_scoring_is_counted_again_before_it_is_believed(workspace: Path) -> None:
    keep("a", [row(0, "STRASSE", "Straße")], normaliser="strict-v1", wer=1.0)
    path = Path("manifests/evals/a__s__padded.json")
    rows = [json.loads(line) | {"words": {"substitutions": 1, "deletions": 0, "insertions": 0, "length": 1}}
            for line in Path("manifests/evals/a__s__padded.clips.jsonl").read_text().splitlines()]  # fmt: skip
    Path("manifests/evals/a__s__padded.clips.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    summary, clips = read_eval(path)
    assert summary["normaliser"] == NAME and summary["wer"] == 0 and clips[0]["words"]["substitutions"] == 0


def test_counts_are_stored_so_that_rescoring_needs_no_model() -> None:
    (row,) = with_counts([{"reference": "a b", "hypothesis": "a c d"}])
    assert row["words"] == {"substitutions": 1, "deletions": 0, "insertions": 1, "length": 2}


def clips(hypotheses: list[str], reference: str = "kuća čaša đak") -> list[dict[str, object]]:
    return with_counts(
        [
            {"id": f"c{i}", "reference": reference, "hypothesis": text, "language": "hr", "duration": 1.5 + i % 12,
             "speaker": f"s{i % 3}", "source": None, "snr_db": 10.0 + i % 30}
            for i, text in enumerate(hypotheses)
        ]
    )  # fmt: skip


def test_rescoring_needs_the_texts_alone(workspace: Path) -> None:
    Path("m.jsonl").write_text('{"id": "a", "audio": "a", "transcript": "x", "duration": 1, "language": "hr"}\n')
    write_eval(
        Workspace(),
        Path("e/x"),
        clips(["kuca čaša đak"] * 4),
        {"model": "x", "set": "m", "context": "speech"},
        Path("m.jsonl"),
    )
    path = Path("e/x.json")
    before = json.loads(path.read_text())
    rows = [json.loads(line) for line in Path("e/x.clips.jsonl").read_text().splitlines()]
    old = [{key: value for key, value in row.items() if not key.startswith("lenient")} for row in rows]
    Path("e/x.clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    path.write_text(json.dumps({key: value for key, value in before.items() if key not in ("slices", "lenient")}))
    summary, filled = read_eval(path)
    assert "lenient_words" in filled[0] and summary["lenient"]["wer"] == 0
    assert rescore(path) == before
