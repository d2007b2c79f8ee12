"""Recordings of any length: cut at pauses into windows of at most 28 s, each transcribed, doubtful ones decoded again.

The recording is decoded as it is needed, so an hour takes as much memory as a minute. Windows in which nobody speaks are
left out; a window whose text goes in circles or is unsure is drawn anew at rising temperatures (`families/fallback.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from govor.audio import SAMPLE_RATE, Samples, cut_at_pauses, decode, stream
from govor.corpus.vad import Vad, seconds_of_speech
from govor.families.base import Recogniser
from govor.families.fallback import Answer, Flag, drawn_again
from govor.families.task import DecodeOptions
from govor.silence import SILENCE_DBFS, peak_dbfs
from govor.timing.align import audible

# A pause within the last half of this is looked for, so windows hold 14 to 28 s.
MAX_WINDOW_SECONDS = 28.0
# So many windows are in memory, and transcribed together, at a time.
WINDOWS = 8
# A short clip that hits the limit loops; a long one may simply hold more words than the decoder has positions.
SHORTEST_RETRY_SECONDS = 8.0
MANY_TOKENS = 300
# Characters a second of sound: under this, or this share of what is usual here, a window was left before its end.
_SLOWEST_PACE = 1.0
_SHARE_OF_PACE = 0.4
_FEWEST_SOUNDING_SECONDS = 4.0


Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LongFormOptions:
    """How a recording is transcribed.

    `decode` is how each window is (its `language` None means that the model detects one); `previous` gives each window the
    text before it (for models that were taught so); without `vad` silence is told by energy alone; `guard` drops what a
    model writes for no speech, and decodes loops and doubtful windows again.
    """

    decode: DecodeOptions
    previous: bool = False
    vad: Vad | None = None
    guard: bool = True


@dataclass(frozen=True, slots=True)
class Piece:
    """What a model wrote for one window of a recording, times in seconds; for its flags see `Answer`."""

    start: float
    end: float
    text: str
    mean_logprob: float | None
    no_speech: float | None
    flags: tuple[Flag, ...]
    tokens: int

    @property
    def doubtful(self) -> bool:
        """Whether a person should listen to it."""
        return bool({"loop", "unsure", "cut"} & set(self.flags))

    def to_row(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "text": self.text,
            "mean_logprob": self.mean_logprob,
            "no_speech": self.no_speech,
            "flags": list(self.flags),
            "tokens": self.tokens,
            "start": self.start,
            "end": self.end,
        }


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A window, as a span of samples, and what came of it."""

    span: Span
    answer: Answer

    @property
    def text(self) -> str:
        return self.answer.text

    @property
    def flags(self) -> tuple[Flag, ...]:
        return self.answer.flags

    @property
    def tokens(self) -> int:
        return 0 if self.answer.hypothesis is None else len(self.answer.hypothesis.tokens)

    def piece(self, offset_seconds: float) -> Piece:
        """The same, in a recording that goes on for so long before."""
        start, end = (round(offset_seconds + place / SAMPLE_RATE, 3) for place in self.span)
        first = self.answer.hypothesis
        logprob = None if first is None else round(first.mean_logprob, 4)
        no_speech = None if first is None or first.no_speech is None else round(first.no_speech, 4)
        return Piece(start, end, self.text, logprob, no_speech, self.flags, self.tokens)


def transcribe_recording(recogniser: Recogniser, audio: Path | str, options: LongFormOptions) -> Iterator[Piece]:
    """Pieces of a recording of any length, in order; together they cover it."""
    for piece, _ in transcribe_with_samples(recogniser, str(audio), options):
        yield piece


def transcribe_with_samples(
    recogniser: Recogniser,
    audio: str,
    options: LongFormOptions,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
) -> Iterator[tuple[Piece, Samples]]:
    """`transcribe_recording`, each piece with its samples; of a part of it, times count from the part's beginning."""
    before, pace = "", Pace()
    for offset, samples, spans in windows(audio, offset_seconds, duration_seconds):
        for group in [spans] if not options.previous else [[span] for span in spans]:
            previous = before if options.previous else None
            for window in _transcribe_windows(recogniser, samples, group, options, previous, pace):
                yield window.piece(offset), samples[slice(*window.span)]
                before = (before + " " + window.text)[-1000:]


class Pace:
    """How many characters a second of sound yields in this recording: a window far below was left before its end.

    Models that learned on short clips stop early in long windows.
    """

    def __init__(self) -> None:
        self._seen: list[float] = []

    def left_early(self, text: str, sounding_seconds: float) -> bool:
        """Whether the text is too short for the sound; what is not becomes part of the measure."""
        if sounding_seconds < _FEWEST_SOUNDING_SECONDS:
            return False
        pace = len(text) / sounding_seconds
        usual = float(np.median(self._seen)) if len(self._seen) >= 3 else 0.0
        if pace < max(_SLOWEST_PACE, _SHARE_OF_PACE * usual):
            return True
        self._seen.append(pace)
        return False


def windows(
    audio: str, offset_seconds: float = 0.0, duration_seconds: float | None = None
) -> Iterator[tuple[float, Samples, list[Span]]]:
    """(seconds before these samples, samples, windows in them as sample spans), a few windows at a time.

    Of a part of a recording, when offset and duration are given; times count from its beginning.
    """
    blocks: list[Samples] = []
    length = done = 0
    full = int(WINDOWS * MAX_WINDOW_SECONDS * SAMPLE_RATE)

    def cut(last: bool) -> tuple[float, Samples, list[Span]]:
        nonlocal blocks, length, done
        samples = np.concatenate(blocks) if len(blocks) != 1 else blocks[0]
        spans = cut_at_pauses(samples, MAX_WINDOW_SECONDS)
        spans = spans if last else spans[:-1]  # the last one's pause may lie in what is not read yet
        end = spans[-1][1]
        start = done / SAMPLE_RATE
        blocks, length, done = [samples[end:]], length - end, done + end
        return start, samples[:end], spans

    whole = duration_seconds is None
    for block in stream(audio) if whole else [decode(audio, offset_seconds, duration_seconds)]:
        blocks.append(block)
        length += len(block)
        while length > full:
            yield cut(last=False)
    if length:
        yield cut(last=True)


def _transcribe_windows(
    recogniser: Recogniser,
    samples: Samples,
    spans: Sequence[Span],
    options: LongFormOptions,
    previous: str | None,
    pace: Pace,
) -> list[_Decoded]:
    """The given windows of `samples`, in order.

    A window whose words did not fit the decoder, or that was left early, is cut at its best pause and decoded again; the
    parts stand in its place where they say more.
    """
    decoded: dict[Span, _Decoded] = {}
    parts_of: dict[Span, list[Span]] = {}
    waiting = list(spans)
    while waiting:
        decoded.update(zip(waiting, _decode(recogniser, samples, waiting, options, previous), strict=True))
        parts = {span: _split(samples, decoded[span], options, pace) for span in waiting}
        parts_of.update({span: some for span, some in parts.items() if len(some) > 1})
        waiting = [part for span in waiting for part in parts_of.get(span, ())]

    def best(span: Span) -> list[_Decoded]:
        parts = [window for part in parts_of.get(span, ()) for window in best(part)]
        longer = sum(len(window.text) for window in parts) > len(decoded[span].text)
        return parts if parts and longer else [decoded[span]]

    return [window for span in spans for window in best(span)]


def _decode(
    recogniser: Recogniser, samples: Samples, spans: Sequence[Span], options: LongFormOptions, previous: str | None
) -> list[_Decoded]:
    spoken = [span for span in spans if not options.guard or somebody_speaks(samples[slice(*span)], options.vad)]
    answers = dict(zip(spoken, _answers(recogniser, [samples[a:b] for a, b in spoken], options, previous), strict=True))
    return [_Decoded(span, answers.get(span) or Answer(None, ("silence",))) for span in spans]


def _answers(
    recogniser: Recogniser, clips: list[Samples], options: LongFormOptions, previous: str | None
) -> list[Answer]:
    if not clips:
        return []
    languages = [options.decode.language] * len(clips)
    before = [previous] * len(clips) if previous else None
    firsts = recogniser.transcribe(clips, languages, options.decode, previous=before)
    if not options.guard:
        return [Answer(first) for first in firsts]
    return drawn_again(recogniser, clips, languages, firsts, options.decode)


def somebody_speaks(window: Samples, vad: Vad | None) -> bool:
    """Whether anything is audible, and where there is a detector, whether it hears speech."""
    if peak_dbfs(window) < SILENCE_DBFS:
        return False
    return vad is None or bool(vad.speech(window))


def _split(samples: Samples, decoded: _Decoded, options: LongFormOptions, pace: Pace) -> list[Span]:
    """A window whose words did not fit, or that was left early, in two or three parts; else itself."""
    start, end = decoded.span
    seconds = (end - start) / SAMPLE_RATE
    if seconds < SHORTEST_RETRY_SECONDS or "silence" in decoded.flags:
        return [decoded.span]
    full = "cut" in decoded.flags and decoded.tokens >= MANY_TOKENS
    window = samples[start:end]
    if not full and (not options.guard or not pace.left_early(decoded.text, _sounding_seconds(window, options.vad))):
        return [decoded.span]
    return [(start + a, start + b) for a, b in cut_at_pauses(window, 0.6 * seconds)]


def _sounding_seconds(window: Samples, vad: Vad | None) -> float:
    if vad is not None:
        return seconds_of_speech(vad.speech(window), 0.0, len(window) / SAMPLE_RATE)
    return float(audible(window).mean()) * len(window) / SAMPLE_RATE
