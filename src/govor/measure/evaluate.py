"""Score a model on a set of clips: one here, or one that a server runs. Stopped half-way, it goes on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from govor.corpus.records import Clip
from govor.errors import AudioError, GovorError, nearest
from govor.families.recogniser import RECOGNITION, clip_row
from govor.families.registry import family_here, task_of
from govor.families.task import ContextMode, DecodeOptions, Row
from govor.measure.partial import Partial
from govor.measure.remote import Server, ask_all, latency_summary
from govor.measure.scoring import PLAIN, ClipSet, Existing, Filed, Scoring, decoded_name
from govor.progress import SILENT, Bar, Progress
from govor.runs import Json, Workspace

if TYPE_CHECKING:  # clips are checked before torch is imported
    from govor.families.opening import Opened

PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
CONTEXTS: tuple[ContextMode, ...] = ("padded", "speech")


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """How a model is scored. `contexts` are those asked for, every one that the task has where none is; a `plain` search of a
    recogniser is taken as it is, and without it what loops or is unsure is drawn again, as engines do."""

    contexts: tuple[ContextMode, ...] | None = None
    beam_size: int = 1
    engine: str = "torch"
    precision: PrecisionName = "auto"
    device: str = "auto"
    existing: Existing = "refuse"
    plain: bool = False


def contexts_of(opened: Opened, wanted: Sequence[ContextMode] | None) -> list[ContextMode]:
    """The audio contexts that are scored: those asked for, else the usual ones that the task has and the model's own.

    Raises:
        GovorError: the task or the model has none such.
    """
    task = opened.task
    for context in wanted or ():
        if context not in task.contexts:
            raise GovorError(
                f"{task.name} has no audio context '{context}'; score it with --context {task.contexts[0]}."
            )
        opened.in_context(context)
    if wanted:
        return list(wanted)
    usual = [context for context in CONTEXTS if context in task.contexts]
    return usual if opened.context in usual else [*usual, opened.context]


def open_model(
    workspace: Workspace, model: str, options: EvalOptions, progress: Progress = SILENT
) -> tuple[Opened, str]:
    """A model on its device, and the number format that it computes in."""
    from govor.device import pick_device, pick_precision, torch_dtype  # only now: torch takes seconds
    from govor.families.opening import open_model as open_source

    device = pick_device(options.device).value
    precision = pick_precision(options.precision, device).value
    source = workspace.model(model)
    opened = open_source(source, torch_dtype(precision), device, options.engine, progress.note, workspace)
    return opened, precision if options.engine == "torch" else "as stored"


def refuse_other_task(workspace: Workspace, model: str, wanted: str) -> None:
    """Refuse a model that transcribes nothing before it is opened; `wanted` is what needs a recogniser."""
    family = family_here(workspace.model(model))
    if family is not None and task_of(family) is not RECOGNITION:
        raise GovorError(f"{model} writes no text, and {wanted} needs a speech recogniser; give it one.")


def evaluate(
    workspace: Workspace,
    model: str,
    clips: ClipSet,
    options: EvalOptions = EvalOptions(),
    progress: Progress = SILENT,
) -> list[Filed]:
    """Score a model in each context and file the scorings; the summaries that are returned have their `file` as well.

    Clips that cannot be read stand under `failed` and count as empty, so that one clip does not end a scoring of hours; when it
    is resumed, they are tried again.

    Raises:
        GovorError: the model cannot be opened, does not take these clips, or a scoring is there that may not be replaced.
    """
    opened, precision = open_model(workspace, model, options, progress)
    from govor.families.opening import weights_stamp

    task = opened.task
    recognises = task is RECOGNITION
    if options.plain and not recognises:
        raise GovorError(f"{model} writes no text, so there is no search that could be plain; leave --plain out.")
    served = recognises and not options.plain
    decode = DecodeOptions(beam_size=options.beam_size, language=opened.language_token, served=served)
    clips.check(task)
    task.check_clips(opened.model, clips.clips, clips.manifest, decode)
    of_task = {"decoding": "served" if served else PLAIN} if recognises else {"task": task.name}
    how = {"beam_size": options.beam_size, "engine": options.engine, "precision": precision}
    scorings = [
        Scoring(workspace, task, clips, {
            "model": decoded_name(opened.name, options.beam_size, options.engine, options.plain), "source": model, "set": clips.name,
            "context": context, **of_task, **how, "weights": weights_stamp(opened.folder),
        })
        for context in contexts_of(opened, options.contexts)
    ]  # fmt: skip
    for scoring in scorings:
        scoring.refuse_existing(options.existing)
    return [
        _file(
            scoring,
            options.existing,
            f"score {scoring.about['model']} {scoring.about['context']}",
            partial(_score, scoring, opened, replace(decode, context=scoring.about["context"]), options.existing),
            progress,
        )
        for scoring in scorings
    ]


def evaluate_server(
    workspace: Workspace,
    server: Server,
    clips: ClipSet,
    concurrency: int = 8,
    existing: Existing = "refuse",
    progress: Progress = SILENT,
) -> Filed:
    """Ask a server for every clip and file the scoring; the summary that is returned has its `file` as well.

    Clips without an answer stand under `failed`. Their transcription counts as empty, so that a server gains nothing by
    refusing hard clips.

    Raises:
        GovorError: the server offers no such model, will not answer, or a scoring is there that may not be replaced.
    """
    clips.check(RECOGNITION)
    offered = server.models()
    if offered and server.model not in offered:
        raise GovorError(f"{server.url} offers no model '{server.model}'; {nearest(server.model, offered)}")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", server.model.split("/")[-1]).strip("-.") or "server"
    about = {"model": name, "source": server.model, "set": clips.name, "context": "server", "server": server.url}
    scoring = Scoring(workspace, RECOGNITION, clips, about)
    scoring.refuse_existing(existing)
    score = partial(_score_server, scoring, server, concurrency, existing)
    return _file(scoring, existing, f"ask {server.url} for {server.model}", score, progress)


def _file(scoring: Scoring, existing: Existing, title: str, score: Callable[[Bar], Json], progress: Progress) -> Filed:
    """The scoring that is there already, or one that is made now."""
    summary = scoring.finished(existing)
    reused = summary is not None
    if summary is None:
        with progress.bar(title, len(scoring.clips)) as bar:
            summary = score(bar)
    else:
        progress.note(f"reusing {scoring.shown}" if existing == "renew" else f"{scoring.shown} is there already")
    return Filed(scoring.file, {**summary, "file": scoring.shown}, reused)


def _score(scoring: Scoring, opened: Opened, decode: DecodeOptions, existing: Existing, bar: Bar) -> Json:
    clips = scoring.clips.clips
    answered = scoring.unfinished(existing)
    left = _left(clips, answered, bar)
    failed: list[Json] = []
    unanswered: list[Row] = []

    def unreadable(clip: Clip, error: AudioError) -> None:
        failed.append({"id": clip.id, "reason": str(error)})
        unanswered.append(scoring.task.unanswered(clip, opened.model))
        bar.advance(1)

    for rows in scoring.task.answers(opened.model, left, decode, bar.advance, unreadable):
        answered.add(rows)
    if not answered.rows:
        manifest = scoring.clips.manifest
        raise GovorError(f"None of the {len(clips)} clips of {manifest} can be read; the first: {failed[0]['reason']}")
    seconds, audio = (sum(row.get(key, 0.0) for row in answered.rows) for key in ("took_seconds", "duration"))
    measured = {
        "seconds": round(seconds, 2),
        "real_time_factor": round(seconds / audio, 4) if audio and seconds else None,
        "failed": failed,
    }
    return _filed(scoring, answered, unanswered, measured)


def _score_server(scoring: Scoring, server: Server, concurrency: int, existing: Existing, bar: Bar) -> Json:
    clips = scoring.clips.clips
    answered = scoring.unfinished(existing)
    left = _left(clips, answered, bar)
    failed: list[Json] = []
    unanswered: list[Row] = []
    start = time.perf_counter()
    audio = 0.0
    for clip, answer in ask_all(server, left, concurrency, None, bar.advance):
        tried = {"latency_seconds": round(answer.latency_seconds, 4), "tries": answer.tries}
        if answer.text is None:
            failed.append({"id": clip.id, "reason": answer.reason or "no answer"})
            unanswered.append({**scoring.task.unanswered(clip), **tried})
        else:
            row = {**clip_row(clip, answer.samples, answer.snr_db), "hypothesis": answer.text, **tried}
            audio += row["duration"]
            answered.add([row])
    seconds = time.perf_counter() - start
    if not answered.rows:
        raise GovorError(f"{server.url} answered none of {len(clips)} clips; the first: {failed[0]['reason']}.")
    measured = {
        "seconds": round(seconds, 2),
        # Of this call alone: what an earlier one asked for took its own time.
        "real_time_factor": round(seconds / audio, 4) if audio else None,
        "latency": latency_summary([row["latency_seconds"] for row in answered.rows]),
        "retried": sum(row["tries"] > 1 for row in answered.rows),
        "failed": failed,
    }
    return _filed(scoring, answered, unanswered, measured)


def _left(clips: Sequence[Clip], answered: Partial, bar: Bar) -> list[Clip]:
    """The clips without an answer yet."""
    done = {row["id"] for row in answered.rows}
    if done:
        bar.advance(len(done))
    return [clip for clip in clips if clip.id not in done]


def _filed(scoring: Scoring, answered: Partial, unanswered: Sequence[Row], measured: Json) -> Json:
    summary = scoring.write([*answered.rows, *unanswered], measured)
    if not measured["failed"]:
        answered.finished()
    return summary
