"""What a model writes where nobody speaks: silence, noises and music made here, so that no word can be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.vad import Vad, open_vad
from govor.families.base import Recogniser
from govor.families.fallback import Answer, drawn_again
from govor.families.task import ContextMode, DecodeOptions, Row
from govor.files import refuse_existing
from govor.measure.evaluate import EvalOptions, contexts_of, open_model
from govor.measure.scoring import Filed, decoded_name
from govor.metrics.loops import loop_at
from govor.progress import SILENT, Progress
from govor.runs import Json, Workspace, write_scoring
from govor.timing.longform import somebody_speaks

Wave = npt.NDArray[np.float64]
SECONDS = (1.0, 4.0, 10.0, 28.0)
LEVELS_DBFS = (-40.0, -20.0)
_SEED = 1815


def sounds() -> Iterator[tuple[str, Samples]]:
    """(kind, samples) of each: four lengths of each kind, at two levels but for digital silence."""
    generator = np.random.default_rng(_SEED)
    for seconds in SECONDS:
        length = int(seconds * SAMPLE_RATE)
        yield "silence", np.zeros(length, np.float32)
        for level in LEVELS_DBFS:
            for kind, make in _KINDS.items():
                wave = make(length, generator)
                loud = wave / (np.sqrt(np.mean(wave**2)) + 1e-12) * 10 ** (level / 20)
                yield kind, np.clip(loud, -1, 1).astype(np.float32)


def score_hallucination(
    workspace: Workspace, model: str, options: EvalOptions, progress: Progress = SILENT
) -> list[Filed]:
    """What a model writes for silence, noise and music, in each context; filed under its name.

    Raises:
        GovorError: the model transcribes nothing, or was measured already and is not to be again.
    """
    opened, _ = open_model(workspace, model, options, progress)
    recogniser = opened.recogniser
    detector = open_vad("auto", progress.note)
    name = decoded_name(opened.name, engine=options.engine)
    filed = []
    for context in contexts_of(opened, options.contexts):
        file = workspace.scoring(name, "hallucination", context)
        refuse_existing(file, options.existing == "overwrite", "--overwrite to measure it again")
        with progress.bar(f"listen to nothing, {context}", None) as bar:
            measured = measure(recogniser, opened.language, context, detector, bar.advance)
        result = {"model": name, "source": model, "context": context, **measured}
        write_scoring(file, result)
        filed.append(Filed(file, result))
    return filed


def measure(
    recogniser: Recogniser,
    language: str | None,
    context: ContextMode,
    vad: Vad | None = None,
    on_done: Callable[[int], None] = lambda _: None,
) -> Json:
    """How often the bare model writes something, how often that passes the guards of long recordings unflagged, and how
    often it still does behind a speech detector, which is what `govor transcribe` does.

    Rates are shares of all sounds, and of those of each kind.
    """
    played = list(sounds())
    options = DecodeOptions(context)
    waves = [wave for _, wave in played]
    hypotheses = recogniser.transcribe(waves, [language] * len(played), options, on_done)
    audible = [place for place, wave in enumerate(waves) if somebody_speaks(wave, None)]
    asked, firsts = [waves[place] for place in audible], [hypotheses[place] for place in audible]
    drawn = drawn_again(recogniser, asked, [language] * len(asked), firsts, options)
    answers = dict(zip(audible, drawn, strict=True))
    rows: list[Row] = []
    for place, ((kind, wave), hypothesis) in enumerate(zip(played, hypotheses, strict=True)):
        answer = answers.get(place) or Answer(None, ("silence",))
        text = hypothesis.text if answer.hypothesis is None else answer.hypothesis.text
        written = bool(text) and not {"silence", "no_speech", "unsure", "loop"} & set(answer.flags)
        rows.append(
            {
                "kind": kind,
                "seconds": len(wave) / SAMPLE_RATE,
                "bare": hypothesis.text,
                "loop": loop_at(hypothesis.tokens) is not None,
                "guarded": text,
                "flags": list(answer.flags),
                "bare_wrong": bool(hypothesis.text),
                "guarded_wrong": written,
                "wrong": written and (vad is None or somebody_speaks(wave, vad)),
            }
        )
    return {
        "sounds": len(rows),
        "detector": None if vad is None else vad.name,
        **_rates(rows),
        "by_kind": {
            kind: _rates([row for row in rows if row["kind"] == kind]) for kind in sorted({k for k, _ in played})
        },
        "rows": rows,
    }


def _rates(rows: Sequence[Row]) -> dict[str, float]:
    def share(key: str) -> float:
        return round(float(sum(row[key] for row in rows)) / len(rows), 4)

    return {
        "bare_rate": share("bare_wrong"),
        "loop_rate": share("loop"),
        "guarded_rate": share("guarded_wrong"),
        "hallucination_rate": share("wrong"),
    }


def sentence(result: Json) -> str:
    """The result in words."""
    worst = max(result["by_kind"], key=lambda kind: result["by_kind"][kind]["guarded_rate"])
    detector = "no speech detector" if result["detector"] is None else f"the {result['detector']} speech detector"
    return (
        f"{result['model']}, {result['context']}: the bare model writes something for {result['bare_rate']:.0%} of "
        f"{result['sounds']} sounds without speech (loops: {result['loop_rate']:.0%}); {result['guarded_rate']:.0%} pass the "
        f"guards unflagged, most for {worst}; with {detector}, as govor transcribe does, {result['hallucination_rate']:.0%}"
    )


def _coloured(slope: float) -> Callable[[int, np.random.Generator], Wave]:
    """Noise whose power falls with frequency to the power of `slope`."""

    def make(length: int, generator: np.random.Generator) -> Wave:
        spectrum = np.fft.rfft(generator.standard_normal(length))
        frequencies = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
        frequencies[0] = frequencies[1]
        return np.fft.irfft(spectrum / frequencies ** (slope / 2), length)

    return make


def _hum(length: int, generator: np.random.Generator) -> Wave:
    at = np.arange(length) / SAMPLE_RATE
    waves = (np.sin(2 * np.pi * 50 * k * at + generator.uniform(0, 6.28)) / k for k in (1, 2, 3, 5))
    return sum(waves, start=np.zeros(length))


def _clicks(length: int, generator: np.random.Generator) -> Wave:
    wave = generator.standard_normal(length) * 1e-3
    for at in generator.integers(0, length, max(1, length // 8000)):
        end = min(length, at + 80)
        wave[at:end] += generator.standard_normal(end - at) * np.exp(-np.arange(end - at) / 15)
    return wave


def _music(length: int, generator: np.random.Generator) -> Wave:
    """Chords of plucked tones, two a second: partials that decay within two seconds."""
    wave = np.zeros(length + 2 * SAMPLE_RATE)
    local = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    roots = 110 * 2 ** (np.array([0, 5, 7, 3]) / 12)
    for number in range(int(np.ceil(length / SAMPLE_RATE * 2))):
        start = number * SAMPLE_RATE // 2
        for interval in (0, 4, 7, 12, int(generator.integers(12, 20))):
            pitch = roots[number // 4 % 4] * 2 ** (interval / 12)
            for k in range(1, 6):
                wave[start : start + len(local)] += np.sin(2 * np.pi * pitch * k * local) * np.exp(-local * (2 + k)) / k
    return wave[:length]


_KINDS: dict[str, Callable[[int, np.random.Generator], Wave]] = {
    "white noise": _coloured(0),
    "pink noise": _coloured(1),
    "brown noise": _coloured(2),
    "hum": _hum,
    "clicks": _clicks,
    "music": _music,
}
