"""Timed text beside recordings: nothing becomes a transcript that is none, nothing that was said is lost in silence.

The names in brackets are rows of the table of faults of neighbouring tools that each case stands for.
"""

import html
import json
import random
import re
from pathlib import Path

import pysubs2
import pytest
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid

from govor.corpus import cues, labels, transcripts
from govor.corpus.records import Segment
from govor.errors import AudioError
from govor.timing.subtitles import FORMATS, write_format
from govor.timing.words import Line, Word

Spans = list[tuple[float, float | None, str]]


def spans(text: str, suffix: str) -> Spans:
    return [(s.start, s.end, s.text) for s in transcripts.read(text, suffix).segments]


ROLLING = """WEBVTT
Kind: captions
Language: sr

00:00:00.160 --> 00:00:03.430 align:start position:0%
\N{SPACE}
dobro<00:00:00.960><c> jutro</c><00:00:01.500><c> svima</c>

00:00:03.430 --> 00:00:03.440 align:start position:0%
dobro jutro svima
\N{SPACE}

00:00:03.440 --> 00:00:06.000 align:start position:0%
dobro jutro svima
kako<00:00:03.760><c> ste</c>

00:00:06.000 --> 00:00:06.010 align:start position:0%
kako ste
\N{SPACE}
"""
ASS = """[Script Info]
Title: proba

[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial

[Events]
Format: Start, End, Style, Name, Text
Comment: 0:00:00.00,0:00:09.00,Default,,nije rečeno
Dialogue: 0:00:02.00,0:00:03.00,Default,,{\\an8}Gore,\\Ndolje\\h{nota}
Dialogue: 0:00:01.00,0:00:01.50,Default,Fata,{\\k20}Dobar {\\kf30}dan
Dialogue: 0:00:04.00,0:00:05.00,Default,,{\\p1}m 0 0 l 10 10{\\p0}
"""
TTML = """<?xml version="1.0" encoding="UTF-16"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" ttp:frameRate="25">
<body><div begin="10s"><p begin="1s" end="2.5s">Prvi<br/>red &amp; <span>drugi</span></p>
<p begin="00:00:03:05" dur="500ms">treći</p></div></body></tt>"""
GRID = '''File type = "ooTextFile"
Object class = "TextGrid"

0 ! begins
5
<exists>
2
"IntervalTier" "Fata" 0 5 2 0 1.5 "reče ""da""" 1.5 5 ""
"IntervalTier" "Mujo" 0 5 2 0 2 "" 2 5 "ne 3"
'''
EAF = """<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="milliseconds"/><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="500"/><TIME_SLOT TIME_SLOT_ID="b"/><TIME_SLOT TIME_SLOT_ID="c" TIME_VALUE="1500"/>
</TIME_ORDER><TIER TIER_ID="t" PARTICIPANT="Fata">
<ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="a" TIME_SLOT_REF2="b"><ANNOTATION_VALUE>dobar</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="b" TIME_SLOT_REF2="c"><ANNOTATION_VALUE>dan</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
</TIER><TIER TIER_ID="prevod" PARENT_REF="t"><ANNOTATION><REF_ANNOTATION><ANNOTATION_VALUE>good</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""


@pytest.mark.parametrize(
    ("suffix", "text", "wanted"),
    [
        pytest.param(".srt", "1\n00:00:01,000 --> 00:00:04,000\nPrvi red\n2\n00:00:04 --> 00:00:07\nDrugi red", [(1.0, 4.0, "Prvi red"), (4.0, 7.0, "Drugi red")], id="P1 no milliseconds"),
        pytest.param(".srt", "1\n00:01 --> 00:02\nprvi\n\n2\n01:02 -> 01:03\ndrugi", [(1.0, 2.0, "prvi"), (62.0, 63.0, "drugi")], id="P1 no hours, a short arrow"),
        pytest.param(".srt", "1\n00:00:01,000 --> 00:00:02,000\nprvi\n\n2\n00:00:03,5 --> 00:00:4,8\ndrugi\n\n3\n0:0:5 --> 0:0:6.25\ntreći", [(1.0, 2.0, "prvi"), (3.5, 4.8, "drugi"), (5.0, 6.25, "treći")], id="P2"),
        pytest.param(".srt", "1\n00:00:01,000 --> 00:00:02,000\nprvi\n\ndrugi red istog titla\n\n2\n00:00:03,000 --> 00:00:04,000\nkraj", [(1.0, 2.0, "prvi drugi red istog titla"), (3.0, 4.0, "kraj")], id="P5"),
        pytest.param(".vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nprvi\n\ni drugi\n\nNOTE nije\nrečeno\n\nime titla\n00:03.000 --> 00:04.000\nkraj\n\nNOTE kraj", [(1.0, 2.0, "prvi i drugi"), (3.0, 4.0, "kraj")], id="P5 VTT"),
        pytest.param(".srt", "1\n-00:00:01,000 --> 00:00:02,000\nprvi", [(0.0, 2.0, "prvi")], id="P6"),
        pytest.param(".vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nR&amp;B &lt;3 jedan&nbsp;dva &#39;da&#39; &rlm;AT&T &copy", [(1.0, 2.0, "R&B <3 jedan dva 'da' AT&T &copy")], id="P8"),
        pytest.param(".vtt", ROLLING, [(0.16, 3.43, "dobro jutro svima"), (3.44, 6.0, "kako ste")], id="P9"),
        pytest.param(".srt", "1\n00:00:01,000 --> 00:00:02,000\nNe.\n\n2\n00:00:02,000 --> 00:00:03,000\nNe.\n\n3\n00:00:03,000 --> 00:00:04,000\nNe.\nDa.", [(1.0, 2.0, "Ne."), (2.0, 3.0, "Ne."), (3.0, 4.0, "Ne. Da.")], id="P9 what is really said twice"),
        pytest.param(".lrc", "[00:01.00] <00:01.00> R&B <00:01.60> svira, <00:02.00>\n[00:08.00] <00:08.00> kraj <00:09.50>", [(1.0, 2.0, "R&B svira,"), (8.0, 9.5, "kraj")], id="P11"),
        pytest.param(".lrc", "[00:00:01.45]sat\n[01:00:02.00]drugi", [(1.45, 3602.0, "sat"), (3602.0, None, "drugi")], id="O20 hours"),
        pytest.param(".lrc", "[ti:x]\n[00:01.00]prvi\nnastavak\n[Chorus]\n[00:03.00]", [(1.0, 3.0, "prvi nastavak")], id="O20 a line goes on"),
        pytest.param(".srt", "1\n00:00:01,000 --> 00:00:02,000\n{\\an8}<font color=\"#ff0000\">Gore</font>\\Ndolje", [(1.0, 2.0, "Gore dolje")], id="P13"),
        pytest.param(".json", '[{"start":1,"end":2,"text":"drugi"},{"start":0,"end":1,"text":"prvi"},{"start":3,"end":4,"text":null}]', [(0.0, 1.0, "prvi"), (1.0, 2.0, "drugi")], id="O23 P32"),
        pytest.param(".json", '{"chunks":[{"timestamp":[0.5,1.0],"text":" da"},{"timestamp":[2,null],"text":"ne"}]}', [(0.5, 1.0, "da"), (2.0, None, "ne")], id="transformers"),
        pytest.param(".json", '{"transcription":[{"offsets":{"from":0,"to":1500},"text":" da"}]}', [(0.0, 1.5, "da")], id="whisper.cpp"),
        pytest.param(".json3", '{"events":[{"tStartMs":0,"dDurationMs":4000,"segs":[{"utf8":"da"},{"utf8":" ne","tOffsetMs":500}]},{"tStartMs":900,"segs":[{"utf8":"\\n"}]},{"tStartMs":1000,"dDurationMs":1000,"segs":[{"utf8":"kraj"}]}]}', [(0.0, 1.0, "da ne"), (1.0, 2.0, "kraj")], id="YouTube"),
        pytest.param(".json", '{"results":{"items":[{"start_time":"0.5","end_time":"0.9","alternatives":[{"content":"Da"}],"type":"pronunciation"},{"alternatives":[{"content":"."}],"type":"punctuation"},{"start_time":"3","end_time":"4","alternatives":[{"content":"Ne"}],"type":"pronunciation"}]}}', [(0.5, 0.9, "Da."), (3.0, 4.0, "Ne")], id="AWS"),
        pytest.param(".txt", "0.500000\t3.363500\tKako si\n\\\t100\t200\n4,0\t5,5\tDobro\n6.0\t6.0\ti ti\n", [(0.5, 3.3635, "Kako si"), (4.0, 5.5, "Dobro"), (6.0, None, "i ti")], id="A3"),
        pytest.param(".txt", "1\n00:00:01,000 --> 00:00:02,000\nprvi", [(1.0, 2.0, "prvi")], id="A3 subtitles named .txt"),
        pytest.param(".txt", "[00:00:01.000 --> 00:00:02.000]  Prvi\n[00:00:02.000 --> 00:00:03.500]  Drugi", [(1.0, 2.0, "Prvi"), (2.0, 3.5, "Drugi")], id="A3 what Whisper prints"),
        pytest.param(".txt", "[00:01.00]prvi\n[00:02.00]drugi", [(1.0, 2.0, "prvi"), (2.0, None, "drugi")], id="A3 lyrics named .txt"),
        pytest.param(".txt", "0.500000 3.363500 Kako si\n4.000000 5.5000  Dobro, 5.00 puta", [(0.5, 3.3635, "Kako si"), (4.0, 5.5, "Dobro, 5.00 puta")], id="A3 spaces for tabs"),
        pytest.param(".txt", "0:00\nדקה אחת\n1:05\nועוד\nשורה\n1:01:00\nסוף", [(0.0, 65.0, "דקה אחת"), (65.0, 3660.0, "ועוד שורה"), (3660.0, None, "סוף")], id="A3 times in lines of their own"),
        pytest.param(".txt", "[00:00:01] prvi\n[00:01:10] drugi", [(1.0, 70.0, "prvi"), (70.0, None, "drugi")], id="A3 hours, not hundredths"),
        pytest.param(".txt", "(0:01) prvi\n(0:03) drugi", [(1.0, 3.0, "prvi"), (3.0, None, "drugi")], id="A3 times in brackets"),
        pytest.param(".txt", "00:00:01,5 - 你好\n00:00:04,25 - 再见", [(1.5, 4.25, "你好"), (4.25, None, "再见")], id="A3 times and a dash"),
        pytest.param(".srt", "1\n00:00:01,000 --> 00:00:02,000\nGore<br>dolje<br/>lijevo", [(1.0, 2.0, "Gore dolje lijevo")], id="P13 a break as a tag"),
        pytest.param(".sbv", "0:00:01.000,0:00:02.000\nprvi[br]drugi", [(1.0, 2.0, "prvi drugi")], id="P13 a break of SBV"),
        pytest.param(".vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n<ruby>漢字<rp>(</rp><rt>かんじ</rt><rp>)</rp></ruby>です", [(1.0, 2.0, "漢字です")], id="readings of ruby are said once"),
        pytest.param(".json", '[{"start":0,"end":1,"text":"prvi"},{"start":1,"end":2,"speaker":"A"}]', [(0.0, 1.0, "prvi")], id="P32 no text at all"),
        pytest.param(".tsv", "start\tend\ttext\n1500\t2000\tdrugi\n0\t1500\tprvi\n", [(0.0, 1.5, "prvi"), (1.5, 2.0, "drugi")], id="O23 whisper's table"),
        pytest.param(".tsv", "start\tend\ttext\n0\t1500\tprvi\n1500\t2000\tdrugi\n", [(0.0, 1.5, "prvi"), (1.5, 2.0, "drugi")], id="whisper's table"),
        pytest.param(".sbv", "0:00:01.000,0:00:02.500\nprvi\nred\n\n0:00:03.000,0:00:04.000\ndrugi", [(1.0, 2.5, "prvi red"), (3.0, 4.0, "drugi")], id="SBV"),
        pytest.param(".ass", ASS, [(1.0, 1.5, "Dobar dan"), (2.0, 3.0, "Gore, dolje")], id="ASS"),
        pytest.param(".ttml", TTML, [(11.0, 12.5, "Prvi red & drugi"), (13.2, 13.7, "treći")], id="TTML"),
        pytest.param(".TextGrid", GRID, [(0.0, 1.5, 'reče "da"'), (2.0, 5.0, "ne 3")], id="TextGrid"),
        pytest.param(".eaf", EAF, [(0.5, 1.0, "dobar"), (1.0, 1.5, "dan")], id="EAF"),
        pytest.param(".srt", "\ufeff1\r\r\n00:00:01,000 --> 00:00:02,000\r\r\n42\r\r\n\r\r\n2\r\r\n00:00:03,000 --> 00:00:04,000\r\r\nkraj", [(1.0, 2.0, "42"), (3.0, 4.0, "kraj")], id="doubled line ends"),
        pytest.param(".srt", "00:00:01,000 --> 00:00:02,000\n42\n00:00:02,000 --> 00:00:03,000\n43\n\n00:00:03,000 --> 00:00:04,000\nkraj", [(1.0, 2.0, "42"), (2.0, 3.0, "43"), (3.0, 4.0, "kraj")], id="cues without numbers"),
        pytest.param(".srt", "1\n00:00:01,000 --> 00:00:04,000 X1:10 X2:20\na\n\n2\n00:00:02,000 --> 00:00:03,000\nb", [(1.0, 4.0, "a"), (2.0, 3.0, "b")], id="cues that overlap"),
    ],
)  # fmt: skip
def test_what_is_read(suffix: str, text: str, wanted: Spans) -> None:
    assert spans(text, suffix) == wanted
    assert transcripts.read(text, suffix).text == " ".join(said for *_, said in wanted)


@pytest.mark.parametrize(
    ("suffix", "text", "named"),
    [
        pytest.param(".srt", "1\n00:00:01,000 --> 00:00:02,000\nprvi\n\n2\n00:00:xx,000 --> 00:00:04,000\ndrugi", "line 6", id="P1"),
        pytest.param(".srt", "1\n00:00:01:12 --> 00:00:02:10\nprvi", "line 2", id="frames"),
        pytest.param(".srt", "1\n00:00:01,000 --> 00:00:02,000 Zdravo\nprvi", "line 2", id="text beside the times"),
        pytest.param(".vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nprvi --> drugi", "line 4", id="an arrow in the text"),
        pytest.param(".srt", "Naslov\n\n1\n00:00:01,000 --> 00:00:02,000\nprvi", "line 1", id="text before the first time"),
        pytest.param(".srt", "1\n-00:00:03,000 --> -00:00:02,000\nprvi", "before the recording", id="P6"),
        pytest.param(".srt", "1\n00:00:05,000 --> 00:00:02,000\nprvi", "before it starts", id="O22"),
        pytest.param(".vtt", "WEBVTT\n\n00:05.000 --> 00:02.000\nprvi", "before it starts", id="O22 VTT"),
        pytest.param(".sbv", "0:00:05.000,0:00:02.000\nprvi", "before it starts", id="O22 SBV"),
        pytest.param(".ass", "[Events]\nDialogue: 0,0:00:05.00,0:00:02.00,D,,0,0,0,,x", "before it starts", id="O22 ASS"),
        pytest.param(".ass", "[Events]\nDialogue: 0,0:00:0x.00,0:00:02.00,D,,0,0,0,,x", "line 2", id="ASS time"),
        pytest.param(".ttml", '<tt><body><p begin="5s" end="2s">x</p></body></tt>', "before it starts", id="O22 TTML"),
        pytest.param(".ttml", '<!DOCTYPE a [<!ENTITY b "bb">]><tt>&b;</tt>', "document type", id="TTML entities"),
        pytest.param(".ttml", "<a>" * 5000 + "</a>" * 5000, "deeper", id="TTML depth"),
        pytest.param(".txt", "0.5\t1.0\tda\nnešto drugo", "line 2", id="A3"),
        pytest.param(".txt", "prvi red\n00:00:01 --> nešto", "line 2", id="A3 subtitles that begin with text"),
        pytest.param(".lrc", "[ti:x]\nprvi red", "line 2", id="O20"),
        pytest.param(".lrc", "[00:01.00]prvi\n[00.02]drugi", "line 2", id="LRC time"),
        pytest.param(".lrc", "".join(f"[00:0{n}.00]a{n}\n[00:0{n}.00]b{n}\n" for n in range(4)), "translation", id="LRC of two languages"),
        pytest.param(".json", '{"segments":[{"start":0,"end":1,"text":["a"]}]}', "the text of a segment", id="P32 a list"),
        pytest.param(".json", '{"segments":[{"start":0,"end":1,"text":false}]}', "the text of a segment", id="P32 a truth value"),
        pytest.param(".json", '[{"start":0,"end":1,"content":"a"}]', "start, end, text", id="P32 words under another name"),
        pytest.param(".json", '{"segments":[{"start":true,"end":2,"text":"a"}]}', "number of seconds", id="JSON time"),
        pytest.param(".srt", "\n\n".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{' '.join('abcdef'[:n])}" for n in range(1, 6)), "grow word by word", id="P9 captions that grow"),
        pytest.param(".TextGrid", GRID.replace('"" 2 5', '"isto" 2 5'), "twice", id="TextGrid with a translation"),
        pytest.param(".TextGrid", GRID[:-12], "TextGrid cut short", id="TextGrid cut"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where(suffix: str, text: str, named: str) -> None:
    with pytest.raises(AudioError, match=named) as error:
        transcripts.read(text, suffix)
    assert error.value.rule == "bad_transcript" and "\n" not in str(error.value)


def test_subtitles_and_lyrics_without_a_word_are_empty_and_no_error() -> None:
    for suffix, text in (
        (".srt", ""),
        (".vtt", "WEBVTT\n"),
        (".lrc", "[ti:x]\n[ar:y]\n"),
        (".json", '{"segments": []}'),
    ):
        assert transcripts.read(text, suffix).text == ""


@pytest.mark.parametrize(
    ("suffix", "text", "wanted", "speakers"),
    [
        (".srt", "1\n00:00:01,000 --> 00:00:02,000\nFata: Zovem se Fata.\n\n2\n00:00:02,000 --> 00:00:03,000\n- Mujo: Dobro.\n- Fata: Hvala.", "Zovem se Fata. Dobro. Hvala.", ["Fata", "Mujo", "Fata"]),
        (".vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Fata>Zovem se</v> <v.loud Mujo M.>ne", "Zovem se ne", ["Fata", "Mujo M."]),
        (".json", '{"segments":[{"start":0,"end":1,"text":" da","speaker":"SPEAKER_00"},{"start":1,"end":2,"text":"ne"}]}', "da ne", ["SPEAKER_00", None]),
        (".ass", ASS, "Dobar dan Gore, dolje", ["Fata", None]),
        (".TextGrid", GRID, 'reče "da" ne 3', ["Fata", "Mujo"]),
        (".eaf", EAF, "dobar dan", ["Fata", "Fata"]),
        (".srt", "1\n00:00:01,000 --> 00:00:02,000\nרותי: שלום\n\n2\n00:00:02,000 --> 00:00:03,000\nדן: מה נשמע", "שלום מה נשמע", ["רותי", "דן"]),
        (".srt", "1\n00:00:01,000 --> 00:00:02,000\nFata: Jesi li tu?\nMujo: Jesam.\n\n2\n00:00:03,000 --> 00:00:04,000\nI tako\n\n3\n00:00:04,000 --> 00:00:05,000\nsve\ndo kraja", "Jesi li tu? Jesam. I tako sve do kraja", ["Fata", "Mujo", None, None]),
        (".srt", "1\n00:00:01,000 --> 00:00:02,000\n>> FATA: Dobro.", "Dobro.", ["FATA"]),
        (".json", '{"results":{"channels":[{"alternatives":[{"words":[{"word":"da","start":0,"end":0.5,"speaker":0},{"word":"ne","start":0.5,"end":1,"speaker":1}]}]}]}}', "da ne", ["0", "1"]),
        (".json", '[{"start":0,"end":1,"text":"da","speaker_id":7},{"start":1,"end":2,"text":"ne","words":[{"word":"ne","start":1,"end":2,"speaker":"B"}]}]', "da ne", ["7", "B"]),
        (".srt", "1\n00:00:01,000 --> 00:00:02,000\nRekao je: dođi u 12: 30.\nIvanu: Sutra", "Rekao je: dođi u 12: 30. Ivanu: Sutra", [None]),
    ],
)  # fmt: skip
def test_speakers_are_kept_and_are_no_words(suffix: str, text: str, wanted: str, speakers: list[str | None]) -> None:
    found = transcripts.read(text, suffix)
    assert found.text == wanted and [segment.speaker for segment in found.segments] == speakers


def test_prefixes_of_a_text_are_counted() -> None:
    found = transcripts.read("Fata: Zovem se Fata.\nMujo: Dobro.\nFata: Hvala.\n", ".txt")
    assert found.text == "Zovem se Fata. Dobro. Hvala." and found.prefixes == {"Fata": 2, "Mujo": 1}
    for text, names in (
        ("Fata: Zovem se Fata\nMujo: A ja Mujo\nFata: Dobro\n", {"Fata": 2, "Mujo": 1}),
        ("דנה: שלום\nיוסי: מה נשמע?\nדנה: טוב\n", {"דנה": 2, "יוסי": 1}),
        ("อาจารย์: สวัสดี\nนักเรียน: สวัสดีครับ\n", {"อาจารย์": 1, "นักเรียน": 1}),
        ('ד"ר כהן: שלום\nדָּנָה: מה נשמע\n', {'ד"ר כהן': 1, "דָּנָה": 1}),
        ("Z\u030celjko: dobro\nS\u030cime: i ja\n", {"Z\u030celjko": 1, "S\u030cime": 1}),
        ("FATA:\nDobar dan.\nMUJO:\nZdravo.\nKako si?\n", {"FATA": 1, "MUJO": 1}),
        ("张三：你好。\n李四：再见。\n", {"张三": 1, "李四": 1}),
        ("Rakoto: salama\nRabe: salama e\n", {"Rakoto": 1, "Rabe": 1}),
    ):
        found = transcripts.read(text, ".txt")
        assert found.prefixes == names and ":" not in found.text and "：" not in found.text
        assert found.speakers == tuple(names), "nobody's words are given to another"
    for said in (
        "U priči je rekao da Ivan: Sutra ne dolazi",
        "12:30 je sati",
        "10:30, 11:30 ili 12",
        "3.14 2.71 su brojevi",
    ):
        assert transcripts.read(said.replace(" ne ", "\nne ").replace(" Ivan", "\nIvan"), ".txt").text == said
    for said in ("Napomena: sutra ne radimo.", "U 12:30 smo krenuli.", "Adresa je: Ulica 5", "http://example.org: da"):
        assert transcripts.read(said, ".txt").text == said


def test_an_open_line_with_words_ends_with_the_clip() -> None:
    inside = (Segment(0.5, None, "a"), Segment(1.0, None, ""), Segment(2.0, 3.0, "b"))
    assert transcripts.closed(inside, 4.0) == (Segment(0.5, 1.0, "a"), Segment(2.0, 3.0, "b")), "not with the clip"
    open_ended = (Segment(0.0, 1.0, "a"), Segment(1.0, None, "b"))
    assert [segment.end for segment in transcripts.closed(open_ended, 3.0)] == [1.0, 3.0]


def test_an_open_line_with_words_ends_where_the_next_one_begins() -> None:
    """Ended with the clip, its times would run into the next line's and go back: no Whisper saw that."""
    open_ended = (Segment(0.0, None, "a"), Segment(1.0, None, "b"), Segment(2.0, None, ""))
    assert [segment.end for segment in transcripts.closed(open_ended, 3.0)] == [1.0, 2.0, None]
    together = (Segment(1.0, None, "a"), Segment(1.0, None, "b"))
    assert [segment.end for segment in transcripts.closed(together, 3.0)] == [3.0, 3.0]


# --- what is written is read back

LETTERS = "abčšЖש你 .,'\"&<>{}\\:-/;()[]0123"
texts = st.text(st.sampled_from(LETTERS), min_size=1, max_size=12).map(lambda t: " ".join(t.split())).filter(str.strip)
markup = st.sampled_from(["<b>", "&amp;", "{\\an8}", "\\N", "-->", "Fata: Da", "42", "<00:01.00>", "[x]", '"', "a|b"])


@st.composite
def written_lines(draw: st.DrawFn) -> list[Line]:
    lines, at = [], 0
    for _ in range(draw(st.integers(1, 4))):
        words = []
        for number in range(draw(st.integers(1, 4))):
            at += draw(st.integers(0, 300))
            length = draw(st.integers(5, 200))
            text = draw(st.one_of(texts, markup))
            words.append(Word(text, at / 100, (at + length) / 100, space=number == 0 or draw(st.booleans())))
            at += length
        lines.append(Line(tuple(words), draw(st.sampled_from([None, None, "Fata", "Mujo & Ko"]))))
    return lines


@settings(max_examples=150, deadline=None, derandomize=True)
@given(written_lines())
def test_every_format_is_read_back_equal(lines: list[Line]) -> None:
    for kind in ("json", "srt", "vtt", "lrc", "ass", "textgrid"):
        found = transcripts.read(write_format(kind, lines, 100.0), FORMATS[kind])
        context = kind, write_format(kind, lines, 100.0)
        assert [s.text for s in found.segments] == [line.text for line in lines], context
        assert [(s.start, s.end) for s in found.segments] == [(line.start, line.end) for line in lines], context
        if kind in ("json", "vtt", "ass"):
            assert [s.speaker for s in found.segments] == [line.speaker for line in lines], context
        if kind in ("json", "ass", "textgrid"):
            said = [(w["word"], w["start"], w["end"]) for w in found.words]
            assert said == [(w.text, w.start, w.end) for line in lines for w in line.words], context


@pytest.mark.parametrize(
    ("kind", "judge"),
    [
        ("srt", lambda file: [e.plaintext.replace("\u2060", "") for e in pysubs2.load(str(file), encoding="utf-8")]),
        ("vtt", lambda file: [html.unescape(c.text) for c in webvtt.read(str(file))]),
        ("textgrid", lambda file: [e.label for e in textgrid.openTextgrid(str(file), False).getTier("lines").entries]),
    ],
)  # fmt: skip
def test_other_readers_find_what_ours_finds(tmp_path: Path, kind: str, judge: object) -> None:
    lines = [
        Line((Word("Dobar", 1.0, 1.5), Word("dan,", 1.5, 2.0))),
        Line((Word("R&B", 3.0, 3.5), Word('"x"', 3.5, 4.0))),
    ]
    file = tmp_path / f"x{FORMATS[kind]}"
    file.write_text(write_format(kind, lines, 5.0), encoding="utf-8")
    assert judge(file) == [s.text for s in transcripts.read(file.read_text(encoding="utf-8"), FORMATS[kind]).segments]  # type: ignore[operator]


# --- hostile and broken files

GOOD = {
    ".srt": "1\n00:00:01,000 --> 00:00:04,000\nPrvi <i>red</i> &amp; ja\n\n2\n00:00:04,500 --> 00:00:07,000\nFata: Drugi\\Nred\n\n3\n00:00:08,000 --> 00:00:09,000\n42\n",
    ".vtt": ROLLING + "\nNOTE nešto\n\nime\n00:07.000 --> 00:08.000\n<v Fata>Zovem<00:07.500> se\n",
    ".lrc": "[ti:Pjesma]\n[offset:-100]\n[00:01.00] <00:01.00> Prva <00:01.60> riječ <00:02.00>\n[00:05.00][00:09.50]refren\n[00:12.00]\n",
    ".ass": ASS,
    ".ttml": TTML,
    ".sbv": "0:00:01.000,0:00:02.500\nprvi\nred\n\n0:00:03.000,0:00:04.000\ndrugi\n",
    ".TextGrid": GRID,
    ".eaf": EAF,
    ".txt": "0.500000\t3.363500\tKako si\n4.0\t5.5\tDobro\n",
    ".json": json.dumps({"segments": [{"start": 0.5, "end": 1, "text": "prvi red", "speaker": "A", "words": [{"word": "prvi", "start": 0.5, "end": 0.7}]}, {"start": 2, "end": 3, "text": "drugi"}]}),
}  # fmt: skip
JUNK = ["-->", "\n", "\n\n", "\r", "\0", "<", ">", "&", "{", "}", "\\N", "[", "]", ":", "-", "00:", ",", "\t", '"', "\ufeff", "\u2028", "9" * 30, "<00:00:01.000>", "1\n", "&#0;", "\ud800", "e5", "<v ", "/"]  # fmt: skip


def mutated(text: str, random_: random.Random) -> str:
    for _ in range(random_.choice((1, 1, 2, 4))):
        at, to = sorted((random_.randrange(len(text) + 1), random_.randrange(len(text) + 1)))
        match random_.randrange(5):
            case 0:
                text = text[:at] + random_.choice(JUNK) + text[at:]
            case 1:
                text = text[:at] + text[min(at + random_.randint(1, 6), len(text)) :]
            case 2:
                text = text[:at] + text[at : min(to, at + 40)] + text[at:]
            case 3:
                text = text[:to]
            case _:
                text = text[:at] + random_.choice(JUNK) + text[min(at + 1, len(text)) :]
    return text


def letters_of(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


@pytest.mark.parametrize("suffix", GOOD)
def test_broken_files_are_read_or_refused_and_no_word_comes_from_nowhere(suffix: str) -> None:
    random_ = random.Random(f"timed {suffix}")
    read = 0
    for _ in range(400):
        text = mutated(GOOD[suffix], random_)
        try:
            found = transcripts.read(text, suffix)
        except AudioError as error:
            assert error.rule == "bad_transcript" and str(error), text
            continue
        read += 1
        source = html.unescape(text) + (
            json.dumps(json.loads(text.lstrip("\ufeff")), ensure_ascii=False)
            if suffix == ".json" and found.text
            else ""
        )
        there = (
            letters_of(text) + " " + letters_of(source) + " " + letters_of(re.sub(r"<[^<>]*>|\{[^{}]*\}", "", source))
        )
        for word in found.text.split():
            assert all(letters_of(piece) in there for piece in re.split(r"[\W_]+", word)), (word, text)
        assert "-->" not in found.text or suffix not in (".srt", ".vtt", ".sbv"), text
        assert all(s.start >= 0 and (s.end is None or s.end >= s.start) for s in found.segments), text
        assert found.text == transcripts.plain(found.segments) or not found.segments, text
    assert read > (3 if suffix in (".eaf", ".ttml") else 20), "some are still read, or the test shows nothing"


@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".lrc", ".txt", ".ass", ".sbv"])
def test_long_lines_of_nothing_take_no_time(suffix: str) -> None:
    for text in ("-" * 50_000, "<" * 50_000, "0:" * 30_000, "{\\" * 30_000, "&#" * 30_000, "[0:0" * 20_000, "A " * 30_000 + ":", " " * 60_000 + "-->", "9" * 50_000 + " -->", '"' * 50_001):  # fmt: skip
        for body in (text, GOOD[".srt"] + text):
            try:
                transcripts.read(body, suffix)
            except AudioError as error:
                assert len(str(error)) < 300


def test_what_is_open_ends_where_the_next_later_one_begins() -> None:
    assert cues.later_starts([0.0, 1.0, 1.0, 2.0]) == [1.0, 2.0, 2.0, None] and cues.later_starts([]) == []
    found = labels.from_labels("\n".join(f"{n}.0\t{n}.0\tda" for n in range(50_000)))
    assert len(found) == 50_000 and found[7].end == 8.0 and found[-1].end is None
