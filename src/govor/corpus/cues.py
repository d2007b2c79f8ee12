"""Readers of subtitles: SubRip, WebVTT, SBV, LRC, SubStation Alpha (TTML stands in `ttml`, lists of times in `labels`).

They are strict where text could be lost or made up: a line that looks like a time and is none makes the file a
`bad_transcript` that names the line, and so does text that no time belongs to. (The usual libraries drop such cues, or
take the time line for words.) Sources: the WebVTT recommendation of the W3C, the SubRip and LRC conventions,
SubStation Alpha v4+.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from govor.corpus.records import Row, Segment, Word
from govor.errors import AudioError

# Cues that begin this soon after another one's end touch it, as rolling captions do.
TOUCHING_SECONDS = 0.1
# YouTube holds finished lines for 10 ms before the next one rolls in.
_HOLD_SECONDS = 0.05
# Words that come without sentences, of an aligner or a service, follow each other this closely in one breath.
BREATH_SECONDS = 0.5
MAX_BREATH_SECONDS = 15.0

_CLOCK = r"[-−]?(?:\d{1,4}\s?:\s?)?\d{1,4}\s?:\s?\d{1,2}(?:\s?[.,]\s?\d{1,9}|:\d{3})?"
_CUE_LINE = re.compile(
    rf"\s*(?:\d{{1,9}}\s+)?(?P<open>\[\s*)?(?P<start>{_CLOCK})\s*(?:-{{1,3}}\s?>|[–—]\s?>|→)\s*(?P<end>{_CLOCK})(?P<rest>.*)",
    re.DOTALL,
)
_LOOKS_LIKE_CUE = re.compile(
    r"-->|^\s*\[?[-−]?\d{1,4}:\d{1,2}(?::\d{1,2})?[.,]\d{1,9}[^\w<]{1,12}\d{1,4}:\d{1,2}[:.,]|^\s*\[?[-−]?\d{1,4}\s?:\s?\d{1,2}\b[^a-zA-Z]*(?:->|[–—]>|→)"
)
_SBV_LINE = re.compile(rf"\s*(?P<start>{_CLOCK})\s*,\s*(?P<end>{_CLOCK})(?P<rest>)\s*")
_LOOKS_LIKE_SBV = re.compile(r"-->|^\s*\d{1,4}:\d{1,2}:\d{1,2}[.,\d]*,\s*\d")
_CLOCK_PARTS = re.compile(r"([-−]?)(?:(\d+)\s?:\s?)?(\d+)\s?:\s?(\d+)(?:\s?[.,:]\s?(\d+))?")
_SETTINGS = re.compile(r"(?:\s+(?:(?:align|line|position|size|vertical|region):\S+|[A-Za-z]\d?:\s?-?\d+))*\s*")
_VTT_BLOCK = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")

_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<(?=[^<>]*\d)[\d:.,; ]{1,30}>|</>|\{\\[^{}]*\}|\{[yYcCfFsSpPH]:[^{}]*\}")
_TIME_TAG = re.compile(r"<(\d{1,4}:\d{1,2}(?:[.:]\d{1,3}|:\d{1,2}[.,]\d{1,3})?)>")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^<>]*)>|</v>")
_REFERENCE = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_BREAK = re.compile(r"\\[Nnh]|<[bB][rR] ?/?>|\[br\]")
_READING = re.compile(r"<r[tp]>[^<]*(?:</r[tp]>|(?=</ruby>))")
# Marks that only lay out lines in two directions, and the byte order mark.
_MARKS = dict.fromkeys(map(ord, "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"))

Words = tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Cue:
    """A segment with the lines that it is shown in, and its words where the file times them: `{word, start, end}`."""

    start: float
    end: float | None
    lines: tuple[str, ...]
    speaker: str | None = None
    words: Words = ()

    @property
    def segment(self) -> Segment:
        """Without its lines."""
        said = unjoined(" ".join(self.lines))
        return Segment(self.start, self.end, " ".join(said.split()), self.speaker)


def unjoined(text: str) -> str:
    """Without the mark by which `speakers.kept_together` says that a colon follows no name."""
    return re.sub("\u2060(?=[:：])", "", text)


def bad(message: str) -> AudioError:
    """The error of a file that is not what it should be."""
    return AudioError("bad_transcript", message)


def bad_line(number: int, line: str, wanted: str) -> AudioError:
    """The error of one line."""
    return bad(f"line {number}, {quoted(line)}: {wanted}.")


def spanned(start: float, end: float | None, where: str) -> tuple[float, float | None]:
    """The two times where they are a stretch of time; one that begins before the recording begins with it.

    Raises:
        AudioError: it ends before it starts, or before the recording does.
    """
    if end is not None and end < start:
        raise bad(f"{where} ends at {end:g} s, before it starts at {start:g} s.")
    if end is not None and end < 0:
        raise bad(f"{where} ends at {end:g} s, before the recording begins.")
    return max(0.0, start), end


def later_starts(starts: Sequence[float]) -> list[float | None]:
    """For each of sorted times the next one that is later: where what is open, or a point, ends."""
    later: list[float | None] = []
    following = after = None
    for start in reversed(starts):
        if following is not None and following > start:
            after = following
        following = start
        later.append(after)
    return later[::-1]


def plain_text(text: str) -> str:
    """One line of a cue without markup: tags, overrides in braces, line breaks written as letters or tags, the readings of
    ruby, character references."""
    text = _TIME_TAG.sub("", _BREAK.sub(" ", _READING.sub("", text)))
    return _decoded(_TAG.sub("", text))


def _decoded(text: str) -> str:
    text = _REFERENCE.sub(lambda match: html.unescape(match[0]), text)
    return " ".join(text.translate(_MARKS).split())


def lines_of(text: str) -> list[str]:
    """Lines as every system ends them; other separators that Unicode knows do not end one."""
    return re.split(r"\r\n|\r|\n", re.sub(r"\r+\n", "\n", text))


@dataclass(slots=True)
class _Raw:
    """A cue as it stands in the file."""

    number: int
    start: float
    end: float
    lines: list[str]


def is_cue_line(line: str) -> bool:
    """Whether a line looks like the times of a cue, well written or not: a clock and an arrow."""
    line = line.translate(_MARKS)
    return (
        _LOOKS_LIKE_CUE.search(line) is not None and re.search(r"\d\s?[:>-]\s?\d|\d\s?-->|-->\s?-?\d", line) is not None
    )


def is_lrc_line(line: str) -> bool:
    """Whether a line can stand in lyrics: it begins with a time, or is about the song."""
    line = line.strip()
    return bool(is_lrc_time(line) or _LRC_ABOUT.fullmatch(line) or _LRC_SECTION.fullmatch(line))


def is_lrc_time(line: str) -> bool:
    """Whether it begins with `[mm:ss.xx]`."""
    return _LRC_LINE.match(line.strip()) is not None


def from_subtitles(text: str, suffix: str) -> list[Cue]:
    """SubRip (`.srt`), WebVTT (`.vtt`) or YouTube's SBV (`.sbv`).

    A blank line does not end a cue: what stands after it, up to the next number and time, was said as well.
    """
    raw = sorted(_raw_cues(lines_of(text.translate(_MARKS)), suffix), key=lambda cue: cue.start)
    shown = [[plain_text(line) for line in cue.lines] for cue in raw]
    tagged = any(_TIME_TAG.search(line) for cue in raw for line in cue.lines)
    repeated = _repeated(raw, shown, tagged)
    cues = [made for cue, repeats in zip(raw, repeated, strict=True) for made in _voices(cue, repeats, tagged)]
    _refuse_growing(cues)
    return cues


def _raw_cues(lines: Sequence[str], suffix: str) -> Iterator[_Raw]:
    pattern, looks = (_SBV_LINE, _LOOKS_LIKE_SBV) if suffix == ".sbv" else (_CUE_LINE, _LOOKS_LIKE_CUE)
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    vtt = suffix == ".vtt" or lines[first].startswith("WEBVTT")
    cue: _Raw | None = None
    stray: list[tuple[int, str]] = []  # lines before the first time
    skipped = vtt and lines[first].startswith("WEBVTT")  # inside a header or a comment
    numbered: bool | None = None
    index = 0
    for place, line in enumerate(lines):
        if looks.search(line):
            start, end, rest = _times(pattern, place + 1, line)
            above = stray if cue is None else [(0, said) for said in cue.lines]
            number = _identifier(above, lines[place - 1] if place else "", vtt, numbered, index)
            if number is not None:
                above.pop()
            if numbered is None:
                numbered = number is not None and number.isdigit()
            index = int(number) if number is not None and number.isdigit() else index
            if cue is not None:
                cue.lines = [said for _, said in above]
                yield cue
            _refuse_stray(stray)
            cue, skipped = _Raw(place + 1, start, end, [rest] if rest else []), False
        elif not line.strip():
            skipped = skipped and line != ""
            (cue.lines if cue else []).append(line)
            if cue is None and stray:
                stray.append((place + 1, line))
        elif vtt and (place == 0 or not lines[place - 1].strip()) and _VTT_BLOCK.match(line):
            skipped = True
        elif not skipped:
            if cue is None:
                stray.append((place + 1, line))
            else:
                cue.lines.append(line)
    if cue is not None:
        yield cue
    _refuse_stray(stray)


def _identifier(above: list[tuple[int, str]], before: str, vtt: bool, numbered: bool | None, index: int) -> str | None:
    """The cue's number or, in WebVTT, its name, where the last line is one; `before` is the line just before its time."""
    while above and not above[-1][1].strip():
        above.pop()
    if not above:
        return None
    last = above[-1][1].strip()
    alone = len(above) == 1 or not above[-2][1].strip()
    if last.isdecimal() and len(last) < 10:
        if before.strip():
            return last if (alone and (len(above) > 1 or numbered is None)) or numbered else None
        return last if alone and (numbered is None or (numbered and int(last) == index + 1)) else None
    return last if vtt and alone and before.strip() and (len(above) > 1 or numbered is None) else None


def _refuse_stray(stray: list[tuple[int, str]]) -> None:
    said = [(number, line) for number, line in stray if line.strip()]
    stray.clear()
    if said:
        raise bad_line(*said[0], "text stands where no time belongs to it")


def _times(pattern: re.Pattern[str], number: int, line: str) -> tuple[float, float, str]:
    match = pattern.fullmatch(line)
    times = match and (clock_seconds(match["start"]), clock_seconds(match["end"]))
    if not match or not times or times[0] is None or times[1] is None:
        raise bad_line(number, line, "a time line such as 00:00:01,000 --> 00:00:02,500 was wanted")
    rest = match["rest"]
    if "open" in match.groupdict() and match["open"]:
        if not rest.lstrip().startswith("]"):
            raise bad_line(number, line, "a bracket is not closed")
        rest = rest.lstrip()[1:].strip()  # [start --> end] text, as Whisper prints it
    elif not _SETTINGS.fullmatch(rest):
        raise bad_line(number, line, "what stands after the two times is not understood")
    else:
        rest = ""
    start, end = spanned(times[0], times[1], f"line {number}: a cue")
    assert end is not None
    return start, end, rest


def clock_seconds(clock: str) -> float | None:
    """Seconds of `hh:mm:ss,mmm`, `mm:ss.mmm`, `hh:mm:ss`; None where it is no time of day."""
    match = _CLOCK_PARTS.fullmatch(clock.strip())
    if match is None:
        return None
    sign, hours, minutes, seconds, fraction = match.groups()
    if int(seconds) > 59 or (hours is not None and int(minutes) > 59):
        return None
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    value = (whole * 1000 + round(int((fraction or "0")[:6].ljust(6, "0")) / 1000)) / 1000
    return -value if sign else value


def _repeated(raw: Sequence[_Raw], shown: Sequence[list[str]], tagged: bool) -> list[list[bool]]:
    """Which lines of each cue only repeat what the cue before showed, in captions that roll upwards.

    Somebody may well say the same twice, so the file as a whole must roll: lines that move up while a new one appears
    below, together with word times or finished lines that are held for a moment (YouTube), or again and again.
    """
    repeats: list[list[bool]] = [[not line for line in lines] for lines in shown]
    counts, grown, brief, touching = [0], 0, 0, 0
    for place in range(1, len(raw)):
        before = [line for line in shown[place - 1] if line]
        here = [line for line in shown[place] if line]
        touches = raw[place].start - raw[place - 1].end <= TOUCHING_SECONDS
        touching += touches and bool(here)
        count = _overlap(before, here) if touches else 0
        if count and count == len(here):
            holds = raw[place].end - raw[place].start <= _HOLD_SECONDS
            brief += holds
            if not holds:
                count = len(here) - 1
                count = count if count and before[-count:] == here[:count] else 0
        elif count:
            grown += 1
        counts.append(count)
    if grown and (tagged or brief or (grown > 1 and 2 * grown >= touching)):
        for place, count in enumerate(counts):
            spoken = [number for number, line in enumerate(shown[place]) if line]
            for number in spoken[:count]:
                repeats[place][number] = True
    return repeats


def _overlap(before: list[str], here: list[str]) -> int:
    return next((n for n in range(min(len(before), len(here)), 0, -1) if before[-n:] == here[:n]), 0)


def _refuse_growing(cues: Sequence[Cue]) -> None:
    """Live captions that write the same line again with each new word say everything many times."""
    pairs = list(itertools.pairwise(cues))
    grown = [
        later
        for cue, later in pairs
        if cue.end is not None
        and abs(later.start - cue.end) <= TOUCHING_SECONDS
        and later.segment.text.startswith(f"{cue.segment.text} ")
    ]
    if len(grown) > 2 and 2 * len(grown) >= len(pairs):
        raise bad(
            f"its captions grow word by word ({quoted(grown[0].segment.text)} repeats the one before): everything would be said "
            "several times; export finished captions."
        )


def _voices(cue: _Raw, repeated: Sequence[bool], tagged: bool) -> Iterator[Cue]:
    """The cue, or one for each voice that WebVTT names in it."""
    speaker: str | None = None
    groups: list[tuple[str | None, list[str]]] = [(None, [])]
    for line, again in zip(cue.lines, repeated, strict=True):
        if again:
            continue
        pieces = _VOICE.split(line)
        for place, piece in enumerate(pieces):
            if place % 2:
                speaker = _decoded(piece) or None if piece is not None else None
                groups.append((speaker, []))
            else:
                groups[-1][1].append(piece)
    for voice, said in groups:
        lines = tuple(filter(None, map(plain_text, said)))
        if lines:
            words = timed_words(said, cue.start, cue.end)
            if tagged and not words and len(lines) == 1 and " " not in lines[0]:
                words = ({"word": lines[0], "start": cue.start, "end": cue.end},)  # one word needs no tag inside
            yield Cue(cue.start, cue.end, lines, voice, words)


def timed_words(
    lines: Sequence[str], start: float, end: float | None, clock: Callable[[str], float | None] | None = None
) -> Words:
    """Words of a cue whose lines hold `<mm:ss.xx>` tags: each stretch between two tags is one."""
    parts = _TIME_TAG.split("\n".join(lines))
    if len(parts) == 1:
        return ()
    times: list[float | None] = [start, *map(clock or clock_seconds, parts[1::2]), end]
    words = []
    for place, part in enumerate(parts[::2]):
        said, at = plain_text(part.replace("\n", " ")), times[place]
        until = next((time for time in times[place + 1 :] if time is not None), None)
        if said and at is not None:
            words.append({"word": said, "start": at, **({} if until is None else {"end": max(at, until)})})
    return tuple(words)


_LRC_STAMP = r"\[\s*(\d{1,5}:\d{1,2}(?:[.:,]\d{1,3}|:\d{1,2}[.,]\d{1,3})?)\s*\]"
_LRC_LINE = re.compile(rf"((?:{_LRC_STAMP}\s*)+)(.*)", re.DOTALL)
_LRC_TIME = re.compile(_LRC_STAMP)
_LRC_ABOUT = re.compile(r"\[\s*(?:#|[a-z_]{1,16}|[A-Z_]{1,16})\s*:[^\[\]]*\]")
_LRC_CLOSING = re.compile(r"<(\d{1,4}:[\d.:,]{1,12})>\s*$")
_LRC_OFFSET = re.compile(r"\[offset:\s*([+-]?\d{1,8})\s*\]", re.IGNORECASE)
_LRC_SECTION = re.compile(r"\[[^\[\]\d:][^\[\]:]*\]")


def from_lrc(text: str) -> list[Cue]:
    """LRC: `[mm:ss.xx] line`, several times a line allowed; a line ends where its last word tag says, or else where the next
    one starts. A line without a time belongs to the one before."""
    lines: list[tuple[float, str]] = []
    for number, line in enumerate(map(str.strip, lines_of(text)), start=1):
        match = _LRC_LINE.match(line)
        if match:
            for time in _LRC_TIME.finditer(match[1]):
                start = _lrc_seconds(time[1])
                if start is None:
                    raise bad_line(number, line, "a time such as [01:02.50] was wanted")
                lines.append((start, match[match.lastindex or 0]))
        elif re.match(r"\[\s*[-+\d]", line):
            raise bad_line(number, line, "a time such as [01:02.50] was wanted")
        elif line and not _LRC_ABOUT.fullmatch(line) and not _LRC_SECTION.fullmatch(line):
            if not lines:
                raise bad_line(number, line, "text stands where no time belongs to it")
            start, before = lines[-1]
            lines[-1] = start, _joined_lrc(before, line)
    # A positive offset, in milliseconds, shows every line earlier.
    moved = _LRC_OFFSET.search(text)
    earlier = int(moved[1]) / 1000 if moved else 0.0
    lines.sort(key=lambda item: item[0])
    starts = [start for start, _ in lines]
    if len(starts) >= 4 and len(set(starts)) <= len(starts) / 2:
        raise bad("every time stands at two lines: a song with its translation; keep the lines that are sung.")
    cues = []
    for place, (start, said) in enumerate(lines):
        after = next((other for other in starts[place + 1 :] if other > start), None)
        closing = _LRC_CLOSING.search(said)
        end = _lrc_seconds(closing[1]) if closing and _TIME_TAG.fullmatch(closing[0].strip()) else after
        words = timed_words([said], start, end, _lrc_seconds)
        if end is not None and end < start:
            raise bad(f"the line {quoted(said)} ends at {end:g} s, before it starts at {start:g} s.")
        line = plain_text(said)
        if line:
            cues.append(Cue(start, end, (line,), None, words))
    return [_earlier(cue, earlier) for cue in cues] if earlier else cues


def _joined_lrc(before: str, line: str) -> str:
    """A line that goes on stands before the tag that closes the one it belongs to."""
    closed = re.fullmatch(r"(.*?)(\s*<\d+:[\d.:,]+>\s*)", before, re.DOTALL)
    return f"{closed[1]} {line}{closed[2]}" if closed else f"{before} {line}"


def _lrc_seconds(clock: str) -> float | None:
    """`mm:ss.xx`, `mm:ss:xx` or `hh:mm:ss.xx`; 60 seconds are what some rounding writes."""
    parts = re.split(r"[:.,]", clock)
    if len(parts) == 4:
        return clock_seconds(clock)
    minutes, seconds, fraction = (*parts, "0")[:3]
    return (int(minutes) * 60_000 + int(seconds) * 1000 + int(fraction.ljust(3, "0"))) / 1000


def _earlier(cue: Cue, seconds: float) -> Cue:
    def at(time: float) -> float:
        return max(0.0, round(time - seconds, 3))

    words = tuple({key: at(v) if key in ("start", "end") else v for key, v in word.items()} for word in cue.words)
    return replace(cue, start=at(cue.start), end=None if cue.end is None else at(cue.end), words=words)


_ASS_FIELDS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")
_ASS_OTHER = re.compile(r"(?:Comment|Picture|Sound|Movie|Command)\s*:|[;!]", re.IGNORECASE)
_ASS_CLOCK = re.compile(r"\s*([-−]?\d{1,4}:\d{1,2}:\d{1,2}(?:[.,:]\d{1,3})?)\s*")
_OVERRIDE = re.compile(r"(?<!\\)\{([^{}]*)\}")
_KARAOKE = re.compile(r"\\(?:k[fot]?|K)\s*(\d{1,6})")
_DRAWING = re.compile(r"\\p\s*(\d+)")


def from_ass(text: str) -> list[Cue]:
    """SubStation Alpha: the dialogue lines of `[Events]`, their names as speakers, `\\k` durations as words."""
    cues: list[Cue] = []
    fields: Sequence[str] = _ASS_FIELDS
    section = ""
    for number, line in enumerate(map(str.strip, lines_of(text)), start=1):
        heading = re.fullmatch(r"\[([^\[\]]+)\]", line)
        if heading and not (section == "events" and "," in line):
            section = heading[1].strip().lower()
            continue
        key, colon, value = line.partition(":")
        if re.fullmatch(r"\s*dialogue\s*", key, re.IGNORECASE) and colon:
            cues += _dialogue(number, line, value, fields)
        elif section == "events" and key.strip().lower() == "format":
            fields = [name.strip().lower() for name in value.split(",")]
            if not {"start", "end", "text"} <= {*fields} or fields[-1] != "text":
                raise bad_line(number, line, "Start, End and, as the last one, Text were wanted")
        elif section == "events" and line and not _ASS_OTHER.match(line):
            raise bad_line(number, line, "a Dialogue or Comment line was wanted")
        elif not section and line and not line.startswith(";"):
            raise bad_line(number, line, "a section such as [Script Info] was wanted")
    # Effects draw one line in several layers.
    cue_of = {(cue.start, cue.end, cue.lines, cue.speaker): cue for cue in cues}
    return sorted(cue_of.values(), key=lambda cue: cue.start)


def _dialogue(number: int, line: str, value: str, fields: Sequence[str]) -> Iterator[Cue]:
    values = dict(zip(fields, value.split(",", len(fields) - 1), strict=False))
    if "text" not in values:
        raise bad_line(number, line, f"{len(fields)} fields were wanted")
    clocks = [_ASS_CLOCK.fullmatch(values[name]) for name in ("start", "end")]
    times = [match and clock_seconds(match[1]) for match in clocks]
    if times[0] is None or times[1] is None:
        raise bad_line(number, line, "times such as 0:00:01.50 were wanted")
    start, end = spanned(times[0], times[1], f"line {number}: a line")
    drawing, at = False, start
    spoken: list[str] = []
    words: list[Row] = []
    shown, karaoke = "", False
    for place, piece in enumerate(_OVERRIDE.split(values["text"])):
        if place % 2:
            scale, lasts = _DRAWING.findall(piece), [int(length) / 100 for length in _KARAOKE.findall(piece)]
            drawing = bool(int(scale[-1])) if scale else drawing
            if lasts:
                _end_word(words, spoken, karaoke)
                spoken, karaoke = [], True
                begin = round(at + sum(lasts[:-1]), 3)
                at = round(begin + lasts[-1], 3)
                words.append({"word": "", "start": begin, "end": at})
        elif not drawing:
            shown += piece
            spoken.append(piece)
    _end_word(words, spoken, karaoke)
    said = tuple(filter(None, map(_ass_text, re.split(r"\\[Nn]", shown))))
    if said:
        timed = tuple(word for word in words if word["word"] and word["end"] > word["start"])
        yield Cue(start, end, said, " ".join(values.get("name", values.get("actor", "")).split()) or None, timed)


def _end_word(words: list[Row], spoken: Sequence[str], karaoke: bool) -> None:
    if karaoke and words:
        words[-1]["word"] = _ass_text("".join(spoken))


def _ass_text(text: str) -> str:
    # Escaped braces and backslashes are letters; U+2060 keeps a backslash from being a command.
    letters = {"\\{": "{", "\\}": "}", "\\\u2060": "\\", "\\h": " ", "\\N": " ", "\\n": " "}
    text = re.sub(r"\\(?:[{}hNn]|\u2060)", lambda match: letters[match[0]], text)
    return " ".join(text.translate(_MARKS).split())


def quoted(line: str) -> str:
    """A line as an error quotes it."""
    cut = " ".join(line.split())
    return repr(cut if len(cut) <= 60 else f"{cut[:57]}…")
