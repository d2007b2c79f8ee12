"""Transcripts with times, read into plain text and segments: subtitles, lyrics, labels, tiers, JSON, inline `<|t|>`.

Times inside our files are seconds; text is plain. Formats are written from integer milli- or centiseconds, because
rounding seconds yields 60.00.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from govor.corpus import cues, labels, spoken_json, tiers, ttml
from govor.corpus.cues import Cue, bad, later_starts
from govor.corpus.records import Segment, Word
from govor.corpus.speakers import kept_together, split_speakers, without_prefixes

# Whisper's clock.
_STEPS_PER_SECOND = 50
TIME_STEP_SECONDS = 1 / _STEPS_PER_SECOND

_INLINE = re.compile(r"<\|(\d{1,7}(?:\.\d{1,6})?)\|>")
# Lyrics would have minutes, seconds and hundredths in it; a text has hours.
_HOURS = re.compile(r"\s*\[\d\d?:\d\d:\d\d\]")
# What could be markup where it stands as words.
_MARKUP = re.compile(r"&(?=#?\w+;)|-->|\{(?=\\)|\\(?=[Nnh])")


@dataclass(frozen=True, slots=True)
class Transcript:
    """What stands in a transcript file.

    Attributes:
        text: plain words, without the names of speakers.
        segments: none where the file has no times.
        words: `{word, start, end}` where the file times them.
        prefixes: how often a name before a colon was taken for the speaker, by name.
        speakers: who speaks, in the order of their first words.
    """

    text: str
    segments: tuple[Segment, ...] = ()
    words: tuple[Word, ...] = ()
    prefixes: Mapping[str, int] = field(default_factory=dict)
    speakers: tuple[str, ...] = ()


def plain(segments: Sequence[Segment]) -> str:
    """The words of all segments, one space between."""
    return " ".join(" ".join(segment.text for segment in segments).split())


def read(text: str, suffix: str) -> Transcript:
    """A transcript file's content; a file without times has no segments.

    Raises:
        AudioError: rule `bad_transcript`, the content is not what the suffix says, or a line of it is not understood.
    """
    text = text.lstrip("\ufeff")
    suffix = suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None:
        reader = _sniffed(text)
    if reader is None:
        return _untimed(text)
    if not text.strip():
        return Transcript("")
    cue_list = reader(text)
    if cue_list is None:
        raise bad(f"no timed line was found in the {suffix} file.")
    prefixes: Counter[str] = Counter()
    if reader not in _WITHOUT_PREFIXES:
        cue_list = split_speakers(cue_list, prefixes)
    cue_list = sorted((cue for cue in cue_list if cue.lines or cue.end is None), key=lambda cue: cue.start)
    segments = tuple(cue.segment for cue in cue_list)
    speakers = tuple(dict.fromkeys(segment.speaker for segment in segments if segment.speaker))
    words = tuple({**word, "word": cues.unjoined(word["word"])} for cue in cue_list for word in cue.words)
    return Transcript(plain(segments), segments, words, dict(prefixes), speakers)


def is_about_else(text: str, suffix: str) -> bool:
    """Whether a `.json` or `.tsv` beside a recording is about something else than what is said in it.

    Raises:
        AudioError: it is no JSON, or a transcript with a bad segment.
    """
    text = text.lstrip("\ufeff")
    return bool(text.strip()) and _READERS[suffix](text) is None


def _untimed(text: str) -> Transcript:
    if has_inline(text):
        said_text, segments = from_inline(text)
        return Transcript(said_text, segments)
    prefixes: Counter[str] = Counter()
    said = without_prefixes(cues.lines_of(text), prefixes)
    return Transcript(" ".join(" ".join(said).split()), prefixes=dict(prefixes), speakers=tuple(prefixes))


def _sniffed(text: str) -> Callable[[str], list[Cue] | None] | None:
    """The reader of a text file that is timed although its suffix does not say so; None for words alone."""
    if labels.is_labels(text):
        return labels.from_labels
    lines = [line for line in cues.lines_of(text) if line.strip()]
    if lines and (lines[0].startswith("WEBVTT") or any(cues.is_cue_line(line) for line in lines)):
        return _srt
    if (
        lines
        and not any(map(_HOURS.match, lines))
        and all(cues.is_lrc_line(line) for line in lines)
        and any(cues.is_lrc_time(line) for line in lines)
    ):
        return cues.from_lrc
    return labels.from_stamps if labels.from_stamps(text) else None


def _srt(text: str) -> list[Cue]:
    return cues.from_subtitles(text, ".srt")


def _vtt(text: str) -> list[Cue]:
    return cues.from_subtitles(text, ".vtt")


def _sbv(text: str) -> list[Cue]:
    return cues.from_subtitles(text, ".sbv")


_READERS: dict[str, Callable[[str], list[Cue] | None]] = {
    ".json": spoken_json.from_json_text,
    ".json3": spoken_json.from_json_text,
    ".srt": _srt,
    ".vtt": _vtt,
    ".lrc": cues.from_lrc,
    ".ass": cues.from_ass,
    ".ssa": cues.from_ass,
    ".sbv": _sbv,
    ".ttml": ttml.from_ttml,
    ".dfxp": ttml.from_ttml,
    ".textgrid": tiers.from_textgrid,
    ".eaf": tiers.from_eaf,
    ".tsv": labels.from_tsv,
}
# Where speakers have a place of their own, a name before a colon is what somebody says.
_WITHOUT_PREFIXES = frozenset({spoken_json.from_json_text, tiers.from_textgrid, tiers.from_eaf, labels.from_tsv})


def has_inline(text: str) -> bool:
    """Whether `<|t|>` tokens stand in the text."""
    return _INLINE.search(text) is not None


def from_inline(text: str) -> tuple[str, tuple[Segment, ...]]:
    """`<|0.00|> first<|4.20|><|4.40|> second<|9.98|>`: each stretch between a start and an end is a segment.

    A last start without an end yields a segment whose `end` is None: the slice was cut there, with its text or before any
    of it. Text without tokens has no segments.
    """
    parts = _INLINE.split(text)
    if len(parts) == 1:
        return " ".join(text.split()), ()
    segments: list[Segment] = []
    opened: tuple[float, str] | None = (0.0, _words(parts[0])) if parts[0].strip() else None
    for time, said in zip(map(float, parts[1::2]), map(_words, parts[2::2]), strict=True):
        if opened is None or not opened[1]:
            opened = time, said
            continue
        if time < opened[0]:
            raise bad(f"a segment ends at {time:g} s, before it starts at {opened[0]:g} s.")
        segments.append(Segment(opened[0], time, opened[1]))
        opened = (time, said) if said else None
    if opened:
        segments.append(Segment(opened[0], None, opened[1]))
    return plain(segments), tuple(segments)


def to_inline(segments: Sequence[Segment]) -> str:
    """Segments as Whisper writes them, in steps of 0.02 s."""
    parts = []
    for segment in segments:
        end = "" if segment.end is None else f"<|{snap(segment.end):.2f}|>"
        said = f" {segment.text}" if segment.text else ""
        parts.append(f"<|{snap(segment.start):.2f}|>{said}{end}")
    return "".join(parts)


def snap(seconds: float) -> float:
    """The nearest multiple of `TIME_STEP_SECONDS`."""
    return round(round(seconds * _STEPS_PER_SECOND) / _STEPS_PER_SECOND, 2)


def from_json(text: str) -> tuple[Segment, ...]:
    """`{"segments": [{start, end, text}]}`, the bare list, or what other recognisers write."""
    made = spoken_json.from_json_text(text)
    if made is None:
        raise bad("a list of {start, end, text} under 'segments' was wanted.")
    return tuple(cue.segment for cue in made if cue.lines or cue.end is None)


def closed(segments: Sequence[Segment], total_seconds: float) -> tuple[Segment, ...]:
    """Segments with their words' ends: one that is open ends where the next begins, the last one with the clip, unless no
    word of it stands there (the slice was cut before its words)."""
    made: list[Segment] = []
    afters = later_starts([segment.start for segment in segments])
    for place, (segment, after) in enumerate(zip(segments, afters, strict=True), start=1):
        if segment.end is None and segment.text:
            segment = replace(segment, end=max(segment.start, total_seconds) if after is None else after)
        if segment.end is not None or place == len(segments):
            made.append(segment)
    return tuple(made)


def to_srt(segments: Sequence[Segment]) -> str:
    """SubRip; a segment without an end ends where the next one begins, the last one with its start. One without words is
    left out."""
    spans: list[tuple[int, int, str]] = []
    for place, segment in enumerate(segments):
        if not segment.text.strip():
            continue
        after = next((other.start for other in segments[place + 1 :] if other.start > segment.start), segment.start)
        end = after if segment.end is None else segment.end
        spans.append((round(segment.start * 1000), round(end * 1000), unmarked(segment.text)))
    return srt_of(spans)


def srt_of(spans: Iterable[tuple[int, int, str]]) -> str:
    """SubRip, from (start, end, text) with times in milliseconds."""
    return "\n".join(
        f"{number}\n{clock(start)} --> {clock(end)}\n{text}\n"
        for number, (start, end, text) in enumerate(spans, start=1)
    )


def unmarked(text: str) -> str:
    """Words of a subtitle in which nothing can be taken for markup: references stand for what could."""
    text = _MARKUP.sub(lambda match: "".join(f"&#{ord(letter)};" for letter in match[0]), text)
    if ">" in text:  # else nothing that is opened is closed
        text = text.replace("<", "&#60;")
    return kept_together(text)


def to_lrc(segments: Sequence[Segment]) -> str:
    """LRC lines; a gap of over a second is marked by an empty line at the segment's end."""
    lines = []
    for index, segment in enumerate(segments):
        lines.append(f"[{minutes_clock(segment.start)}] {unmarked(segment.text)}")
        follower = segments[index + 1].start if index + 1 < len(segments) else math.inf
        if segment.end is not None and follower - segment.end > 1.0:
            lines.append(f"[{minutes_clock(segment.end)}]")
    return "\n".join(lines) + "\n"


def shifted(segments: Sequence[Segment], seconds: float) -> tuple[Segment, ...]:
    """Segments moved by `seconds`, snapped to Whisper's step."""
    return tuple(
        replace(
            segment,
            start=max(0.0, snap(segment.start + seconds)),
            end=None if segment.end is None else max(0.0, snap(segment.end + seconds)),
        )
        for segment in segments
    )


def _words(text: str) -> str:
    return " ".join(text.split())


def clock(milliseconds: int, point: str = ",") -> str:
    """`hh:mm:ss,mmm`."""
    rest, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(rest, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{thousandths:03d}"


def minutes_clock(seconds: float) -> str:
    """`mm:ss.xx`, as LRC has it."""
    rest, hundredths = divmod(round(seconds * 100), 100)
    minutes, whole = divmod(rest, 60)
    return f"{minutes:02d}:{whole:02d}.{hundredths:02d}"
