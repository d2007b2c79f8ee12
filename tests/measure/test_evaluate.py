"""Scoring: what is written, what is refused, and what one bad row costs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from conftest import make_split, recipe_of, speech
from govor.corpus.manifests import read_clips, write_clips
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.measure.scoring import read_eval
from govor.timing.files import file_id

Govor = Callable[..., Any]


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


def test_audio_shorter_than_a_frame_is_scored(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    soundfile.write(workspace / "t.wav", speech(["sol"])[:80], 16_000)
    write_clips(workspace / "m.jsonl", [Clip("t", "t.wav", "sol", 0.005, "en")])
    (summary,) = json.loads(
        govor("evaluate", tiny_folder, "--manifest", "m.jsonl", "--context", "speech", "--json").stdout
    )
    assert summary["clips"] == 1 and summary["wer"] > 0


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


def test_cached_silence_is_scored_by_name_and_by_default_where_it_is_the_models_own(
    govor: Govor, workspace: Path, tiny_folder: Path, qwen_folder: Path
) -> None:
    test = make_split(workspace) / "test.jsonl"
    scored = json.loads(govor("evaluate", tiny_folder, "--manifest", test, "--json").stdout)
    assert [one["context"] for one in scored] == ["padded", "speech", "cached"]
    govor("evaluate", tiny_folder, "--manifest", test, "--context", "cached", "--overwrite")
    refused = govor("evaluate", qwen_folder, "--manifest", test, "--context", "cached", expect=2).stderr
    assert "cannot be given the audio context 'cached'" in refused


def test_a_run_trained_before_cached_silence_is_scored_packaged_and_used_so(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    examples = {"context": "cached", "contexts": {"speech": 0.5, "cached": 0.5}, "silence_steps": 2}
    recipe = recipe_of(workspace, tiny_folder, examples=examples)
    govor("train", recipe, "--device", "cpu")
    test = "manifests/splits/toy/test.jsonl"
    scored = json.loads(govor("evaluate", "models/whisper/toy", "--manifest", test, "--json").stdout)
    assert [one["context"] for one in scored] == ["padded", "speech", "cached"], "its own beside the usual ones"
    govor("package", "toy")
    card = Path("models/whisper/toy/README.md").read_text()
    assert "- audio context: cached, of the examples speech 50%, cached 50%" in card
    clip = next(iter(read_clips(workspace / test, workspace)))
    govor("transcribe", "models/whisper/toy", clip.file)
