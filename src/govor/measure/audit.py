"""Does each transcript match its audio? Asked of a model before training, with a threshold that planted errors calibrate.

A clip's worth is how much more probable its audio makes its transcript than another clip's audio of like length does: the
mean log-probability of the transcript's tokens with its own audio, less that with the other's. What is merely hard to write
(names, rare words) is as hard with both, so the difference tells what was said from what was not. Some clips are given
another clip's transcript, of the same speaker and like length where there is one; the threshold is set on one half of the
clips and judged on the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.manifests import write_rows
from govor.corpus.records import Clip, sentence_key
from govor.corpus.samples import clip_samples
from govor.errors import AudioError, GovorError
from govor.examples.spec import ExampleSpec
from govor.families.base import IGNORED, Batch, Family, Labels
from govor.families.recogniser import RECOGNITION
from govor.families.task import ContextMode, DecodeOptions, Row
from govor.files import atomic_folder, refuse_existing
from govor.jsons import write_json
from govor.languages import language_key
from govor.measure.evaluate import EvalOptions, open_model
from govor.measure.report.audio import copy_audio
from govor.measure.report.page import check_replaceable, render
from govor.measure.scoring import ClipSet, Filed
from govor.progress import SILENT, Bar, Progress
from govor.runs import Json, Workspace

_SEED = 20_121
FEWEST_CLIPS = 40
FILES = frozenset({"index.html", "audit.json", "suspicious.jsonl", "audio"})
_BATCH = 8
_BATCH_SECONDS = 60.0
_PAGE_CLIPS = 200


@dataclass(frozen=True, slots=True)
class Pair:
    """An audio, a text, and whether the text was planted; `number` is the clip's place."""

    number: int
    text: str
    planted: bool


@runtime_checkable
class TextRenderer(Protocol):
    """A renderer that gives another text's labels without the audio's features being made again."""

    def encode(self, spec: ExampleSpec, samples: Samples) -> Any:
        """See `Renderer`."""
        ...

    def collate(self, examples: Sequence[Any]) -> Batch:
        """See `Renderer`."""
        ...

    def labels(self, spec: ExampleSpec) -> Labels:
        """The labels of an example alone."""
        ...


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """How transcripts are judged: with which share of planted ones, in which audio context (the model's own if None), and where
    the result goes (`reports/audit-<manifest>` if None)."""

    planted_share: float = 0.05
    context: ContextMode | None = None
    out: Path | None = None
    overwrite: bool = False


def audit(
    workspace: Workspace,
    clips: ClipSet,
    model: str,
    options: AuditOptions = AuditOptions(),
    opening: EvalOptions = EvalOptions(),
    progress: Progress = SILENT,
) -> Filed:
    """Judge transcripts by a model; writes a folder with suspicious.jsonl, audit.json and a page.

    Raises:
        GovorError: too few clips to calibrate on, or a model that cannot score texts.
    """
    target = options.out or workspace.reports / f"audit-{clips.manifest.stem}"
    refuse_existing(target, options.overwrite)
    check_replaceable(target, FILES, "an audit")
    opened, _ = open_model(workspace, model, opening, progress)
    recogniser = opened.recogniser
    RECOGNITION.check_clips(recogniser, clips.clips, clips.manifest, DecodeOptions(language=opened.language_token))
    if not isinstance(recogniser, Family) or not isinstance(recogniser.renderer, TextRenderer):
        raise GovorError(
            f"{opened.name} can only transcribe here; an audit needs the model's own weights, without --engine."
        )
    context = opened.in_context(options.context)
    listener = _Listener(recogniser, recogniser.renderer, opened.language_token, context, clips.clips)
    with progress.bar("audit", None) as bar:
        result, rows = _judge_all(listener, options.planted_share, bar)
    result = {
        "model": opened.name,
        "context": context,
        "clips": len(clips),
        "unheard": len(listener.unreadable),
        **result,
    }
    with atomic_folder(target.resolve(), "the audit", replace=options.overwrite) as folder:
        _write(folder, result, rows, listener)
    return Filed(target, result)


def _judge_all(listener: _Listener, planted_share: float, bar: Bar) -> tuple[Json, list[Row]]:
    clips = listener.clips
    usable = [place for place, clip in enumerate(clips) if clip.transcript.strip()]
    if len(usable) < FEWEST_CLIPS:
        raise GovorError(
            f"{len(usable)} clips have a transcript, and an audit needs {FEWEST_CLIPS} to set its threshold."
        )
    planted = plant(clips, usable, planted_share)
    if not planted:
        raise GovorError("Every clip says the same, so no wrong transcript can be planted to calibrate on.")
    other = partners(clips, usable)
    gains: dict[bool, dict[int, float]] = {False: {}, True: {}}
    pairs = [Pair(place, clips[place].transcript, False) for place in usable]
    pairs += [Pair(place, clips[source].transcript, True) for place, source in planted.items()]
    done = 0
    for batch in _batches(pairs, clips):
        for pair, gain in zip(batch, listener.gains(batch, other), strict=True):
            if gain is not None:
                gains[pair.planted][pair.number] = gain
        done += len(batch)
        bar.to(done, len(pairs))
    if len(gains[False]) < FEWEST_CLIPS:
        first = next(iter(listener.unreadable.values()), "")
        raise GovorError(
            f"{len(gains[False])} clips could be judged, and an audit needs {FEWEST_CLIPS}; the first reason: {first}"
        )
    return judged(gains[False], gains[True])


def _write(folder: Path, result: Json, rows: Sequence[Row], listener: _Listener) -> None:
    clips = listener.clips
    listed = [
        {**_short(clips[row["number"]]), **{k: v for k, v in row.items() if k != "number"}}
        for row in rows
        if row["suspicious"]
    ]
    lost = [{**_short(clips[place]), "suspicious": True, "reason": why} for place, why in listener.unreadable.items()]
    write_rows(folder / "suspicious.jsonl", [*listed, *lost])
    write_json(folder / "audit.json", {**result, "rows": [{**row, "id": clips[row["number"]].id} for row in rows]})
    _write_page(folder, result, [(clips[row["number"]], row) for row in rows[:_PAGE_CLIPS]])


def plant(clips: Sequence[Clip], usable: Sequence[int], share: float) -> dict[int, int]:
    """Clip → the clip whose transcript it gets: another sentence, of the same speaker and the nearest length where possible."""
    generator = np.random.default_rng(_SEED)
    chosen = generator.permutation(np.asarray(usable))[: max(10, round(share * len(usable)))]
    keys = {place: sentence_key(clips[place].transcript) for place in usable}
    languages = {place: language_key(clips[place].language) for place in usable}
    by_speaker: dict[str | None, list[int]] = {}
    for place in usable:
        by_speaker.setdefault(clips[place].speaker, []).append(place)
    planted: dict[int, int] = {}
    for place in map(int, chosen):
        own = clips[place]
        same = [p for p in by_speaker[own.speaker] if keys[p] != keys[place] and languages[p] == languages[place]]
        if not same:
            same = [p for p in usable if keys[p] != keys[place] and languages[p] == languages[place]]
        if same:
            near = sorted(same, key=lambda p: abs(len(clips[p].transcript) - len(own.transcript)))[:10]
            planted[place] = int(generator.choice(near))
    return planted


def partners(clips: Sequence[Clip], usable: Sequence[int]) -> dict[int, int]:
    """Clip → the clip whose audio its transcript is tried on for comparison: the next longer one that says something else."""
    order = sorted(usable, key=lambda place: (clips[place].duration, place))
    partner_of = {}
    for rank, place in enumerate(order):
        key = sentence_key(clips[place].transcript)
        around = (
            order[i] for i in (*range(rank + 1, min(rank + 30, len(order))), *range(rank - 1, max(rank - 30, -1), -1))
        )
        partner_of[place] = next((p for p in around if sentence_key(clips[p].transcript) != key), order[rank - 1])
    return partner_of


def judged(own: dict[int, float], planted: dict[int, float]) -> tuple[Json, list[Json]]:
    """(threshold, precision, recall, …; a row per clip, worst first). Clips of even rank set the threshold, odd ones judge."""
    order = np.random.default_rng(_SEED + 1).permutation(sorted(own))
    calibration = set(order[::2].tolist())
    halves = {}
    for name, inside in (("calibration", True), ("judged", False)):
        chosen = [place for place in own if (place in calibration) == inside]
        values = np.array([planted.get(place, own[place]) for place in chosen])
        wrong = np.array([place in planted for place in chosen])
        halves[name] = (values, wrong)
    threshold = best_threshold(*halves["calibration"])
    figures = {name: precision_recall(*half, threshold) for name, half in halves.items()}
    rows: list[Json] = []
    for place, value in sorted(own.items(), key=lambda item: item[1]):
        suspicious = value < threshold
        rows.append(
            {
                "number": place,
                "worth": round(value, 4),
                "suspicious": suspicious,
                "reason": f"its audio makes the transcript {_times(value)}; {_times(threshold)} is the least"
                if suspicious
                else None,
            }
        )
    result: Json = {
        "threshold": round(threshold, 4),
        "planted": len(planted),
        "planted_share": round(len(planted) / max(len(own), 1), 4),
        "precision": figures["judged"][0],
        "recall": figures["judged"][1],
        "precision_calibration": figures["calibration"][0],
        "recall_calibration": figures["calibration"][1],
        "suspicious": sum(row["suspicious"] for row in rows),
    }
    return result, rows


def best_threshold(values: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_]) -> float:
    """Between two values, where precision and recall of finding the wrong ones have the highest F1; the middle of the gap."""
    order = np.argsort(values, kind="stable")
    ordered, bad = values[order], wrong[order]
    hits = np.cumsum(bad)
    f1 = 2 * hits / (np.arange(1, len(bad) + 1) + max(int(bad.sum()), 1))
    at = int(f1.argmax())
    return float((ordered[at] + ordered[min(at + 1, len(ordered) - 1)]) / 2)


def precision_recall(
    values: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_], threshold: float
) -> tuple[float | None, float | None]:
    """Of those below the threshold the share that is wrong, of the wrong ones the share that is below."""
    below = values < threshold
    precision = round(float(wrong[below].mean()), 4) if below.any() else None
    recall = round(float(below[wrong].mean()), 4) if wrong.any() else None
    return precision, recall


def sentence(result: Json) -> str:
    """The result in words."""
    shown = {key: "n/a" if result[key] is None else f"{result[key]:.2f}" for key in ("precision", "recall")}
    return (
        f"{result['suspicious']} of {result['clips']} clips are suspicious (threshold {result['threshold']:.2f} nats a token, set on "
        f"one half with {result['planted']} planted mismatches; on the other half precision {shown['precision']}, recall "
        f"{shown['recall']})" + (f"; {result['unheard']} could not be read" if result["unheard"] else "")
    )


def _times(worth: float) -> str:
    """A difference of mean log-probabilities as people read it."""
    return f"{np.exp(min(worth, 20.0)):.2g} times as probable a token as another clip's does"


def _batches(pairs: Sequence[Pair], clips: Sequence[Clip]) -> Iterator[list[Pair]]:
    """Pairs in order of length, so that a batch wastes little."""
    batch: list[Pair] = []
    for pair in sorted(pairs, key=lambda pair: clips[pair.number].duration):
        longest = clips[pair.number].duration
        if batch and (len(batch) == _BATCH or (len(batch) + 1) * longest > _BATCH_SECONDS):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class _Listener:
    """A model that says how probable texts are with audio; `unreadable` gathers clips that cannot be used, with the reason."""

    family: Family
    renderer: TextRenderer
    language_token: str | None
    context: ContextMode
    clips: Sequence[Clip]
    unreadable: dict[int, str] = field(default_factory=dict)

    def gains(self, batch: Sequence[Pair], other: dict[int, int]) -> list[float | None]:
        """What its own audio gives each pair's text over the other clip's; None where an audio or a text cannot be used."""
        audio = self._audio({place for pair in batch for place in (pair.number, other[pair.number])})
        tries = [
            (number, place, pair.text)
            for number, pair in enumerate(batch)
            if audio[pair.number] is not None and audio[other[pair.number]] is not None
            for place in (pair.number, other[pair.number])
        ]
        logprobs: list[list[float]] = [[] for _ in batch]
        examples, owners = [], []
        rendered: dict[int, Any] = {}
        for number, place, text in tries:
            samples = audio[place]
            assert samples is not None
            spec = self._spec(place, text, samples)
            try:
                if place not in rendered:
                    rendered[place] = self.renderer.encode(spec, samples)
                # One audio, several texts: its features are the same tensor, which a family may encode once.
                examples.append(replace(rendered[place], labels=self.renderer.labels(spec)))
                owners.append(number)
            except GovorError as error:
                if text == self.clips[batch[number].number].transcript and place == batch[number].number:
                    self.unreadable.setdefault(place, str(error))
        if examples:
            means = _mean_logprobs(self.family, self.renderer.collate(examples))
            for number, mean in zip(owners, means, strict=True):
                logprobs[number].append(mean)
        return [pair[0] - pair[1] if len(pair) == 2 else None for pair in logprobs]

    def _audio(self, places: set[int]) -> dict[int, Samples | None]:
        audio: dict[int, Samples | None] = {}
        for place in places:
            try:
                audio[place] = clip_samples(self.clips[place])
            except AudioError as error:
                audio[place] = None
                self.unreadable[place] = str(error)
        return audio

    def _spec(self, place: int, text: str, samples: Samples) -> ExampleSpec:
        clip = self.clips[place]
        clip = clip.replace(transcript=text, segments=(), duration=len(samples) / SAMPLE_RATE, offset=None)
        return ExampleSpec(
            clip,
            self.language_token or clip.language,
            full_length=self.context == "padded",
            cached=self.context == "cached",
        )


@torch.inference_mode()
def _mean_logprobs(family: Family, batch: Batch) -> list[float]:
    """The mean log-probability of each row's taught tokens."""
    module = family.module
    moved = {key: value if isinstance(value, list) else value.to(module.device) for key, value in batch.items()}
    same: dict[int, torch.Tensor] = {}
    moved["mels"] = [same.setdefault(id(mel), mel.to(module.device, module.dtype)) for mel in batch["mels"]]
    logits = family.logits(moved)
    targets = moved["targets"]
    means = []
    for row in range(len(targets)):
        taught = targets[row] != IGNORED
        chosen = torch.log_softmax(logits[row][taught].float(), dim=-1).gather(1, targets[row][taught][:, None])
        means.append(float(chosen.mean()))
    return means


def _short(clip: Clip) -> Json:
    row = clip.to_row()
    return {
        key: row[key]
        for key in ("id", "audio", "offset", "transcript", "duration", "language", "speaker", "source")
        if key in row
    }


def _write_page(folder: Path, result: Json, worst: Sequence[tuple[Clip, Json]]) -> None:
    (folder / "audio").mkdir()
    rows = [
        {
            "id": clip.id,
            "audio": copy_audio(clip.file, clip.offset, clip.duration, folder, number),
            "transcript": clip.transcript,
            "seconds": clip.duration,
            "speaker": clip.speaker or "",
            "worth": row["worth"],
            "suspicious": row["suspicious"],
        }
        for number, (clip, row) in enumerate(worst)
    ]
    page = render("audit.html", result=result, sentence=sentence(result), rows=rows)
    (folder / "index.html").write_text(page, encoding="utf-8", errors="backslashreplace")
