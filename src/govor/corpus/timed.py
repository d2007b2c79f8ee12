"""Transcripts with times: SRT, VTT, LRC, JSON segments and inline `<|t|>`; read into plain text and segments.

Times inside our files are seconds; text is plain. Formats are written from integer milli- or centiseconds, because
rounding seconds yields 60.00.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from govor.corpus.records import Segment
from govor.errors import AudioError, GovorError
from govor.files import parse_json

_INLINE = re.compile(r"<\|(\d{1,7}(?:\.\d{1,6})?)\|>")
_SRT_TIME = re.compile(
    r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[,.](\d{1,3})\s*-->\s*(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[,.](\d{1,3})"
)
_LRC_LINE = re.compile(r"((?:\[\d{1,5}:\d{1,2}(?:[.:]\d{1,3})?\])+)(.*)")
_LRC_OFFSET = re.compile(r"\[offset:\s*([+-]?\d{1,8})\s*\]", re.IGNORECASE)
_LRC_TIME = re.compile(r"\[(\d{1,5}):(\d{1,2})(?:[.:](\d{1,3}))?\]")
_LRC_WORD = re.compile(r"<\d+:\d{1,2}(?:[.:]\d{1,3})?>")
_TAGS = re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}")


def plain(segments: Sequence[Segment]) -> str:
    """The words of all segments, one space between."""
    return " ".join(" ".join(segment.text for segment in segments).split())


def parse(text: str, suffix: str) -> tuple[str, tuple[Segment, ...]]:
    """Plain text and segments of a transcript file's content; a file without times has no segments.

    Raises:
        AudioError: rule `bad_transcript`, the content is not what the suffix says.
    """
    if suffix == ".json":
        segments = from_json(text)
    elif suffix in (".srt", ".vtt"):
        segments = from_srt(text)
    elif suffix == ".lrc":
        segments = from_lrc(text)
    else:
        return from_inline(text)
    if not segments and text.strip():
        raise AudioError("bad_transcript", f"no timed line was found in the {suffix} file.")
    return plain(segments), segments


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
            raise AudioError("bad_transcript", f"a segment ends at {time:g} s, before it starts at {opened[0]:g} s.")
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
    """The nearest multiple of 0.02 s, Whisper's time step."""
    return round(round(seconds * 50) / 50, 2)


def from_srt(text: str) -> tuple[Segment, ...]:
    """SubRip and WebVTT: time line, text lines, blank line. Formatting tags are left out."""
    segments: list[Segment] = []
    open_time: tuple[float, float] | None = None
    said: list[str] = []

    def close() -> None:
        words = " ".join(_TAGS.sub("", " ".join(said)).split())
        if open_time and words:
            segments.append(Segment(open_time[0], max(open_time), words))

    for line in text.splitlines():
        match = _SRT_TIME.search(line)
        if match:
            if said and said[-1].strip().isdigit() and open_time:
                said.pop()  # the next block's number, where the blank line is missing
            close()
            open_time, said = (_clock(*match.groups()[:4]), _clock(*match.groups()[4:])), []
        elif not line.strip():
            close()
            open_time, said = None, []
        elif open_time:
            said.append(line)
    close()
    return tuple(sorted(segments, key=lambda segment: segment.start))


def from_lrc(text: str) -> tuple[Segment, ...]:
    """LRC: `[mm:ss.xx] line`, several times a line allowed, enhanced word tags left out; a line ends where the next starts."""
    starts: list[tuple[float, str]] = []
    for line in text.splitlines():
        match = _LRC_LINE.match(line.strip())
        if match:
            words = " ".join(_LRC_WORD.sub(" ", match[2]).split())
            starts += [(_minutes(*time.groups()), words) for time in _LRC_TIME.finditer(match[1])]
    # A positive offset, in milliseconds, shows every line earlier.
    moved = _LRC_OFFSET.search(text)
    earlier = int(moved[1]) / 1000 if moved else 0.0
    starts = [(max(0.0, round(start - earlier, 3)), words) for start, words in starts]
    starts.sort(key=lambda item: item[0])
    ends = [start for start, _ in starts[1:]] + [None]
    return tuple(Segment(start, end, words) for (start, words), end in zip(starts, ends, strict=True) if words)


def from_json(text: str) -> tuple[Segment, ...]:
    """`{"segments": [{start, end, text}]}`, or the bare list."""
    try:
        loaded = parse_json(text, "not valid JSON")
    except GovorError as error:
        raise AudioError("bad_transcript", str(error)) from None
    items = loaded.get("segments") if isinstance(loaded, dict) else loaded
    if not isinstance(items, list):
        raise AudioError("bad_transcript", "a list of {start, end, text} under 'segments' was wanted.")
    segments = (_segment(item) for item in items)
    return tuple(segment for segment in segments if segment.text or segment.end is None)


def to_srt(segments: Sequence[Segment]) -> str:
    """SubRip; a segment without an end ends with its start."""
    blocks = [
        f"{number}\n{clock(round(s.start * 1000))} --> {clock(round((s.start if s.end is None else s.end) * 1000))}\n{s.text}\n"
        for number, s in enumerate(segments, start=1)
    ]
    return "\n".join(blocks)


def to_lrc(segments: Sequence[Segment]) -> str:
    """LRC lines; a gap of over a second is marked by an empty line at the segment's end."""
    lines = []
    for index, segment in enumerate(segments):
        lines.append(f"[{minutes_clock(segment.start)}] {segment.text}")
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


def _segment(item: object) -> Segment:
    try:
        values = dict(item)  # type: ignore[call-overload]
        start = float(values["start"])
        end = None if values.get("end") is None else float(values["end"])
        said = " ".join(str(values["text"]).split())
    except (KeyError, TypeError, ValueError, OverflowError):
        raise AudioError("bad_transcript", f"{{start, end, text}} was wanted, found {str(item)[:80]}.") from None
    bad = not math.isfinite(start) or start < 0 or (end is not None and not start <= end < math.inf)
    if bad:
        raise AudioError("bad_transcript", f"a segment from {start} to {end} s is no stretch of time.")
    speaker = values.get("speaker")
    return Segment(start, end, said, None if speaker is None else str(speaker))


def _clock(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return (whole * 1000 + int(fraction.ljust(3, "0"))) / 1000


def _minutes(minutes: str, seconds: str, fraction: str | None) -> float:
    return ((int(minutes) * 60 + int(seconds)) * 1000 + int((fraction or "0").ljust(3, "0"))) / 1000


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
