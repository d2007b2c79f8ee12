"""Lines and words as files: txt, JSON, SRT, VTT, LRC, ASS, TextGrid.

Times are rounded once to whole milliseconds (LRC and ASS: hundredths) and written from integers: a float's own rounding
yields 60.00. Sources: the enhanced LRC convention (`<mm:ss.xx>` before each word), WebVTT (W3C), Advanced SubStation
Alpha v4+, Praat's long TextGrid.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

from govor.corpus.speakers import NO_PREFIX, kept_together
from govor.corpus.transcripts import clock, minutes_clock, srt_of, unmarked
from govor.errors import GovorError, nearest
from govor.jsons import to_json
from govor.timing.words import Line, Word

_RLM = "\u200f"


def text_of(lines: Sequence[Line]) -> str:
    """One line of text each."""
    return "".join(f"{line.text}\n" for line in lines)


def to_srt(lines: Sequence[Line]) -> str:
    """SubRip. Lines in a right-to-left script are framed by marks, since players lay them out left to right."""
    return srt_of((start, end, _framed(_one_line(unmarked(line.text)))) for line, start, end in _timed(lines))


def to_vtt(lines: Sequence[Line]) -> str:
    """WebVTT with a time tag before each word, as players with karaoke understand."""
    blocks = ["WEBVTT\n"]
    for line, start, end in _timed(lines):
        said = []
        for number, word in enumerate(_said(line)):
            text = _escaped(word.text)
            at = None if word.start is None else _ms(word.start)
            # A tag outside of its cue, or not later than the one before, makes the cue invalid.
            tag = f"<{clock(at, '.')}>" if at is not None and number and start < at < end else ""
            said.append((" " if word.space and number else "") + tag + text)
        blocks.append(f"{clock(start, '.')} --> {clock(end, '.')}\n{_voice(line)}{_one_line(''.join(said))}\n")
    return "\n".join(blocks)


def _said(line: Line) -> tuple[Word, ...]:
    """The words of a line; a mark tells readers, ours too, that words before a colon are said and no speaker's name."""
    words = list(line.words)
    if kept_together(line.text) != line.text:
        place = next(n for n, word in enumerate(words) if re.search("[:：]", word.text))
        words[place] = replace(words[place], text=re.sub("(?=[:：])", NO_PREFIX, words[place].text, count=1))
    return tuple(words)


def _voice(line: Line) -> str:
    return f"<v {_escaped(_one_line(line.speaker))}>" if line.speaker else ""


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\\", "&#92;")  # readers of other subtitles take \\N for a break


def _referred(text: str) -> str:
    return re.sub(r"[&<{\\]", lambda match: f"&#{ord(match[0])};", text)


def to_enhanced_lrc(lines: Sequence[Line]) -> str:
    """Enhanced LRC: `[mm:ss.xx]` before the line, `<mm:ss.xx>` before each word and after the last. What has no words with
    times is written by `corpus.transcripts.to_lrc`."""
    rows = []
    for line in lines:
        if line.start is None or line.end is None:
            rows.append(_one_line(unmarked(line.text)))  # players show a line without a time with the one before
            continue
        # Markup may begin in one word and end in another.
        said = _referred if unmarked(line.text) != kept_together(line.text) else str
        parts = [f"[{minutes_clock(line.start)}]"]
        for word in _said(line):
            tag = "" if word.start is None else f"<{minutes_clock(word.start)}>"
            parts.append((" " if word.space else "") + (f"{tag} " if tag and word.space else tag) + said(word.text))
        rows.append(_one_line("".join(parts)) + f" <{minutes_clock(line.end)}>")
    return "".join(f"{row}\n" for row in rows)


def to_ass(lines: Sequence[Line]) -> str:
    """Advanced SubStation Alpha, with `\\k` durations in hundredths of a second for karaoke."""
    rows = []
    for line in lines:
        if line.start is None or line.end is None:
            continue
        start, end = round(line.start * 100), max(round(line.end * 100), round(line.start * 100) + 1)
        at, said = start, []
        for number, word in enumerate(_said(line)):
            begin = at if word.start is None else max(at, round(word.start * 100))
            stop = begin if word.end is None else max(begin, round(word.end * 100))
            if begin > at:
                said.append(f"{{\\k{begin - at}}}")  # a pause
            at = stop
            text = word.text.replace("\\", "\\\u2060").replace("{", "\\{").replace("}", "\\}")
            said.append((" " if word.space and number else "") + f"{{\\k{stop - begin}}}" + text)
        name = _one_line((line.speaker or "").replace(",", " "))
        rows.append(
            f"Dialogue: 0,{_ass_clock(start)},{_ass_clock(end)},Line,{name},0,0,0,,{_one_line(''.join(said))}\n"
        )
    return _ASS_HEAD + "".join(rows)


_ASS_HEAD = """[Script Info]
ScriptType: v4.00+
PlayResX: 1280
PlayResY: 720
WrapStyle: 0

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Line,Noto Sans,48,&H0000D7FF,&H00FFFFFF,&H00202020,&H80000000,0,0,0,0,100,100,0,0,1,2,1,2,40,40,40,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def to_textgrid(lines: Sequence[Line], total_seconds: float) -> str:
    """Praat's long TextGrid with the interval tiers `lines` (or one for each of several speakers) and `words`; what is silent
    is an empty interval."""
    speakers = list(dict.fromkeys(line.speaker or "lines" for line in lines))
    last = max([_ms(total_seconds), *(_ms(line.end) for line in lines if line.end is not None)], default=0)
    named = speakers if len(speakers) > 1 else ["lines"]
    by_line = {
        name: [(o.start, o.end, o.text) for o in lines if len(named) == 1 or (o.speaker or "lines") == name]
        for name in named
    }
    tiers = {
        **{name: _intervals(spans, last) for name, spans in by_line.items()},
        "words": _intervals([(w.start, w.end, w.text) for line in lines for w in line.words], last),
    }
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_decimal(last)}"]
    rows = [*head, "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        rows += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{_quoted(name)}"']
        rows += ["        xmin = 0", f"        xmax = {_decimal(last)}", f"        intervals: size = {len(intervals)}"]
        for place, (start, end, text) in enumerate(intervals, start=1):
            rows += [f"        intervals [{place}]:", f"            xmin = {_decimal(start)}"]
            rows += [f"            xmax = {_decimal(end)}", f'            text = "{_quoted(text)}"']
    return "\n".join(rows) + "\n"


def _quoted(text: str) -> str:
    return _one_line(text).replace('"', '""')


def _intervals(spans: Sequence[tuple[float | None, float | None, str]], last: int) -> list[tuple[int, int, str]]:
    """Milliseconds without gaps or overlaps; what lasts less than one is left out, as Praat does not take it."""
    intervals: list[tuple[int, int, str]] = []
    at = 0
    for start, end, text in spans:
        if start is None or end is None:
            continue
        begin, stop = max(_ms(start), at), _ms(end)
        if stop <= begin:
            continue
        if begin > at:
            intervals.append((at, begin, ""))
        intervals.append((begin, stop, _one_line(text)))
        at = stop
    if at < last or not intervals:
        intervals.append((at, max(last, at + 1), ""))
    return intervals


def to_words_json(lines: Sequence[Line], **about: object) -> str:
    """`{…about, text, segments: [{start, end, text, words: [{word, start, end, confidence}]}]}`."""
    text = "\n".join(line.text for line in lines)
    return to_json({**about, "text": text, "segments": [line.to_row() for line in lines]}, indent=2) + "\n"


FORMATS: dict[str, str] = {
    "txt": ".txt",
    "json": ".json",
    "srt": ".srt",
    "vtt": ".vtt",
    "lrc": ".lrc",
    "ass": ".ass",
    "textgrid": ".TextGrid",
}


def write_format(name: str, lines: Sequence[Line], total_seconds: float, **about: object) -> str:
    """Lines in one of FORMATS."""
    writers: dict[str, Callable[[], str]] = {
        "txt": lambda: text_of(lines),
        "json": lambda: to_words_json(lines, duration_seconds=round(total_seconds, 3), **about),
        "srt": lambda: to_srt(lines),
        "vtt": lambda: to_vtt(lines),
        "lrc": lambda: to_enhanced_lrc(lines),
        "ass": lambda: to_ass(lines),
        "textgrid": lambda: to_textgrid(lines, total_seconds),
    }
    if name not in writers:
        raise GovorError(f"There is no format '{name}'; {nearest(name, list(writers))}")
    return writers[name]()


def _timed(lines: Sequence[Line]) -> list[tuple[Line, int, int]]:
    """Lines that have times, in whole milliseconds; each lasts at least one."""
    return [
        (line, _ms(line.start), max(_ms(line.end), _ms(line.start) + 1))
        for line in lines
        if line.start is not None and line.end is not None
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _ass_clock(hundredths_in_all: int) -> str:
    rest, hundredths = divmod(hundredths_in_all, 100)
    minutes, seconds = divmod(rest, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}.{hundredths:02d}"


def _decimal(milliseconds: int) -> str:
    whole, thousandths = divmod(milliseconds, 1000)
    return f"{whole}.{thousandths:03d}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _framed(text: str) -> str:
    return f"{_RLM}{text}{_RLM}" if right_to_left(text) else text


def right_to_left(text: str) -> bool:
    """Whether the first letter with a direction is written right to left (rule P2 of the Unicode bidi algorithm)."""
    for letter in text:
        direction = unicodedata.bidirectional(letter)
        if direction in ("R", "AL"):
            return True
        if direction == "L":
            return False
    return False
