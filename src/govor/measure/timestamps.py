"""How exact the times of words are, measured where the truth is known: on splices of real clips with known gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.records import Clip, sentence_key
from govor.errors import GovorError
from govor.families.base import Aligner, Recogniser
from govor.families.recogniser import RECOGNITION
from govor.families.task import ContextMode, DecodeOptions
from govor.files import refuse_existing
from govor.languages import language_key
from govor.measure.evaluate import EvalOptions, open_model
from govor.measure.scoring import ClipSet, Filed, dataset_name, manifest_record
from govor.progress import SILENT, Progress
from govor.runs import Json, Workspace, write_scoring
from govor.timing.align import Aligned, AlignmentHeads, align_pieces
from govor.timing.any_length import in_taught_language
from govor.timing.heads import measure_heads
from govor.timing.splice import Line, Splice, splices
from govor.timing.words import pieces_of

Trouble = Literal["none", "wrong word", "missing line", "unsaid line", "music before", "noise"]
TROUBLES: tuple[Trouble, ...] = ("none", "wrong word", "missing line", "unsaid line", "music before", "noise")
_MUSIC_SECONDS = 3.0
_NOISE_DB = 15.0  # below the speech
_SEED = 1729
_LOST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """Samples, the text that is aligned, cut, and the true lines: (first word, one past the last, start, end) in seconds.

    `unsaid` is the stretch of words (first, one past the last) that nobody says, if there is one.
    """

    samples: Samples
    pieces: tuple[str, ...]
    language: str
    lines: tuple[tuple[int, int, float, float], ...]
    unsaid: tuple[int, int] | None = None


def score_timestamps(
    workspace: Workspace,
    model: str,
    clips: ClipSet,
    options: EvalOptions,
    most: int | None = None,
    progress: Progress = SILENT,
) -> list[Filed]:
    """How well a model times words, on splices of the clips; filed under its name.

    In the context of the model's record where `options` names none. The heads are chosen on one half of the clips, and judged
    on the other; `most` is how many clips were asked for at most.

    Raises:
        GovorError: the model transcribes nothing, no two clips can be spliced, or it was measured and is not to be again.
    """
    opened, _ = open_model(workspace, model, options, progress)
    recogniser = opened.recogniser
    decode = DecodeOptions(language=opened.language_token)
    RECOGNITION.check_clips(recogniser, clips.clips, clips.manifest, decode)
    dataset = dataset_name(Path(workspace.as_given(clips.manifest))) + (f"-{most}" if most is not None else "")
    files = {
        context: workspace.scoring(opened.name, "timestamps", dataset, context)
        for context in map(opened.in_context, options.contexts or (None,))
    }
    for file in files.values():
        refuse_existing(file, options.existing == "overwrite", "--overwrite to measure it again")
    some = [in_taught_language(opened, clip) for clip in clips.clips]
    choosing, judging = some[: len(some) // 2], some[len(some) // 2 :]
    spliced = list(
        splices(judging, 40, 1, on_unreadable=lambda clip, why: progress.note(f"left out  {clip.id}: {why}"))
    )
    if not spliced:
        raise GovorError(f"{clips.manifest} holds no two short clips of one language to splice.")
    about = {"model": opened.name, "source": model, "set": dataset}
    of = {"manifest": manifest_record(workspace, clips.manifest), "max_samples": most}
    filed = []
    for context, file in files.items():
        measured = _measured(recogniser, choosing, spliced, context, progress)
        filed.append(Filed(file, {**about, "context": context, **of, **measured}))
        write_scoring(file, filed[-1].result)
    return filed


def _measured(
    recogniser: Recogniser,
    choosing: Sequence[Clip],
    spliced: Sequence[Splice],
    context: ContextMode,
    progress: Progress,
) -> Json:
    """In one context, with heads that were chosen on other clips."""
    chosen = measure_heads(recogniser, choosing, context) if isinstance(recogniser, Aligner) else None
    if chosen:
        count = len(chosen.chosen.heads)
        progress.note(f"{count} heads chosen on {chosen.borders} borders of one half of the clips")
    with progress.bar(f"time {len(spliced)} splices, {context}", len(spliced) * len(TROUBLES)) as bar:
        return measure(recogniser, spliced, context, chosen.chosen if chosen else None, TROUBLES, bar.advance)


def troubled(splice: Splice, trouble: Trouble, number: int, other: str = "") -> Case:
    """A splice as a case, with one thing wrong that real recordings have.

    A missing line is said and not in the text; an unsaid one, which is `other`, is in the text and not said.
    """
    generator = np.random.default_rng([_SEED, number])
    samples, lines = splice.samples, list(splice.lines)
    if trouble == "missing line":
        del lines[int(generator.integers(0, len(lines)))]
    elif trouble == "music before":
        lead = _music(generator, float(np.sqrt(np.mean(samples**2))))
        samples = np.concatenate([lead, samples])
        lines = [Line(line.text, line.start + _MUSIC_SECONDS, line.end + _MUSIC_SECONDS) for line in lines]
    elif trouble == "noise":
        loud = float(np.sqrt(np.mean(samples**2))) * 10 ** (-_NOISE_DB / 20)
        samples = samples + (generator.standard_normal(len(samples)) * loud).astype(np.float32)
    texts = [pieces_of(line.text, splice.language) for line in lines]
    if trouble == "wrong word":
        some = int(generator.integers(0, len(texts)))
        words = [word for text in texts for word in text]
        texts[some][int(generator.integers(0, len(texts[some])))] = words[int(generator.integers(0, len(words)))]
    extra = pieces_of(other, splice.language) if trouble == "unsaid line" else []
    before = int(generator.integers(0, len(lines) + 1)) if extra else -1
    timed: list[tuple[int, int, float, float]] = []
    written: list[str] = []
    unsaid = None
    for place, (line, part) in enumerate(zip([*lines, None], [*texts, []], strict=True)):
        if place == before:
            unsaid = (len(written), len(written) + len(extra))
            written += extra
        if line is not None:
            timed.append((len(written), len(written) + len(part), line.start, line.end))
            written += part
    return Case(samples.astype(np.float32), tuple(written), splice.language, tuple(timed), unsaid)


def measure(
    recogniser: object,
    splices: Sequence[Splice],
    context: ContextMode,
    heads: AlignmentHeads | None = None,
    troubles: Sequence[Trouble] = ("none",),
    on_done: Callable[[int], None] | None = None,
) -> Json:
    """Offsets and coverage for each trouble.

    `offset_seconds` is the mean distance of each line's first onset and last end from the truth, a second for those without a
    time; `coverage` the share of words of which at least half lies within their own line; `unsaid_left_out` that of words
    which nobody says and to which no time was given.
    """
    result: Json = {}
    method = None
    for trouble in troubles:
        cases = [
            troubled(splice, trouble, number, _foreign_line(splices, number)) for number, splice in enumerate(splices)
        ]
        if trouble == "unsaid line":
            cases = [case for case in cases if case.unsaid]
        # What is left of a splice of two lines without one may be nothing to align.
        cases = [case for case in cases if case.pieces and len(case.samples) <= 30 * SAMPLE_RATE]
        if not cases:
            continue
        aligned = align_pieces(
            recogniser,
            [case.samples for case in cases],
            [case.pieces for case in cases],
            [case.language for case in cases],
            context,
            heads,
            on_done,
        )
        method = aligned[0].method if aligned else method
        result["all" if trouble == "none" else trouble] = scored(cases, aligned)
    return {"splices": len(splices), "method": method, "approximate": method != "cross-attention", **result}


def _foreign_line(splices: Sequence[Splice], number: int) -> str:
    """A line of another splice in the same language that is not said in this one; none where there is no such line."""
    splice = splices[number]
    said = {sentence_key(line.text) for line in splice.lines}
    others = (line.text for other in (*splices[number + 1 :], *splices[:number]) for line in other.lines
              if language_key(other.language) == language_key(splice.language) and sentence_key(line.text) not in said)  # fmt: skip
    return next(others, "")


def scored(cases: Sequence[Case], alignments: Sequence[Aligned]) -> Json:
    """The figures of one trouble."""
    onsets: list[float] = []
    ends: list[float] = []
    inside = words = 0
    unsaid: list[bool] = []
    for case, aligned in zip(cases, alignments, strict=True):
        if not aligned.refused:
            unsaid += [word.start is None for word in aligned.words[slice(*(case.unsaid or (0, 0)))]]
        for first, after, start, end in case.lines:
            line = aligned.words[first:after]
            words += len(line)
            for word in line:
                if word.start is None or word.end is None:
                    continue
                shared = min(word.end, end) - max(word.start, start)
                inside += shared >= 0.5 * (word.end - word.start) and shared >= 0
            # A line that was not placed is off by as much as can be told from placed badly.
            onsets.append(_LOST_SECONDS if line[0].start is None else line[0].start - start)
            ends.append(_LOST_SECONDS if line[-1].end is None else line[-1].end - end)
    both = np.abs([*onsets, *ends])
    return {
        "lines": sum(len(case.lines) for case in cases),
        "words": words,
        "offset_seconds": round(float(both.mean()), 4) if len(both) else None,
        "onset_seconds": round(float(np.abs(onsets).mean()), 4) if onsets else None,
        "end_seconds": round(float(np.abs(ends).mean()), 4) if ends else None,
        "median_seconds": round(float(np.median(both)), 4) if len(both) else None,
        "p90_seconds": round(float(np.percentile(both, 90)), 4) if len(both) else None,
        "mean_signed_onset_seconds": round(float(np.mean(onsets)), 4) if onsets else None,
        "coverage": round(inside / words, 4) if words else None,
        **({"unsaid_left_out": round(sum(unsaid) / len(unsaid), 4)} if unsaid else {}),
    }


def _music(generator: np.random.Generator, level: float) -> Samples:
    """Three seconds of plucked chords as loud as the speech."""
    at = np.arange(int(_MUSIC_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    wave = np.zeros(len(at))
    for beat in range(int(_MUSIC_SECONDS * 2)):
        local = np.maximum(at - beat / 2, 0)
        for interval in (0, 4, 7, int(generator.integers(9, 20))):
            wave += (at >= beat / 2) * np.sin(2 * np.pi * 220 * 2 ** (interval / 12) * local) * np.exp(-3 * local)
    music: Samples = (wave / np.sqrt(np.mean(wave**2)) * level).astype(np.float32)
    return music
