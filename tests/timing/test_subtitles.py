"""Every format is read back by somebody else's parser, with the times that were written."""

import json
import re
from pathlib import Path

import pysubs2
import pytest
import webvtt
from praatio import textgrid

from govor.corpus.transcripts import from_json, read
from govor.errors import GovorError
from govor.timing.files import file_id, output_path, write_outputs
from govor.timing.subtitles import FORMATS, right_to_left, write_format
from govor.timing.words import Line, Word, make_lines, ordered, pieces_of

# Times that a float's own rounding gets wrong, an hour mark, a word that lasts nothing, one that was not placed.
LINES = (
    Line((Word("Dobrý", 59.9996, 60.3), Word("den,", 60.3, 60.3004), Word("pane!", 60.5, 61.004))),
    Line((Word('"Ahoj"', 3599.996, 3600.2), Word("<b>&{x}", None, None), Word("světe", 3600.4, 3601.0))),
    Line((Word("шта", 3700.0, 3700.5), Word("је", 3700.5, 3700.75))),
    Line((Word("שלום", 3701.0, 3701.5), Word("עולם.", 3701.5, 3702.0))),
)


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Path]:
    kinds = list(FORMATS)
    return dict(zip(kinds, write_outputs(tmp_path / "x", LINES, kinds, 3800.0, language="cs"), strict=True))


@pytest.mark.parametrize("kind", ["srt", "ass"])
def test_pysubs2_reads_the_lines_and_their_times(written: dict[str, Path], kind: str) -> None:
    events = [event for event in pysubs2.load(str(written[kind]), encoding="utf-8") if not event.is_comment]
    assert len(events) == len(LINES)
    step = 10 if kind == "ass" else 1
    for event, line in zip(events, LINES, strict=True):
        assert abs(event.start - line.start * 1000) <= step and abs(event.end - line.end * 1000) <= step
        assert event.end > event.start
    said = events[0].plaintext.replace("\u200f", "")
    assert re.sub(r"<[^>]*>", "", said) == "Dobrý den, pane!"
    assert events[3].plaintext.strip("\u200f") == "שלום עולם."


def test_karaoke_durations_of_ass_add_up_to_the_line(written: dict[str, Path]) -> None:
    for event, line in zip(pysubs2.load(str(written["ass"])), LINES, strict=True):
        durations = [int(found) for found in re.findall(r"\\k(\d+)", event.text)]
        assert abs(sum(durations) - (line.end - line.start) * 100) <= 1


def test_praat_reads_both_tiers(written: dict[str, Path]) -> None:
    grid = textgrid.openTextgrid(str(written["textgrid"]), includeEmptyIntervals=False, reportingMode="error")
    assert grid.tierNames == ("lines", "words") and grid.maxTimestamp == 3800.0
    words = {entry.label: (entry.start, entry.end) for entry in grid.getTier("words").entries}
    assert words['"Ahoj"'] == (3599.996, 3600.2) and words["עולם."] == (3701.5, 3702.0)
    assert "den," not in words, "Praat takes no interval that lasts nothing"
    assert [entry.label for entry in grid.getTier("lines").entries][2] == "шта је"


def test_lrc_tags_words_and_rounds_from_integers(written: dict[str, Path]) -> None:
    lines = written["lrc"].read_text(encoding="utf-8").splitlines()
    assert written["lrc"].name == "karaoke.lrc"
    assert lines[0] == "[01:00.00] <01:00.00> Dobrý <01:00.30> den, <01:00.50> pane! <01:01.00>"
    assert [segment.start for segment in read("\n".join(lines), ".lrc").segments] == [60.0, 3600.0, 3700.0, 3701.0]


def test_json_and_srt_are_read_back_by_our_own_corpus(written: dict[str, Path]) -> None:
    content = written["json"].read_text(encoding="utf-8")
    assert json.loads(content)["language"] == "cs"
    assert from_json(content)[0].text == "Dobrý den, pane!"
    assert read(written["srt"].read_text(encoding="utf-8"), ".srt").segments[2].end == 3700.75
    assert json.loads(content)["segments"][1]["words"][1] == {"word": "<b>&{x}", "start": None, "end": None}


def test_a_vtt_word_tag_lies_within_its_cue(written: dict[str, Path]) -> None:
    captions = webvtt.read(str(written["vtt"]))
    assert [caption.start for caption in captions] == ["00:01:00.000", "00:59:59.996", "01:01:40.000", "01:01:41.000"]
    assert captions[2].end == "01:01:40.750" and captions[3].text == "שלום עולם."
    text = written["vtt"].read_text(encoding="utf-8")
    assert text.startswith("WEBVTT\n\n") and "&lt;b&gt;&amp;{x}" in text
    assert "Dobrý <00:01:00.300>den, <00:01:00.500>pane!" in text


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(GovorError, match="did you mean 'srt'"):
        write_format("str", LINES, 1.0)


def test_nothing_written_is_still_a_file_of_its_kind() -> None:
    for kind in FORMATS:
        assert "None" not in write_format(kind, [], 0.0) and "nan" not in write_format(kind, [], 0.0).lower()


@pytest.mark.parametrize(
    ("text", "language", "pieces"),
    [
        ("Dobrý  den,\npane!", "cs", [" Dobrý", " den,", " pane!"]),
        ("– Ano – ne …", "cs", [" – Ano –", " ne …"]),
        ("我们去 Paris 吧。", "zh", [" 我", "们", "去", " Paris", " 吧。"]),
        ("…", "cs", [" …"]),
        ("", "cs", []),
    ],
)
def test_pieces_are_what_gets_a_time(text: str, language: str, pieces: list[str]) -> None:
    assert pieces_of(text, language) == pieces
    assert "".join(pieces).split() == text.split()


def test_lines_break_at_pauses_and_before_they_are_too_long() -> None:
    words = [Word(f"word{i}", i * 0.5, i * 0.5 + 0.4) for i in range(20)]
    lines = make_lines([*words, Word("late", 20.0, 20.5)])
    assert all(len(line.text) <= 42 for line in lines) and lines[-1].text == "late"
    assert [word for line in lines for word in line.words][:20] == words


def test_words_never_run_back() -> None:
    fixed = ordered([Word("a", 1.0, 2.0), Word("b", None, None), Word("c", 0.5, 3.0), Word("d", 2.5, 2.6)])
    assert [(w.start, w.end) for w in fixed] == [(1.0, 1.0), (None, None), (1.0, 2.5), (2.5, 2.6)]


def test_a_folder_name_is_never_a_path() -> None:
    names = ["a/b", "a-b", "../../etc/passwd", "שלום", "x" * 300, "", "a b"]
    ids = [file_id(name) for name in names]
    assert len(set(ids)) == len(ids) and all("/" not in one and not one.startswith(".") for one in ids)
    assert file_id("clip-7") == "clip-7" and output_path(Path("o"), "lrc").name == "karaoke.lrc"


def test_direction_is_that_of_the_first_letter() -> None:
    assert right_to_left("... שלום hello") and not right_to_left("hello שלום") and not right_to_left("123")
