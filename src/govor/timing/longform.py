"""Recordings of any length: cut at pauses into windows of at most 28 s, each transcribed, doubtful ones heard again.

The recording is decoded as it is needed, so an hour takes as much memory as a minute. Windows in which nobody speaks are
left out; a window whose text goes in circles is drawn anew at rising temperatures (Radford et al. 2022, section 4.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from govor.audio import SAMPLE_RATE, Samples, cut_at_pauses, decode, stream
from govor.corpus.vad import Vad, seconds_of_speech
from govor.families.base import Hypothesis, Recogniser
from govor.families.task import ContextMode, DecodeOptions
from govor.timing.align import audible

# A pause within the last half of this is looked for, so windows hold 14 to 28 s.
WINDOW_SECONDS = 28.0
# So many windows are in memory, and transcribed together, at a time.
WINDOWS = 8
# A short clip that hits the limit loops; a long one may simply hold more words than the decoder has positions.
SHORTEST_RETRY_SECONDS = 8.0
MANY_TOKENS = 300
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)
# OpenAI's own limits: a window is taken for empty when both hold.
NO_SPEECH = 0.6
UNSURE_LOGPROB = -1.0
_SILENCE_DBFS = -60.0
# Characters a second of sound: under this, or this share of what is usual here, a window was left before its end.
_SLOWEST_PACE = 1.0
_SHARE_OF_PACE = 0.4
_FEWEST_SOUNDING_SECONDS = 4.0
# A block of tokens said so often in a row, and so long in all, is a loop and no emphasis.
_LOOP_TIMES = 4
_LOOP_TOKENS = 12
_LONGEST_PERIOD = 40


@dataclass(frozen=True, slots=True)
class Ear:
    """How a recording is transcribed.

    `previous` gives each window the text before it (for models that were taught so); without `vad` silence is told by
    energy alone; `guard` drops what a model writes for no speech, and hears loops again.
    """

    language: str | None
    context: ContextMode
    beam_size: int = 1
    previous: bool = False
    vad: Vad | None = None
    guard: bool = True


def transcribe_recording(
    recogniser: Recogniser, path: Path, how: Ear, on_seconds: Callable[[float], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Pieces with `start` and `end` in seconds, `text`, `mean_logprob` and `flags`; together they cover the recording.

    Flags: `silence` and `no_speech` (nothing was said, the text is empty), `loop` (it goes in circles whatever the
    temperature; what came before the circle is kept), `retried` (drawn at a temperature after a loop), `unsure` (the model
    itself doubts it), `cut` (it hit the limit).
    """
    for piece, _ in hear(recogniser, str(path), how):
        yield piece
        on_seconds(piece["end"] - piece["start"])


def hear(
    recogniser: Recogniser,
    audio: str,
    how: Ear,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
) -> Iterator[tuple[dict[str, Any], Samples]]:
    """`transcribe_recording`, each piece with its samples."""
    before, pace = "", Pace()
    for offset, samples, spans in windows(audio, offset_seconds, duration_seconds):
        for group in [spans] if not how.previous else [[span] for span in spans]:
            for piece in transcribe_windows(recogniser, samples, group, how, before if how.previous else None, pace):
                a, b = piece.pop("span")
                yield (
                    {**piece, "start": round(offset + a / SAMPLE_RATE, 3), "end": round(offset + b / SAMPLE_RATE, 3)},
                    samples[a:b],
                )
                before = (before + " " + piece["text"])[-1000:]


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
) -> Iterator[tuple[float, Samples, list[tuple[int, int]]]]:
    """(seconds before these samples, samples, windows in them as sample spans), a few windows at a time.

    Of a part of a recording, when offset and duration are given; times count from its beginning.
    """
    held: list[Samples] = []
    length = done = 0
    full = int(WINDOWS * WINDOW_SECONDS * SAMPLE_RATE)

    def cut(last: bool) -> tuple[float, Samples, list[tuple[int, int]]]:
        nonlocal held, length, done
        samples = np.concatenate(held) if len(held) != 1 else held[0]
        spans = cut_at_pauses(samples, WINDOW_SECONDS)
        spans = spans if last else spans[:-1]  # the last one's pause may lie in what is not read yet
        end = spans[-1][1]
        start = done / SAMPLE_RATE
        held, length, done = [samples[end:]], length - end, done + end
        return start, samples[:end], spans

    whole = duration_seconds is None
    for block in stream(audio) if whole else [decode(audio, offset_seconds, duration_seconds)]:
        held.append(block)
        length += len(block)
        while length > full:
            yield cut(last=False)
    if length:
        yield cut(last=True)


def transcribe_windows(
    recogniser: Recogniser,
    samples: Samples,
    spans: Sequence[tuple[int, int]],
    how: Ear,
    before: str | None = None,
    pace: Pace | None = None,
) -> list[dict[str, Any]]:
    """Pieces of the given windows of `samples`, in order, each with its `span`.

    A window whose words did not fit the decoder, or that was left early, is cut at its best pause and heard again; the parts
    stand in its place where they say more.
    """
    pace = pace or Pace()
    found: dict[tuple[int, int], dict[str, Any]] = {}
    parts_of: dict[tuple[int, int], list[tuple[int, int]]] = {}
    waiting = list(spans)
    while waiting:
        found.update(zip(waiting, _pieces(recogniser, samples, waiting, how, before), strict=True))
        cut = {span: _halves(samples, span, found[span], how, pace) for span in waiting}
        parts_of.update({span: parts for span, parts in cut.items() if len(parts) > 1})
        waiting = [part for span in waiting for part in parts_of.get(span, ())]

    def best(span: tuple[int, int]) -> list[dict[str, Any]]:
        parts = [piece for part in parts_of.get(span, ()) for piece in best(part)]
        longer = sum(len(piece["text"]) for piece in parts) > len(found[span]["text"])
        return parts if parts and longer else [found[span]]

    return [piece for span in spans for piece in best(span)]


def _pieces(
    recogniser: Recogniser, samples: Samples, spans: Sequence[tuple[int, int]], how: Ear, before: str | None
) -> list[dict[str, Any]]:
    heard = [span for span in spans if not how.guard or somebody_speaks(samples[span[0] : span[1]], how.vad)]
    texts = _ask(recogniser, [samples[a:b] for a, b in heard], how, before, 0.0) if heard else []
    told = {
        span: judged(recogniser, samples[span[0] : span[1]], hypothesis, how)
        for span, hypothesis in zip(heard, texts, strict=True)
    }
    return [_piece(span, *told.get(span, (None, ["silence"]))) for span in spans]


def loop_at(tokens: Sequence[int] | Sequence[str]) -> int | None:
    """Where the text begins to go in circles: the token after the first of at least four equal blocks in a row, of twelve
    tokens in all; None where it does not."""
    ids = np.asarray(tokens)
    for period in range(1, min(_LONGEST_PERIOD, len(ids) // _LOOP_TIMES) + 1):
        same = ids[:-period] == ids[period:]
        wanted = max((_LOOP_TIMES - 1) * period, _LOOP_TOKENS - period)
        run = 0
        for place, equal in enumerate(same):
            run = run + 1 if equal else 0
            if run >= wanted:
                return place - run + 1 + period
    return None


def _ask(
    recogniser: Recogniser, clips: list[Samples], how: Ear, before: str | None, temperature: float
) -> list[Hypothesis]:
    return recogniser.transcribe(
        clips,
        [how.language] * len(clips),
        DecodeOptions(how.context, how.beam_size, temperature),
        previous=[before] * len(clips) if before else None,
    )


def judged(recogniser: Recogniser, window: Samples, first: Hypothesis, how: Ear) -> tuple[Hypothesis, list[str]]:
    """What a window's text is worth; a loop is drawn again, without the text before it, which may have led into it."""
    if not how.guard:
        return first, []
    if first.no_speech is not None and first.no_speech > NO_SPEECH and first.mean_logprob < UNSURE_LOGPROB:
        return first, ["no_speech"]
    best, flags = first, []
    if loop_at(first.tokens) is not None:
        flags = ["loop"]
        for temperature in TEMPERATURES:
            (again,) = _ask(recogniser, [window], how, None, temperature)
            if loop_at(again.tokens) is None and again.complete:
                best, flags = again, ["retried"]
                break
    if best.mean_logprob < UNSURE_LOGPROB:
        flags.append("unsure")
    if not best.complete:
        flags.append("cut")
    return best, flags


def _piece(span: tuple[int, int], heard: Hypothesis | None, flags: list[str]) -> dict[str, Any]:
    text = "" if heard is None or "no_speech" in flags else heard.text
    if heard is not None and "loop" in flags:
        kept = (loop_at(heard.tokens) or 0) / max(len(heard.tokens), 1)
        words = text.split()
        text = " ".join(words[: max(1, round(kept * len(words)))]) if words else ""
    return {
        "span": span,
        "text": text,
        "mean_logprob": None if heard is None else round(heard.mean_logprob, 4),
        "no_speech": None if heard is None or heard.no_speech is None else round(heard.no_speech, 4),
        "flags": flags,
        "tokens": 0 if heard is None else len(heard.tokens),
    }


def somebody_speaks(window: Samples, vad: Vad | None) -> bool:
    """Whether anything is audible, and where there is a detector, whether it hears speech."""
    if not len(window) or 20 * np.log10(float(np.abs(window).max()) + 1e-12) < _SILENCE_DBFS:
        return False
    return vad is None or bool(vad.speech(window))


def _halves(
    samples: Samples, span: tuple[int, int], piece: dict[str, Any], how: Ear, pace: Pace
) -> list[tuple[int, int]]:
    """A window whose words did not fit, or that was left early, in two or three parts; else itself."""
    start, end = span
    seconds = (end - start) / SAMPLE_RATE
    if seconds < SHORTEST_RETRY_SECONDS or "silence" in piece["flags"]:
        return [span]
    full = "cut" in piece["flags"] and piece["tokens"] >= MANY_TOKENS
    window = samples[start:end]
    if not full and (not how.guard or not pace.left_early(piece["text"], _sounding_seconds(window, how.vad))):
        return [span]
    return [(start + a, start + b) for a, b in cut_at_pauses(window, 0.6 * seconds)]


def _sounding_seconds(window: Samples, vad: Vad | None) -> float:
    if vad is not None:
        return seconds_of_speech(vad.speech(window), 0.0, len(window) / SAMPLE_RATE)
    return float(audible(window).mean()) * len(window) / SAMPLE_RATE
