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
from govor.measure.evaluate import read_eval
from govor.measure.partial import Partial
from govor.measure.remote import Server
from govor.timing.align import align, on_the_clock, snapped
from govor.timing.files import file_id
from govor.timing.recordings import Window, align_recording

Govor = Callable[..., Any]


def attention(owner: list[int], frames: int = 50) -> Attention:
    weights = np.full((1, len(owner), frames), 1e-4, np.float32)
    for token in range(len(owner)):
        weights[0, token, 10 * token : 10 * token + 10] = 0.1
    return Attention(weights, 0.02, tuple(owner), np.full(len(owner), -0.1, np.float32), ((0, 0),))


def loud(seconds: float) -> Any:
    return (0.3 * np.sin(np.arange(int(seconds * 16_000)) * 0.3)).astype(np.float32)


def test_characters_that_share_a_token_share_its_time() -> None:
    found = on_the_clock(loud(1.0), [" これ", "は", "日", "本", "語"], attention([0, 2]))
    assert found.refused is None and [word.text for word in found.words] == ["これ", "は", "日", "本", "語"]
    starts = [word.start for word in found.words]
    assert starts == sorted(starts) and all(word.end > word.start for word in found.words)  # type: ignore[operator]
    assert all(word.confidence == pytest.approx(0.905, abs=1e-3) for word in found.words)


def test_no_edge_is_moved_over_a_neighbour() -> None:
    samples = np.concatenate([np.zeros(8000, np.float32), loud(1.0), np.zeros(8000, np.float32)])
    assert snapped([(0.52, 0.60), (0.60, 0.90)], samples) == [(0.5, 0.60), (0.60, 0.90)]


def test_words_are_not_put_into_silence_nor_hundreds_into_a_second() -> None:
    silent = np.zeros(32_000, np.float32)
    assert on_the_clock(silent, [" pan"], attention([0])).refused == "nothing is audible"
    (many,) = align(object(), [loud(1.0)], [" ".join(["slovo"] * 500)], ["cs"])
    assert "500 words cannot be said in 1.00 s" in str(many.refused)
    assert on_the_clock(loud(1.0), [" …!?"], attention([0])).refused == "the text holds no word"


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
