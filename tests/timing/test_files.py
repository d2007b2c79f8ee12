"""Where results lie, each recording apart, and nothing replaced unasked."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from conftest import make_split
from govor.corpus.manifests import read_clips
from govor.runs import Workspace
from govor.timing.files import file_id, recording_folder
from messy import voice


@pytest.mark.parametrize(
    "names",
    [["x.wav", "x.flac"], ["a/x.wav", "a/x.flac", "b/x.wav"], ["x.wav", "X.WAV", "x.mp3"], ["a.wav", "b.wav"], ["a/x.wav", "a-x.wav"]],
)  # fmt: skip
def test_every_recording_has_a_folder_of_its_own(names: list[str]) -> None:
    paths = [Path(name) for name in names]
    folders = [recording_folder(Workspace(), path, paths) for path in paths]
    assert all(one != other for one, other in itertools.combinations(folders, 2)), "T25"


def test_one_recording_has_its_plain_name() -> None:
    assert recording_folder(Workspace(), Path("a/x.wav"), [Path("a/x.wav"), Path("b.wav")]) == Path("outputs/x")


def test_results_of_one_name_lie_apart(workspace: Path, govor: Callable[..., Any], tiny_folder: Path) -> None:
    for number, name in enumerate(("x.wav", "x.flac")):
        soundfile.write(name, voice(number, 1.0), 16_000)
    Path("x.txt").write_text("ano ne")
    model = str(tiny_folder)
    govor("transcribe", model, "x.wav", "x.flac", "--language", "cs", "--outputs")
    assert len(list(Path("outputs").glob("*/transcription_base.json"))) == 2, "T25"
    karaoke = ("karaoke", "x.wav", "x.txt", "--model", model, "--language", "cs")
    govor(*karaoke)
    assert "already exists" in govor(*karaoke, expect=2).stderr
    govor(*karaoke, "--out", "pages/other.html")
    assert Path("pages/other.html").is_file() and Path("x.html").is_file(), "another --out needs no --overwrite"


Govor = Callable[..., Any]


def test_align_does_not_replace_outputs_unasked(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    test = make_split(workspace) / "test.jsonl"
    first, *_ = read_clips(test)
    kept = workspace / "outputs" / file_id(first.id) / "transcription_base.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("corrected by hand")
    refused = govor("align", test, "--model", tiny_folder, expect=2)
    assert "transcription_base.json already exists" in refused.stderr and kept.read_text() == "corrected by hand"
