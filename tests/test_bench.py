"""What benches measured is kept and judged; the bench of an untouched Whisper runs on a tiny one."""

import json
from pathlib import Path

import pytest
from bench import __main__ as program
from bench import cached
from bench.results import Asked, Figure, Result, measured, ratio, stored, table

from conftest import make_split
from govor.corpus.records import Clip
from govor.errors import GovorError

SPEED = ratio("ours over theirs", 4.2, 4.0)
FIGURES = [SPEED, Figure("time", 3.5, "s", "lower"), Figure("WER", 0.4, "share", "lower", 0.3)]


def test_a_result_comes_back_from_its_file(tmp_path: Path) -> None:
    asked = Asked(model=str(tmp_path / "secret" / "mine"), clips=3)
    result = measured("near", FIGURES, asked)
    file = result.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["near.json"]
    assert stored("near", tmp_path) == result
    assert result.asked == {"model": "mine", "clips": 3}
    record = json.loads(file.read_text())
    assert record["figures"][0] == {
        "name": "ours over theirs", "value": 4.2, "unit": "ratio", "better": "higher", "goal": 4.0
    }  # fmt: skip
    assert record["machine"]["processor"] and record["date"] and "commit" in record
    # No names of hosts or folders: the files are committed.
    assert set(record["machine"]) == {"processor", "cpu_cores", "gpu", "python"}
    text = file.read_text()
    assert (
        str(tmp_path) not in text and str(Path(__file__).parents[1]) not in text and str(Path.home()) + "/" not in text
    )


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (ratio("a", 4.0, 4.0), "met"),
        (ratio("a", 3.99, 4.0), "missed"),
        (ratio("a", 0.99, 1.0, "lower"), "met"),
        (ratio("a", 1.01, 1.0, "lower"), "missed"),
        (ratio("a", 9.0), "no goal"),
    ],
)
def test_a_goal_is_met_in_the_direction_of_its_figure(figure: Figure, verdict: str) -> None:
    assert figure.verdict == verdict


def test_what_is_no_measurement_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nan"):
        ratio("a", float("nan"))
    with pytest.raises(ValueError, match="two figures of one name"):
        measured("near", [SPEED, SPEED], Asked())


def test_the_table_shows_this_run_and_what_is_kept(tmp_path: Path) -> None:
    Result("old", (ratio("slow", 0.5, 1.0), ratio("open", 2.0)), "2026-01-02T03:04:05+00:00", {"clips": 10}).write(
        tmp_path
    )
    measured("new", [ratio("stale", 1.0)], Asked()).write(tmp_path)
    (tmp_path / "cut.json").write_text('{"date": "2026')
    lines = table({"new": measured("new", FIGURES, Asked())}, ["new", "old", "cut", "never"], tmp_path).splitlines()
    rows = [[cell for cell in line.split("  ") if cell] for line in lines[:5]]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["bench", "figure", "value", "goal", "verdict", "measured"],
        ["new", "ours over theirs", "4.2", "≥ 4", "met", "now"],
        ["new", "WER", "0.4 share", "≤ 0.3", "missed", "now"],
        ["old", "slow", "0.5", "≥ 1", "missed", "2026-01-02 clips=10"],
        ["old", "open", "2", "no goal", "2026-01-02 clips=10"],
    ]
    assert lines[5] == "1 met, 2 missed, 1 no goal"
    assert "cut.json is not valid JSON" in lines[6] and len(lines) == 7


@pytest.mark.parametrize(
    "change", [{"better": "up"}, {"value": "fast"}, {"goal": "none"}, {"name": None}, {"value": True}]
)
def test_a_damaged_result_is_one_sentence(change: dict[str, object], tmp_path: Path) -> None:
    file = measured("near", FIGURES, Asked()).write(tmp_path)
    record = json.loads(file.read_text())
    record["figures"][0] |= change
    file.write_text(json.dumps(record))
    with pytest.raises(GovorError, match=r"near\.json"):
        stored("near", tmp_path)


def test_a_bench_that_fails_does_not_cost_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Asked] = {}

    def works(asked: Asked) -> list[Figure]:
        given["works"] = asked
        return FIGURES

    def lacks(_: Asked) -> list[Figure]:
        raise GovorError("the split is not there.")

    def breaks(asked: Asked) -> list[Figure]:
        given["breaks"] = asked
        raise RuntimeError("a bug")

    monkeypatch.setattr(program, "MEASUREMENTS", {"lacks": lacks, "breaks": breaks, "works": works})
    monkeypatch.setattr(program, "HEEDED", {"works": ("clips",)})
    results, failed = program.run(["lacks", "breaks", "works"], Asked("tiny", 5), tmp_path)
    assert failed == {"lacks": "the split is not there.", "breaks": "a bug"}
    assert given == {"works": Asked(clips=5), "breaks": Asked()}
    assert results["works"].asked == {"clips": 5}
    assert [path.name for path in tmp_path.iterdir()] == ["works.json"]
    told = capsys.readouterr()
    assert "not measured: the split is not there." in told.out
    assert "RuntimeError: a bug" in told.err and "GovorError" not in told.err


def test_every_bench_says_what_it_measured() -> None:
    for name, bench in program.MEASUREMENTS.items():
        assert bench.__annotations__["return"] == "list[Figure]", name
        assert name in (program.__doc__ or ""), name
    assert set(program.HEEDED) | set(program.AFTERNOONS) <= set(program.MEASUREMENTS)


def test_an_answer_is_stuck_where_it_repeats_itself_or_was_cut() -> None:
    sentence = "Co je to za divnou loď?"
    assert not cached.Answer(sentence, cut=False).stuck
    assert cached.Answer(sentence, cut=True).stuck
    assert cached.Answer(sentence * 12, cut=False).stuck
    assert not cached.Answer("", cut=False).stuck


def test_the_goal_is_judged_at_the_same_precision() -> None:
    def side(whole: float) -> cached.Measured:
        return cached.Measured([cached.Answer("a", False)], whole / 2, whole)

    measured_sides = {
        "transformers, padded, float32": side(9.0),
        "ours, cached, float32": side(1.0),
        "ours, padded, float32": side(5.0),
        "ours, ct2 padded, int8": side(2.0),
        "ours, ct2 padded, float32": side(4.0),
        "faster-whisper, int8": side(3.0),
        "faster-whisper, float32": side(6.0),
        "faster-whisper, defaults, float32": side(8.0),
    }
    found = {figure.name: figure for figure in cached._ratios(measured_sides, [Clip("a", "a.wav", "a", 1.0, "cs")])}
    whole = found["faster-whisper over ours, cached, float32, whole seconds"]
    assert (whole.value, whole.goal, whole.verdict) == (6.0, 4.0, "met")
    assert found["faster-whisper over ours, ct2 padded, int8, whole seconds"].verdict == "missed"
    assert found["ours, cached, float32 over faster-whisper, WER"].verdict == "met"


@pytest.mark.parametrize(
    ("asked", "message"),
    [(Asked(split="gone"), "no split"), (Asked(clips=0), "--clips 0"), (Asked(split="long"), "no clip under 5 s")],
)
def test_what_cannot_be_measured_is_one_sentence(asked: Asked, message: str, workspace: Path) -> None:
    file = make_split(workspace, name="long") / "test.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**row, "duration": 5.0}) + "\n" for row in rows))
    with pytest.raises(GovorError, match=message):
        cached.main(asked)


def test_an_untouched_whisper_is_measured_on_every_side(
    workspace: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faster_whisper")
    make_split(workspace, name="short")
    figures = {figure.name: figure for figure in cached.main(Asked(model=str(tiny_folder), clips=3, split="short"))}
    told = capsys.readouterr().out
    for side in (
        "transformers, padded, float32",
        *(f"ours, {context}, float32" for context in ("padded", "cached", "speech")),
        *(f"ours, ct2 padded, {precision}" for precision in ("int8", "float32")),
        *(f"faster-whisper, {precision}" for precision in ("int8", "float32")),
        "faster-whisper, defaults, float32",
    ):
        assert side in told
        assert figures[f"{side}, encoder"].value > 0 and figures[f"{side}, whole"].value > 0
        assert 0 <= figures[f"{side}, stuck"].value <= 3
    assert "3 clips under 5 s" in told and "(goal ≥ 4)" in told
