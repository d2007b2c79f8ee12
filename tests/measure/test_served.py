"""Scores as served: which search made them, what ran on, which few clips make the errors, and which decide a difference."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import make_split
from govor.measure.headline import compared
from govor.measure.lines import compare_lines, score_lines
from govor.measure.scoring import decoding_of, read_eval, write_eval
from govor.metrics.compare import compare
from govor.metrics.recognition import heavy, ran_on, with_counts
from govor.runs import Workspace
from rows import head_of

Govor = Callable[..., Any]
SAID = "jedna dva tři čtyři pět"
LOOP = "ne " * 200


def rows(*hypotheses: str, **of_all: object) -> list[dict[str, Any]]:
    return [
        {"id": f"c{i:03d}", "audio": f"{i}.wav", "offset": None, "duration": 2.0, "language": "cs", "speaker": None,
         "source": None, "snr_db": 20.0, "reference": SAID, "hypothesis": said, **of_all}
        for i, said in enumerate(hypotheses)
    ]  # fmt: skip


def filed(name: str, made: list[dict[str, Any]], **about: object) -> Path:
    Path("m.jsonl").write_text('{"id": "a", "audio": "a", "transcript": "x", "duration": 1, "language": "cs"}\n')
    file = Path(f"manifests/evals/{name}__m__speech")
    write_eval(Workspace(), file, made, {"model": name, "set": "m", "context": "speech", **about}, Path("m.jsonl"))
    return file.with_name(file.name + ".json")


def test_a_scoring_says_how_it_was_decoded_and_the_two_are_never_mixed(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    test = make_split(workspace) / "test.jsonl"
    arguments = ("evaluate", tiny_folder, "--manifest", test, "--context", "speech")
    govor(*arguments)
    served, plain = (workspace / f"manifests/evals/{name}__toy-test__speech.json" for name in ("tiny", "tiny-plain"))
    done = govor(*arguments, "--plain")
    assert "decoded plainly" in done.stdout and "tiny-plain on toy-test" in done.stdout
    (a, _), (b, plain_rows) = read_eval(served), read_eval(plain)
    assert (a["decoding"], b["decoding"]) == ("served", "plain")
    assert all("temperature" not in row and "retried" not in row["flags"] for row in plain_rows)
    said = govor("compare", plain, served).stdout
    assert "A was decoded plainly (--plain), B as engines do: a part of the difference may be that" in said
    assert "decoded" not in govor("compare", served, served).stdout
    assert "is there already" in govor(*arguments, "--plain", "--resume").stderr

    # A scoring of before, which was plain and did not say so.
    older = {
        key: value
        for key, value in json.loads(served.read_text()).items()
        if key not in ("decoding", "ran_on", "heavy")
    }
    served.write_text(json.dumps(older))
    assert decoding_of(older) == "plain" and read_eval(served)[0]["ran_on"]["clips"] >= 0
    refused = govor(*arguments, "--resume", expect=2).stderr
    assert "other weights, clips or settings (it was decoded plain)" in refused
    assert "A was decoded plainly" not in govor("compare", plain, served).stdout
    govor("rescore", served)
    assert "decoding" not in json.loads(served.read_text())
    served.unlink()
    head = {**{key: a[key] for key in ("model", "source", "set", "context", "beam_size", "engine", "precision", "weights")},
            "manifest": a["manifest"], "clips": a["clips"]}  # fmt: skip
    part = served.with_name("tiny__toy-test__speech.part.jsonl")
    part.write_text(json.dumps(head) + "\n" + json.dumps(plain_rows[0]) + "\n")
    assert "is of another scoring (decoding differ)" in govor(*arguments, "--resume", expect=2).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--manifest", "TEST", "--server", "http://127.0.0.1:9"), "--plain does nothing with --server"),
        (("--manifest", "TEST", "--timestamps"), "--plain does nothing with --timestamps"),
        (("--hallucination",), "--plain does nothing with --hallucination"),
    ],
)
def test_plain_is_refused_where_nothing_is_searched_for(
    govor: Govor, workspace: Path, tiny_folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    test = make_split(workspace) / "test.jsonl"
    given = [test if argument == "TEST" else argument for argument in arguments]
    assert said in govor("evaluate", tiny_folder, *given, "--plain", expect=2).stderr


def test_a_stopped_scoring_goes_on_with_the_draws_of_a_whole_one(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    test = make_split(workspace) / "test.jsonl"
    arguments = ("evaluate", tiny_folder, "--manifest", test, "--context", "speech")
    govor(*arguments)
    file = workspace / "manifests/evals/tiny__toy-test__speech.json"
    summary, whole = read_eval(file)
    assert any({"retried", "unsure", "loop"} & set(row["flags"]) for row in whole), "a tiny model doubts all it says"
    part = file.with_name("tiny__toy-test__speech.part.jsonl")
    part.write_text(
        "".join(json.dumps(row) + "\n" for row in ({**head_of(summary), "clips": summary["clips"]}, *whole[:2]))
    )
    file.unlink()
    govor(*arguments, "--resume")
    assert [row["hypothesis"] for row in read_eval(file)[1]] == [row["hypothesis"] for row in whole]


def test_loops_and_what_the_limit_cut_are_counted_with_and_without() -> None:
    made = with_counts(rows(*[SAID] * 6, "jedna", LOOP, "jedna dva", SAID))
    flags = [[], [], [], [], [], [], [], ["loop"], ["cut"], ["retried"]]
    found = ran_on([{**row, "flags": some} for row, some in zip(made, flags, strict=True)])
    assert {key: found[key] for key in ("loops", "cut", "retried", "clips", "ids")} == {
        "loops": 1, "cut": 1, "retried": 1, "clips": 2, "ids": ["c007", "c008"]
    }  # fmt: skip
    assert found["wer_without"] == pytest.approx(4 / 40)
    older = ran_on([{**row, "complete": row["id"] != "c008"} for row in made])
    assert (older["loops"], older["cut"], older["ids"]) == (1, 1, ["c007", "c008"]), "told by the words"
    assert ran_on(made[:3])["clips"] == 0 and ran_on(made[:3])["wer_without"] == 0
    assert ran_on([{**made[7], "flags": ["loop"]}])["wer_without"] is None


def test_few_clips_that_make_much_of_the_errors_are_named() -> None:
    even = with_counts(rows(*["jedna dva tři"] * 158))
    assert heavy(even) is None and heavy(with_counts(rows(*[SAID] * 9))) is None
    made = with_counts(rows(*["jedna dva tři čtyři"] * 156, "ne " * 30, "ne " * 28))
    found = heavy(made)
    assert found is not None and found["ids"] == ["c156", "c157"] and found["clips"] == 2
    assert found["share"] == pytest.approx(58 / 214, abs=1e-4)
    many = with_counts(rows(*["jedna dva tři čtyři"] * 500, *[LOOP] * 7))
    assert heavy(many)["clips"] == 5  # type: ignore[index]
    small = with_counts(rows(*["ne ne ne ne ne"] * 1900, *["ne " * 60] * 2))
    assert heavy(small) is None, "under a tenth of all errors"


def test_what_is_printed_names_them(workspace: Path) -> None:
    made = rows(*["jedna dva tři čtyři"] * 156, "ne " * 30, "ne " * 28)
    summary, _ = read_eval(filed("m", made, decoding="served"))
    lines = score_lines(summary).splitlines()
    assert len(lines) == 3 and lines[1].strip() == (
        "loops 2, cut by the limit 0, drawn again 0; WER without the 2 that loop or were cut 0.2000"
    )
    assert lines[2].strip() == "2 of 158 clips make 27% of all errors: c156, c157"
    quiet = filed("n", rows(*[SAID] * 20), decoding="served")
    assert len(score_lines(read_eval(quiet)[0]).splitlines()) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_a_difference_of_fewer_than_four_clips_is_said_to_be(workspace: Path, count: int) -> None:
    """B is better in every third clip; so many loops of its own hide it, and of many it is worse."""
    generator = np.random.default_rng(0)
    before = ["jedna dva tři" if generator.random() < 0.5 else SAID for _ in range(200)]
    after = [LOOP if i < count else SAID if i % 3 == 0 else old for i, old in enumerate(before)]
    result = compare(with_counts(rows(*before)), with_counts(rows(*after)), "A", "B")
    few = result["decided_by"]
    if count == 12:
        assert few is None
        return
    assert few["ids"] == [f"c{i:03d}" for i in range(count)]
    assert few["wer"]["difference"] < 0 < result["wer"]["difference"] and few["wer"]["p_value"] < 0.05
    pair = compared(Workspace(), filed("a", rows(*before)), filed("b", rows(*after)))
    said = compare_lines(pair["comparison"])
    decide, them = ("decides", "it") if count == 1 else ("decide", "them")
    assert f"{count} of 200 clips {decide} this ({', '.join(few['ids'])}): without {them} WER " in said
    assert "B is better by" in said


def test_a_gain_of_many_clips_hangs_on_none_and_one_of_few_does() -> None:
    worse = with_counts(rows(*["jedna dva"] * 60))
    assert compare(worse, with_counts(rows(*[SAID] * 30, *["jedna dva"] * 30)), "A", "B")["decided_by"] is None
    close = compare(worse, with_counts(rows(*[SAID] * 7, *["jedna dva"] * 53)), "A", "B")
    assert close["wer"]["p_value"] < 0.05 and len(close["decided_by"]["ids"]) == 2
    assert "no difference shown" in close["decided_by"]["verdict"]
    same = compare(worse, worse, "A", "B")
    assert same["decided_by"] is None
    assert compare(worse[:4], with_counts(rows(*[SAID] * 4)), "A", "B")["decided_by"] is None, (
        "no verdict, nothing to decide"
    )
