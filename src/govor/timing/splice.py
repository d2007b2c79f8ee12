"""Recordings whose times are known because we made them: real clips, cut to their speech, with gaps of a known length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import AudioError
from govor.languages import language_key
from govor.silence import Sound, levels_db

MIN_GAP_SECONDS, MAX_GAP_SECONDS = 0.1, 1.0
_FRAME = SAMPLE_RATE // 100
_SOUND = Sound(under_peak_db=35.0)
_INAUDIBLE_DBFS = -70.0
_GAP_LEVEL = 10 ** (-65 / 20)  # digital silence would be told from a recording's own


@dataclass(frozen=True, slots=True)
class Line:
    """One clip inside of a splice: its text, and when its speech begins and ends, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Splice:
    """Samples [n] with the lines that are said in them."""

    samples: Samples
    language: str
    lines: tuple[Line, ...]


def speech_edges(samples: Samples) -> tuple[int, int]:
    """First and last sample of what is less than 35 dB below the loudest 10 ms; (0, 0) where nothing is audible."""
    levels = levels_db(samples, _FRAME)
    if not len(levels) or levels.max() < _INAUDIBLE_DBFS:
        return 0, 0
    loud = np.flatnonzero(_SOUND.of(levels))
    return int(loud[0]) * _FRAME, (int(loud[-1]) + 1) * _FRAME


def splices(
    clips: Sequence[Clip],
    count: int,
    seed: int,
    gaps_seconds: tuple[float, float] = (MIN_GAP_SECONDS, MAX_GAP_SECONDS),
    max_seconds: float = 28.0,
    most_lines: int = 4,
    on_unreadable: Callable[[Clip, str], None] = lambda _, __: None,
) -> Iterator[Splice]:
    """Up to `count` splices of 2 to `most_lines` clips of one language, drawn without replacement in a seeded order.

    Clips that cannot be read, or in which nothing is audible, are left out. Half a second of quiet is before and after.
    """
    generator = np.random.default_rng(seed)
    order = [clips[i] for i in generator.permutation(len(clips))]
    made = 0
    waiting: dict[str, list[tuple[Clip, Samples]]] = {}
    for clip in order:
        if made == count:
            return
        if not any(letter.isalnum() for letter in clip.transcript) or clip.duration > max_seconds / 2:
            continue
        try:
            samples = clip_samples(clip)
        except AudioError as error:
            on_unreadable(clip, str(error))
            continue
        first, last = speech_edges(samples)
        if last - first < SAMPLE_RATE // 10:
            continue
        language = language_key(clip.language)
        group = waiting.setdefault(language, [])
        group.append((clip, samples[first:last]))
        wanted = int(generator.integers(2, most_lines + 1))
        full = sum(len(part) for _, part in group) / SAMPLE_RATE > max_seconds - 1 - (len(group) + 1) * gaps_seconds[1]
        if len(group) > 1 and full:
            waiting[language] = [group.pop()]
        if len(group) >= wanted or (full and len(group) > 1):
            yield _joined(group, clip.language, generator, gaps_seconds)
            made += 1
            if waiting[language] is group:
                waiting[language] = []


def _joined(
    parts: Sequence[tuple[Clip, Samples]], language: str, generator: np.random.Generator, gaps: tuple[float, float]
) -> Splice:
    pieces, lines, at = [], [], 0
    for number, (clip, samples) in enumerate(parts):
        gap = round(generator.uniform(*gaps) * SAMPLE_RATE) if number else SAMPLE_RATE // 2
        pieces += [_quiet(gap, generator), samples]
        at += gap
        lines.append(Line(clip.transcript, at / SAMPLE_RATE, (at + len(samples)) / SAMPLE_RATE))
        at += len(samples)
    pieces.append(_quiet(SAMPLE_RATE // 2, generator))
    return Splice(np.concatenate(pieces).astype(np.float32), language, tuple(lines))


def _quiet(length: int, generator: np.random.Generator) -> Samples:
    noise: Samples = (generator.standard_normal(length) * _GAP_LEVEL).astype(np.float32)
    return noise
