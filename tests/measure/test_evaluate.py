"""Defects that a hostile reader found, each mended once and kept mended."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from conftest import make_split, speech
from govor.corpus.manifests import read_clips, write_clips
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.families.base import Attention
from govor.measure.overlap import overlap
from govor.measure.partial import Partial
from govor.measure.remote import Server
from govor.measure.report.figures import letter_confusions
from govor.measure.scoring import read_eval
from govor.measure.timestamps import Case, _foreign_line, measure, scored
from govor.runs import Workspace
from govor.timing.align import Aligned, align, align_by_attention, snapped
from govor.timing.files import file_id
from govor.timing.recordings import Window, align_recording
from govor.timing.splice import Line, Splice
from govor.timing.subtitles import to_srt
from govor.timing.words import Word, filled, make_lines

Govor = Callable[..., Any]


def attention(owner: list[int], frames: int = 50) -> Attention:
    weights = np.full((1, len(owner), frames), 1e-4, np.float32)
    for token in range(len(owner)):
        weights[0, token, 10 * token : 10 * token + 10] = 0.1
    return Attention(weights, 0.02, tuple(owner), np.full(len(owner), -0.1, np.float32), ((0, 0),))


def loud(seconds: float) -> Any:
    return (0.3 * np.sin(np.arange(int(seconds * 16_000)) * 0.3)).astype(np.float32)


def test_characters_that_share_a_token_share_its_time() -> None:
    found = align_by_attention(loud(1.0), [" これ", "は", "日", "本", "語"], attention([0, 2]))
    assert found.refused is None and [word.text for word in found.words] == ["これ", "は", "日", "本", "語"]
    starts = [word.start for word in found.words]
    assert starts == sorted(starts) and all(word.end > word.start for word in found.words)  # type: ignore[operator]
    assert all(word.confidence == pytest.approx(0.905, abs=1e-3) for word in found.words)


def test_no_edge_is_moved_over_a_neighbour() -> None:
    samples = np.concatenate([np.zeros(8000, np.float32), loud(1.0), np.zeros(8000, np.float32)])
    assert snapped([(0.52, 0.60), (0.60, 0.90)], samples) == [(0.5, 0.60), (0.60, 0.90)]


def test_words_are_not_put_into_silence_nor_hundreds_into_a_second() -> None:
    silent = np.zeros(32_000, np.float32)
    assert align_by_attention(silent, [" pan"], attention([0])).refused == "nothing is audible"
    (many,) = align(object(), [loud(1.0)], [" ".join(["slovo"] * 500)], ["cs"])
    assert "500 words cannot be said in 1.00 s" in str(many.refused)
    assert align_by_attention(loud(1.0), [" …!?"], attention([0])).refused == "the text holds no word"


def test_text_between_runs_of_another_script_is_not_cut_anew() -> None:
    pieces = [" OK", *"漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字", "go", "日", "本", "語"]
    found = align_recording(object(), [Window(0.0, loud(3.0), "OK go日本語")], pieces, "ja")  # type: ignore[arg-type]
    assert len(found.words) == len(pieces) and found.words[0].start is not None


def test_a_stopped_scoring_survives_line_separators(tmp_path: Path) -> None:
    rows = [{"id": str(i), "hypothesis": f"a{mark}b"} for i, mark in enumerate(("\u2028", "\u2029", "\x85"))]
    Partial(tmp_path / "x", {"model": "m"}, False, False).add(rows)
    assert Partial(tmp_path / "x", {"model": "m"}, True, False).rows == rows
    empty = Partial(tmp_path / "y", {"model": "m"}, False, False)
    assert empty.path.exists() and Partial(tmp_path / "y", {"model": "other"}, False, False).rows == []


def test_a_finished_scoring_is_neither_replaced_nor_taken_for_another(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    import shutil

    test = make_split(workspace) / "test.jsonl"
    for place in ("a", "b"):
        shutil.copytree(tiny_folder, workspace / place / "mod")
    from govor.families.whisper.tiny import tiny

    tiny(seed=5).save(workspace / "b" / "mod")
    arguments = ("--manifest", test, "--context", "speech", "--resume")
    govor("evaluate", "a/mod", *arguments)
    kept = (workspace / "manifests/evals/mod__toy-test__speech.json").read_text()
    assert "is there already" in govor("evaluate", "a/mod", *arguments).stderr
    refused = govor("evaluate", "b/mod", *arguments, expect=2)
    assert "other weights, clips or settings" in refused.stderr
    assert (workspace / "manifests/evals/mod__toy-test__speech.json").read_text() == kept


def test_one_bad_row_costs_one_row(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    rows = list(read_clips(split / "test.jsonl"))
    long_id = "名" * 95
    write_clips(workspace / "m.jsonl", [rows[0].replace(language="xx"), rows[1].replace(id=long_id), *rows[2:]])
    done = govor("align", "m.jsonl", "--model", tiny_folder, "--json", expect=1)
    assert json.loads(done.stdout)["aligned"] == 3 and json.loads(done.stdout)["dropped"] == 1
    (lost,) = [json.loads(line) for line in (workspace / "m-aligned.dropped.jsonl").read_text().splitlines()]
    assert lost["rule"] == "not_aligned" and "no token for language 'xx'" in lost["message"]
    assert (workspace / "outputs" / file_id(long_id) / "transcription_base.json").exists()


def test_only_an_audit_is_replaced_by_an_audit(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace, train=40)
    (workspace / "precious").mkdir()
    (workspace / "precious/thesis.txt").write_text("years of work")
    found = govor("audit", split / "train.jsonl", "--model", tiny_folder, "--out", "precious", "--overwrite", expect=2)
    assert "holds other things than an audit" in found.stderr and (workspace / "precious/thesis.txt").exists()
    blind = govor("audit", split / "train.jsonl", "--model", tiny_folder, "--max-share", "1.0", expect=None)
    assert blind.returncode in (0, 1) and "Traceback" not in blind.stderr


def test_audio_shorter_than_a_frame_is_scored(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    soundfile.write(workspace / "t.wav", speech(["sol"])[:80], 16_000)
    write_clips(workspace / "m.jsonl", [Clip("t", "t.wav", "sol", 0.005, "en")])
    (summary,) = json.loads(
        govor("evaluate", tiny_folder, "--manifest", "m.jsonl", "--context", "speech", "--json").stdout
    )
    assert summary["clips"] == 1 and summary["wer"] > 0


@pytest.mark.parametrize("address", ["http://[::1", "http://localhost:abc", "http://"])
def test_an_address_that_is_none_is_one_sentence(address: str) -> None:
    with pytest.raises(GovorError, match="no address of a server"):
        Server(address, "x")


@pytest.mark.parametrize(
    ("summary", "row"),
    [
        ({"wer": None}, {}),
        ({"model": "../../evil"}, {}),
        ({}, {"hypothesis": None}),
        ({}, {"words": {}}),
    ],
)
def test_a_damaged_scoring_is_one_sentence(workspace: Path, summary: dict[str, Any], row: dict[str, Any]) -> None:
    counts = {"substitutions": 0, "deletions": 0, "insertions": 0, "length": 1}
    good = {"id": "a", "reference": "x", "hypothesis": "x", "words": counts, "characters": counts, "duration": 1.0}
    whole = {"model": "m", "set": "s", "context": "speech", "wer": 0.0}
    kept = {**whole, **summary} if summary != {"wer": None} else summary
    Path("e.json").write_text(json.dumps(kept))
    Path("e.clips.jsonl").write_text(json.dumps({**good, **row}) + "\n")
    with pytest.raises(GovorError):
        read_eval(Path("e.json"))


def test_one_unreadable_clip_costs_its_own_words_and_is_tried_again(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    test = make_split(workspace) / "test.jsonl"
    first, *_ = read_clips(test)
    whole = Path(first.audio).read_bytes()
    Path(first.audio).write_bytes(b"RIFF nothing")
    arguments = ("evaluate", tiny_folder, "--manifest", test, "--context", "speech")
    done = govor(*arguments, expect=1)
    assert f"failed  {first.id}" in done.stderr and "1 clips could not be scored and count as empty" in done.stderr
    file = workspace / "manifests/evals/tiny__toy-test__speech.json"
    summary, rows = read_eval(file)
    assert summary["clips"] == 4 and [item["id"] for item in summary["failed"]] == [first.id]
    assert rows[0]["hypothesis"] == "" and rows[0]["words"]["deletions"] == len(first.transcript.split())
    assert "1 clips as empty that could not be read" in govor("compare", file, file, expect=2).stderr
    Path(first.audio).write_bytes(whole)
    govor(*arguments, "--resume")
    summary, rows = read_eval(file)
    assert summary["failed"] == [] and rows[0]["hypothesis"]
    for clip in read_clips(test):
        Path(clip.audio).write_bytes(b"RIFF nothing")
    assert "None of the 4 clips" in govor(*arguments, "--overwrite", expect=2).stderr


def test_a_language_that_the_model_lacks_is_said_before_anything_is_transcribed(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    test = make_split(workspace) / "test.jsonl"
    *most, last = read_clips(test)
    write_clips(test, [*most, last.replace(language="xx")])
    done = govor("evaluate", tiny_folder, "--manifest", test, expect=2)
    assert "no token for language 'xx'" in done.stderr and not list(Path("manifests/evals").glob("*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--manifest", "TEST", "--server", "http://127.0.0.1:9", "--beam-size", "5"), "--beam-size does nothing with --server"),
        (("--manifest", "TEST", "--server", "http://127.0.0.1:9", "--context", "speech"), "--context does nothing with --s"),
        (("--manifest", "TEST", "--timestamps", "--resume"), "--resume does nothing with --timestamps"),
        (("--manifest", "TEST", "--concurrency", "2"), "--concurrency does nothing with a model here"),
        (("--manifest", "TEST", "--suite-data", "x"), "--suite-data does nothing with --manifest"),
        (("--suite", "hebrew", "--timestamps"), "--timestamps splices clips of a manifest"),
        (("--hallucination", "--max-samples", "3"), "--max-samples does nothing with --hallucination"),
    ],
)  # fmt: skip
def test_options_that_would_do_nothing_are_refused(
    govor: Govor, workspace: Path, tiny_folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    test = make_split(workspace) / "test.jsonl"
    given = [test if argument == "TEST" else argument for argument in arguments]
    assert said in govor("evaluate", tiny_folder, *given, expect=2).stderr


def test_every_copy_of_an_overlapping_clip_counts_and_empty_rows_do_not(workspace: Path) -> None:
    clips = []
    for name, words, text in (("a", "sol mar", "sol mar"), ("b", "sol mar", "sol mar"), ("c", "vid zem", "…")):
        soundfile.write(workspace / f"{name}.wav", speech(words.split()), 16_000)
        clips.append(Clip(name, f"{name}.wav", text, len(speech(words.split())) / 16_000, "en"))
    other = speech(["pan", "luna", "sol"], seed=5)
    soundfile.write(workspace / "d.wav", other, 16_000)
    training = [clips[0].replace(id="t"), Clip("d", "d.wav", "…", len(other) / 16_000, "en")]
    write_clips(workspace / "train.jsonl", training)
    found = overlap(Workspace(), clips, [workspace / "train.jsonl"])
    assert found["audio"] == 2 and found["sentence"] == 2 and found["ids"] == ["a", "b"]


def test_letters_of_clips_without_any_answer_are_counted() -> None:
    found = letter_confusions([{"reference": "aab", "hypothesis": ""}, {"reference": "", "hypothesis": "c"}])
    places = {letter: place for place, letter in enumerate(found["letters"])}
    assert found["counts"][places["a"]][places["∅"]] == 2 and found["counts"][places["∅"]][places["c"]] == 1


def test_align_does_not_replace_outputs_unasked(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    test = make_split(workspace) / "test.jsonl"
    first, *_ = read_clips(test)
    kept = workspace / "outputs" / file_id(first.id) / "transcription_base.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("corrected by hand")
    refused = govor("align", test, "--model", tiny_folder, expect=2)
    assert "transcription_base.json already exists" in refused.stderr and kept.read_text() == "corrected by hand"


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


def test_unsaid_words_are_lines_of_their_own_and_what_a_model_wrote_is_never_lost() -> None:
    said = [Word("Ahoj,", 1.0, 1.4), Word("tome.", 1.4, 1.9)]
    unsaid = [Word(word, None, None) for word in ["Tohle", "nikdo", "neřekl"]]
    lines = make_lines([*said, *unsaid, Word("Konec", 20.0, 20.5)])
    assert [line.text for line in lines] == ["Ahoj, tome.", "Tohle nikdo neřekl", "Konec"]
    assert "Tohle" not in to_srt(lines) and to_srt(lines).count("-->") == 2
    whole = filled([Word("a", None, None), *said, *unsaid], 0.0, 4.0)
    assert [round(word.start, 2) for word in whole if word.start is not None] == [0.0, 1.0, 1.4, 1.9, 2.56, 3.21]
    assert filled(unsaid, 0.0, 0.0)[-1].end == 0.0 and filled([], 0.0, 1.0) == []


def test_a_lost_line_is_no_better_than_a_misplaced_one() -> None:
    task = Case(loud(4.0), (" a", " b"), "cs", ((0, 1, 0.5, 1.0), (1, 2, 2.0, 3.0)))
    right, lost = Word("a", 0.5, 1.0), Word("b", None, None)
    found = scored([task], [Aligned((right, lost), "cross-attention")])
    assert found["offset_seconds"] == 0.5 and found["coverage"] == 0.5


def test_a_line_that_is_said_is_not_taken_for_unsaid(workspace: Path) -> None:
    one = Splice(loud(2.0), "cs", (Line("sol luna", 0.5, 1.0), Line("mar pan", 1.2, 1.8)))
    assert measure(object(), [one], "speech", None, ("unsaid line",)).get("unsaid line") is None
    other = Splice(loud(2.0), "cs", (Line("sol luna", 0.5, 1.0), Line("vid zem", 1.2, 1.8)))
    german = Splice(loud(2.0), "de", (Line("ganz anders", 0.5, 1.0), Line("noch mehr", 1.2, 1.8)))
    assert [_foreign_line([one, other, german], place) for place in range(3)] == ["vid zem", "mar pan", ""]
