"""The karaoke page in a real browser: the word that is said is the word that is lit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from browser import needs_browser, opened, until
from conftest import speech
from govor.errors import GovorError
from govor.timing.karaoke_page import write_page
from govor.timing.words import Line, Word
from messy import voice

SONG = ["Ljubav", "njena", "đačka"], ["džep", "</script><b>", "konj"]


def lines(words: tuple[list[str], ...]) -> list[Line]:
    flat = [word for line in words for word in line]
    timed = [Word(word, 0.5 * i, 0.5 * i + 0.4) for i, word in enumerate(flat)]
    cut = len(words[0])
    return [Line(tuple(timed[:cut])), Line((*timed[cut:], Word("nevyřčeno", None, None)))]


@pytest.fixture
def song(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "song.wav", speech(["sol", "mar"] * 6), 16_000)
    return tmp_path / "song.wav"


@needs_browser
def test_the_highlighted_word_follows_the_audio(song: Path) -> None:
    target = song.with_name("page.html")
    write_page(target, song, lines(SONG), "Pjesma", "bs", approximate=False)
    song.unlink()  # the page holds everything
    with opened(target) as page:
        until(page, "document.getElementById('audio').readyState >= 2")
        for moment, word in ((0.1, "Ljubav"), (1.2, "đačka"), (2.1, "</script><b>")):
            page.evaluate(f"document.getElementById('audio').currentTime = {moment}")
            until(page, f"document.querySelector('.now')?.textContent === {json.dumps(word)}")
            assert page.locator(".now").count() == 1
        assert page.locator(".line.current").inner_text().startswith("džep")
        page.evaluate("document.getElementById('audio').currentTime = 0.45")
        until(page, "document.querySelectorAll('.now').length === 0")
        assert page.locator(".sung").count() == 1, "between two words none is lit"
        # Playing moves it by itself.
        page.keyboard.press(" ")
        until(page, "document.querySelector('.now')?.textContent === 'njena'")
        page.keyboard.press(" ")
        page.locator("#script").click()
        assert (
            page.locator(".word").first.inner_text() == "Љубав" and page.locator("#script").inner_text() == "Latinica"
        )
        page.locator("#script").click()
        assert page.locator(".word").first.inner_text() == "Ljubav"
        page.locator(".word").nth(5).click()
        until(page, "document.querySelector('.now')?.textContent === 'konj'")
        assert page.locator(".untimed").inner_text() == "nevyřčeno"


@needs_browser
def test_right_to_left_songs_run_right_to_left(song: Path) -> None:
    target = song.with_name("page.html")
    write_page(target, song, lines((["שלום", "עולם"], ["יפה", "מאוד"])), "שיר", "he", approximate=True)
    with opened(target, dark=True) as page:
        first, second = (page.locator(".word").nth(i).bounding_box() for i in range(2))
        assert first["x"] > second["x"] and page.locator("#script").count() == 0
        assert "approximate" in page.locator("header").inner_text()


def test_a_song_without_times_is_refused(song: Path) -> None:
    with pytest.raises(GovorError, match="No word of x has a time"):
        write_page(song.with_name("p.html"), song, [Line((Word("a", None, None),))], "x", None, False)


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
