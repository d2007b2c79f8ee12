"""Where results lie, who says a line, what is printed. The names in brackets are rows of the table of faults."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from rich.console import Console

from govor.cli import console
from govor.corpus.records import Segment
from govor.errors import GovorError
from govor.families.registry import family_here, settings_of
from govor.families.whisper.tokens import WhisperTokens
from govor.runs import Workspace
from govor.timing.files import recording_folder
from govor.timing.lyrics import read_lyrics
from govor.timing.words import Line, Word, lines_of_speakers, segments_of
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


def test_lines_keep_their_speakers() -> None:
    words = [Word("Da.", 0.0, 0.5), Word("Zovem", 0.6, 0.9), Word("se", 0.9, 1.0), Word("Fata.", 1.0, 1.2)]
    segments = (Segment(0.0, 0.5, "Da.", "Mujo"), Segment(0.5, 1.5, "Zovem se  Fata.", "Fata"))
    lines = lines_of_speakers(words, segments)
    assert [(line.text, line.speaker) for line in lines] == [("Da.", "Mujo"), ("Zovem se Fata.", "Fata")]
    assert [segment.speaker for segment in segments_of(lines)] == ["Mujo", "Fata"]
    assert [line.speaker for line in lines_of_speakers(words[:2], segments)] == [None], "other words: nobody is guessed"
    assert isinstance(lines[0], Line)


def test_names_in_brackets_stay_in_the_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Console(record=True, width=200, force_terminal=True)
    monkeypatch.setattr(console, "err", shown)
    with console.bar("transcribe a [live] [/x].wav", 1) as bar:
        bar.to(1, 1, "[b]")
    assert "[live] [/x]" in shown.export_text(), "O12"


def test_lyrics_of_any_kind_and_a_time_line_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("[00:01.00]prvi\n[00:02.00]drugi")
    assert read_lyrics(tmp_path / "a.txt") == ["prvi", "drugi"]
    (tmp_path / "b.SRT").write_text("1\n00:00:xx --> 00:00:02,000\nx")
    with pytest.raises(GovorError, match=r"b.SRT: line 2"):
        read_lyrics(tmp_path / "b.SRT")


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


def test_a_result_of_karaoke_is_not_replaced_unasked(
    workspace: Path, govor: Callable[..., Any], tiny_folder: Path
) -> None:
    soundfile.write("x.wav", voice(0, 1.0), 16_000)
    Path("outputs/x").mkdir(parents=True)
    Path("outputs/x/karaoke.lrc").write_text("mine")
    asked = ("transcribe", tiny_folder, "x.wav", "--language", "cs", "--outputs")
    said = govor(*asked, expect=2).stderr
    assert "outputs/x/karaoke.lrc already exists; give --overwrite" in said and "--out." not in said
    assert Path("outputs/x/karaoke.lrc").read_text() == "mine"
    govor(*asked, "--overwrite")


@pytest.mark.parametrize("language", ["nb", "fil", "fil-PH", "jv", "he-IL"])
def test_what_whisper_calls_otherwise_passes_the_early_check(language: str, tiny_folder: Path) -> None:
    settings = settings_of(str(family_here(str(tiny_folder))))
    settings.check_language(language)
    WhisperTokens.load(tiny_folder).language(language)
    with pytest.raises(GovorError, match="no token for language 'xx'"):
        settings.check_language("xx")
