"""Readers of lists of times: labels of Audacity, transcripts with the clock's time before a line, Whisper's table."""

from __future__ import annotations

import re

from govor.corpus.cues import Cue, bad_line, clock_seconds, later_starts, lines_of, plain_text, spanned

_LABEL = re.compile(r"\s*([-−]?\d+(?:[.,]\d+)?)\t\s*([-−]?\d+(?:[.,]\d+)?)\s*(?:\t(.*))?")
# The same after some editor has made spaces of the tabs; it writes six decimals (1.000 may be a thousand).
_SPACED_LABEL = re.compile(r"\s*(\d+[.,]\d{4,})\s+(\d+[.,]\d{4,})\s*(?:\s(.*))?")
_WHISPER_TSV = re.compile(r"start\tend\ttext\s*")


def is_labels(text: str) -> bool:
    """Whether a text file is what Audacity exports: `start<TAB>end<TAB>label` in seconds, be it with a line that is broken."""
    lines = [line for line in lines_of(text) if line.strip()]
    return any(map(_LABEL.fullmatch, lines)) or (bool(lines) and all(map(_SPACED_LABEL.fullmatch, lines)))


def from_labels(text: str) -> list[Cue]:
    """Labels of Audacity; a label at a point lasts until the next one, and the last one until the end."""
    labels = []
    for number, line in enumerate(lines_of(text), start=1):
        match = _LABEL.fullmatch(line) or _SPACED_LABEL.fullmatch(line)
        if match:
            first, last = (float(match[n].replace(",", ".").replace("−", "-")) for n in (1, 2))
            labels.append((*spanned(first, last, f"line {number}: a label"), plain_text(match[3] or "")))
        elif line.strip() and not line.startswith("\\"):  # a backslash begins the frequencies of a label
            raise bad_line(number, line, "start, end and label with tabs between were wanted")
    labels.sort(key=lambda item: item[0])
    afters = later_starts([start for start, *_ in labels])
    return [
        Cue(start, after if end == start else end, (said,))
        for (start, end, said), after in zip(labels, afters, strict=True)
        if said
    ]


_STAMPED = re.compile(r"\s*([\[(])?((?:\d{1,2}:)?\d{1,3}:\d\d(?:[.,]\d{1,6})?)(?(1)[\])]|(?![\w.,:]))\s*[-–—:]?\s*(.*)")


def from_stamps(text: str) -> list[Cue] | None:
    """Lines that begin with the clock's time, as transcripts are copied from web pages: `0:05 words`, `[00:00:05] words`, or
    the time in a line of its own.

    None where the first line has no time, the only time is not the beginning, or times do not run forward.
    """
    stamped: list[tuple[float, list[str]]] = []
    for line in filter(str.strip, lines_of(text)):
        match = _STAMPED.fullmatch(line)
        start = match and clock_seconds(match[2])
        if match and start is not None:
            stamped.append((start, [match[3]]))
        elif not stamped:
            return None
        else:
            stamped[-1][1].append(line)
    starts = [start for start, _ in stamped]
    if not stamped or (len(stamped) == 1 and starts[0] > 0) or starts != sorted(starts):
        return None
    cues = []
    for (start, said), after in zip(stamped, later_starts(starts), strict=True):
        lines = tuple(filter(None, map(plain_text, said)))
        if lines:
            cues.append(Cue(start, after, lines))
    return cues


def from_tsv(text: str) -> list[Cue] | None:
    """The table `start, end, text` in milliseconds that Whisper writes; None where it is another table."""
    lines = lines_of(text)
    if not _WHISPER_TSV.fullmatch(lines[0].lower()):
        return None
    cues = []
    for number, line in enumerate(lines[1:], start=2):
        match = re.fullmatch(r"(\d{1,9})\t(\d{1,9})\t(.*)", line)
        if match:
            start, end = spanned(int(match[1]) / 1000, int(match[2]) / 1000, f"line {number}: a row")
            said = " ".join(match[3].split())
            cues += [Cue(start, end, (said,))] if said else []
        elif line.strip():
            raise bad_line(number, line, "start, end in milliseconds and text with tabs between were wanted")
    return cues
