"""Reader of TTML, by the recommendation of the W3C, and XML as all readers of it here take it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any, cast

from govor.corpus.cues import Cue, bad, clock_seconds, quoted, spanned

_MAX_XML_DEPTH = 100
_OFFSET_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(h|m|s|ms|f|t)")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def xml_events(text: str) -> Iterator[tuple[str, ET.Element]]:
    """(`start` or `end`, element) in the order of the document.

    Raises:
        AudioError: not well-formed, nested too deep, or with a document type, which may expand without end.
    """
    if re.search(r"<!(?:DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise bad("an XML file with a document type is not read; remove it.")
    pull: ET.XMLPullParser[Any] = ET.XMLPullParser(("start", "end"))
    depth = 0
    try:
        pull.feed(text.encode("utf-8", "replace") if not text.lstrip().startswith("<?xml") else _undeclared(text))
        pull.close()
        events = cast("list[tuple[str, ET.Element]]", list(pull.read_events()))
    except (ET.ParseError, ValueError) as error:
        raise bad(f"not well-formed XML: {str(error)[:100]}.") from None
    for event, _ in events:
        depth += 1 if event == "start" else -1
        if depth > _MAX_XML_DEPTH:
            raise bad(f"XML nested deeper than {_MAX_XML_DEPTH} elements is not read.")
    yield from events


def _undeclared(text: str) -> bytes:
    """The file is decoded already, whatever encoding it declares."""
    return re.sub(r"^\s*<\?xml[^>]*\?>", "", text, count=1).encode("utf-8", "replace")


def name_of(element: ET.Element) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def attribute(element: ET.Element, name: str) -> str | None:
    """An attribute of any namespace."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), None)


def from_ttml(text: str) -> list[Cue]:
    """TTML (`.ttml`, `.dfxp`): its paragraphs, timed by themselves or by what they stand in."""
    cues: list[Cue] = []
    spans: list[tuple[float, float | None]] = [(0.0, None)]
    clock: Callable[[str], float] = _ttml_clock(30.0, 1.0)
    agents: dict[str, str] = {}
    for event, element in xml_events(text):
        name = name_of(element)
        if event == "start":
            if name == "tt":
                clock = _ttml_rates(element)
            spans.append(_ttml_span(element, spans[-1], clock))
            continue
        start, end = spans.pop()
        if name == "agent":
            named = " ".join("".join(element.itertext()).split())
            agents[attribute(element, "id") or ""] = named
        elif name == "p":
            lines = tuple(filter(None, (" ".join(line.split()) for line in _ttml_text(element).split("\n"))))
            if lines and end is None:
                raise bad(f"the paragraph {quoted(' '.join(lines))} has no end.")
            who = attribute(element, "agent")
            if lines:
                cues.append(Cue(*spanned(start, end, f"{quoted(' '.join(lines))}"), lines, agents.get(who or "", who)))
    return sorted(cues, key=lambda cue: cue.start)


def _ttml_rates(element: ET.Element) -> Callable[[str], float]:
    try:
        rate = float(attribute(element, "frameRate") or 30)
        upper, lower = map(float, (attribute(element, "frameRateMultiplier") or "1 1").replace(":", " ").split())
        ticks = float(attribute(element, "tickRate") or 1)
        if not (rate * upper / lower > 0 and ticks > 0):
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise bad("its frame or tick rate is no number.") from None
    return _ttml_clock(rate * upper / lower, ticks)


def _ttml_clock(frames: float, ticks: float) -> Callable[[str], float]:
    def seconds(value: str) -> float:
        value = value.strip()
        match = _OFFSET_TIME.fullmatch(value)
        if match:
            unit = _UNIT_SECONDS.get(match[2]) or (1 / frames if match[2] == "f" else 1 / ticks)
            return round(float(match[1]) * unit, 6)
        counted = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d):(\d{1,3})", value)
        if counted:
            whole = clock_seconds(":".join(counted.groups()[:3]))
            if whole is not None:
                return round(whole + int(counted[4]) / frames, 6)
        seconds = clock_seconds(value) if re.fullmatch(r"\d{1,4}:\d\d:\d\d(?:[.,]\d{1,9})?", value) else None
        if seconds is None:
            raise bad(f"the time {quoted(value)} is not understood.")
        return seconds

    return seconds


def _ttml_span(
    element: ET.Element, above: tuple[float, float | None], clock: Callable[[str], float]
) -> tuple[float, float | None]:
    begin, end, lasts = (element.get(key) for key in ("begin", "end", "dur"))
    start = above[0] + (clock(begin) if begin else 0.0)
    if lasts:
        return start, start + clock(lasts)
    return start, above[0] + clock(end) if end else above[1]


def _ttml_text(element: ET.Element) -> str:
    """Words of a paragraph, its breaks as newlines."""
    said = [re.sub(r"\s+", " ", element.text or "")]
    for child in element:
        if name_of(child) == "br":
            said.append("\n")
        elif name_of(child) not in ("metadata", "desc", "title", "set"):
            said.append(_ttml_text(child))
        said.append(re.sub(r"\s+", " ", child.tail or ""))
    return "".join(said)
