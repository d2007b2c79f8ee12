"""Where a long recording with known segments is cut: a pure plan, in seconds.

Slices hold whole segments, as many as fit. A segment that would cross the edge starts the next slice, so nothing is said
twice and nothing is cut. Cuts lie in the pauses. Speech that no segment transcribes ends a slice: a model must not learn
to be silent about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from govor.corpus.records import Segment
from govor.corpus.transcripts import TIME_STEP_SECONDS

# How far a slice may reach into the pause before its first and after its last segment.
MAX_MARGIN_SECONDS = 0.5
# A longer pause ends the slice even if nobody speaks in it.
MAX_PAUSE_SECONDS = 5.0
# This much speech in a pause was said and not transcribed.
UNTRANSCRIBED_SECONDS = 0.6

# A segment may end this far past the recording by rounding; beyond, its times are of something else.
MAX_OVERSHOOT_SECONDS = 0.5

# More than anyone can say; a shorter segment is judged as if it lasted MIN_RATE_SECONDS, since cues are timed by hand.
MAX_CHARACTERS_PER_SECOND = 45.0
MIN_RATE_SECONDS = 0.5

SpeechIn = Callable[[float, float], float]
Quietest = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of the recording and the segments inside, their times still those of the recording."""

    start: float
    end: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Segments that cannot be in any slice."""

    start: float
    end: float
    rule: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class _Unit:
    """Segments that overlap in time and so stay together."""

    start: float
    end: float
    segments: tuple[Segment, ...]


def plan_slices(
    segments: Sequence[Segment],
    total_seconds: float,
    max_seconds: float,
    speech_in: SpeechIn,
    quietest: Quietest,
    max_characters_per_second: float = MAX_CHARACTERS_PER_SECOND,
) -> list[Slice | Rejected]:
    """Cut a recording of `total_seconds` into slices of at most `max_seconds`, in order of time.

    Args:
        segments: what is said when; an `end` of None means until the next begins.
        speech_in: seconds of speech between two times.
        quietest: the best moment to cut between two times.
        max_characters_per_second: segments with more text are in no slice (`text_too_long`).

    A segment of no length stays in the slice that it falls into and opens none (`segment_without_length`).
    """
    late = [
        s
        for s in segments
        if s.text and (s.start >= total_seconds or (s.end or 0.0) > total_seconds + MAX_OVERSHOOT_SECONDS)
    ]
    units = list(_units([s for s in segments if s not in late], total_seconds))
    planned: list[Slice | Rejected] = []
    open_units: list[_Unit] = []
    left_edge = 0.0

    def close(right_edge: float) -> None:
        if open_units:
            planned.append(_slice(open_units, left_edge, right_edge, max_seconds))
            open_units.clear()

    for unit in units:
        previous_end = open_units[-1].end if open_units else (planned[-1].end if planned else 0.0)
        cut = _cut(previous_end, unit.start, quietest)
        fits = open_units and unit.end - max(left_edge, open_units[0].start) <= max_seconds
        pause = unit.start - previous_end
        silent = pause <= MAX_PAUSE_SECONDS and speech_in(previous_end, unit.start) < UNTRANSCRIBED_SECONDS
        rule = _refusal(unit, max_seconds, max_characters_per_second, joins=bool(fits and silent))
        if rule:
            close(cut)
            planned.append(Rejected(unit.start, unit.end, rule, unit.segments))
            left_edge = unit.end
            continue
        if open_units and not (fits and silent):
            close(cut)
            left_edge = cut
        elif not open_units:
            left_edge = max(left_edge, cut if planned else 0.0)
        open_units.append(unit)
    close(total_seconds)
    beyond = (Rejected(s.start, s.start if s.end is None else s.end, "times_beyond_end", (s,)) for s in late)
    return [*planned, *beyond]


def _refusal(unit: _Unit, max_seconds: float, most: float, joins: bool) -> str | None:
    """The rule by which a unit is in no slice."""
    if unit.end - unit.start > max_seconds:
        return "segment_too_long"
    if any(characters_per_second(segment) > most for segment in unit.segments):
        return "text_too_long"
    if unit.end - unit.start < TIME_STEP_SECONDS and not joins:
        return "segment_without_length"
    return None


def characters_per_second(segment: Segment) -> float:
    """Of a segment with an end, a very short one taken for MIN_RATE_SECONDS."""
    length = 0.0 if segment.end is None else segment.end - segment.start
    return len(segment.text) / max(length, MIN_RATE_SECONDS)


def _units(segments: Sequence[Segment], total_seconds: float) -> Iterator[_Unit]:
    ordered = sorted((s for s in segments if s.text and s.start < total_seconds), key=lambda segment: segment.start)
    overlapping: list[Segment] = []
    end = 0.0
    for index, segment in enumerate(ordered):
        if overlapping and segment.start >= end - 1e-6:
            yield _Unit(overlapping[0].start, end, tuple(overlapping))
            overlapping, end = [], 0.0
        following = ordered[index + 1].start if index + 1 < len(ordered) else total_seconds
        stop = min(total_seconds, max(segment.start, following if segment.end is None else segment.end))
        overlapping.append(Segment(segment.start, stop, segment.text, segment.speaker))
        end = max(end, stop)
    if overlapping:
        yield _Unit(overlapping[0].start, end, tuple(overlapping))


def _cut(before: float, after: float, quietest: Quietest) -> float:
    return quietest(before, after) if after > before else max(before, after)


def _slice(units: list[_Unit], left_edge: float, right_edge: float, max_seconds: float) -> Slice:
    start = max(left_edge, units[0].start - MAX_MARGIN_SECONDS)
    end = min(right_edge, units[-1].end + MAX_MARGIN_SECONDS)
    # The margins give way where the segments alone nearly fill the limit.
    spare = max(0.0, max_seconds - (units[-1].end - units[0].start))
    start = max(start, units[0].start - spare / 2)
    end = min(max(end, units[-1].end), start + max_seconds)
    return Slice(start, end, tuple(segment for unit in units for segment in unit.segments))
