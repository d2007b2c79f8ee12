"""One scoring from its clips to its files, by a model here or a server elsewhere; stopped half-way, it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from govor.audio import split_blob
from govor.corpus.manifests import fingerprint, read_clips
from govor.corpus.records import Clip
from govor.errors import AudioError, GovorError
from govor.families.recogniser import RECOGNITION, clip_row
from govor.families.task import DecodeOptions
from govor.measure.evaluate import transcribe_blocks, write_eval
from govor.measure.partial import Partial
from govor.measure.remote import Server, ask_all, latency_summary

if TYPE_CHECKING:  # clips are checked before torch is imported
    from govor.families.base import Recogniser
    from govor.families.opening import Opened
    from govor.families.task import ContextMode

OnDone = Callable[[int], None]


def clips_to_score(manifest: Path, most: int | None = None) -> list[Clip]:
    """The clips of a manifest; of more than `most` the same sample for every model.

    Raises:
        GovorError: none, two of one id, or audio that is not there.
    """
    clips = list(read_clips(manifest))
    if not clips:
        raise GovorError(f"{manifest} holds no clips to score.")
    seen: set[str] = set()
    for clip in clips:
        if clip.id in seen:
            raise GovorError(f"{manifest} holds the clip '{clip.id}' twice; give each an id of its own.")
        seen.add(clip.id)
    if most is not None and most < len(clips):
        chosen = set(sorted(seen, key=lambda name: sha256(name.encode("utf-8", "replace")).digest())[:most])
        clips = [clip for clip in clips if clip.id in chosen]
    gone = [clip for clip in clips if not split_blob(clip.audio)[0].is_file()]
    if gone:
        raise GovorError(
            f"{manifest}: the audio of {len(gone)} clips was not found (first: '{gone[0].id}' at {gone[0].audio})."
        )
    return clips


def check_clips(recogniser: Recogniser, clips: Sequence[Clip], manifest: Path, language: str | None = None) -> None:
    """See `SpeechRecognition.check_clips`."""
    RECOGNITION.check_clips(recogniser, clips, manifest, DecodeOptions(language=language))


def score_here(
    opened: Opened,
    clips: Sequence[Clip],
    manifest: Path,
    target: Path,
    about: dict[str, Any],
    context: ContextMode,
    beam_size: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    on_done: OnDone | None = None,
) -> dict[str, Any]:
    """Transcribe and count; returns the summary. `about` says what is scored and how.

    Clips that cannot be read stand under `failed` and count as empty, as those that a server gives no answer for, so that
    one clip does not end a scoring of hours; asked to resume, they are tried again.
    """
    partial = Partial(target, {**about, "manifest": fingerprint(manifest), "clips": len(clips)}, resume, overwrite)
    done = {row["id"] for row in partial.rows}
    if on_done and done:
        on_done(len(done))
    left = [clip for clip in clips if clip.id not in done]
    failed: list[dict[str, str]] = []
    lost: list[dict[str, Any]] = []

    def unreadable(clip: Clip, error: AudioError) -> None:
        failed.append({"id": clip.id, "reason": str(error)})
        lost.append(RECOGNITION.unanswered(clip))
        if on_done:
            on_done(1)

    for rows in transcribe_blocks(
        opened.recogniser, left, context, beam_size, on_done, opened.language_token, unreadable
    ):
        partial.add(rows)
    if not partial.rows:
        raise GovorError(f"None of the {len(clips)} clips of {manifest} can be read; the first: {failed[0]['reason']}")
    rows = in_order([*partial.rows, *lost], clips)
    seconds, audio = (sum(row[key] for row in partial.rows) for key in ("took_seconds", "duration"))
    found = {
        "seconds": round(seconds, 2),
        "real_time_factor": round(seconds / audio, 4) if audio else None,
        "failed": failed,
    }
    summary = write_eval(target, rows, {**about, **found}, manifest)
    if not failed:
        partial.finished()
    return summary


def score_server(
    server: Server,
    clips: Sequence[Clip],
    manifest: Path,
    target: Path,
    about: dict[str, Any],
    concurrency: int,
    resume: bool = False,
    overwrite: bool = False,
    on_done: OnDone | None = None,
) -> dict[str, Any]:
    """Ask the server for every clip and count; returns the summary, clips without an answer under `failed`.

    Their transcription counts as empty, so that a server gains nothing by refusing hard clips.
    """
    partial = Partial(target, {**about, "manifest": fingerprint(manifest), "clips": len(clips)}, resume, overwrite)
    answered = {row["id"] for row in partial.rows}
    if on_done and answered:
        on_done(len(answered))
    failed: list[dict[str, str]] = []
    lost: list[dict[str, Any]] = []
    start = time.perf_counter()
    asked_seconds = 0.0
    for clip, answer in ask_all(server, [c for c in clips if c.id not in answered], concurrency, None, on_done):
        asked = {"latency_seconds": round(answer.latency_seconds, 4), "tries": answer.tries}
        if answer.text is None:
            failed.append({"id": clip.id, "reason": answer.reason or "no answer"})
            lost.append({**RECOGNITION.unanswered(clip), **asked})
        else:
            row = {**clip_row(clip, answer.samples, answer.snr_db), "hypothesis": answer.text, **asked}
            asked_seconds += row["duration"]
            partial.add([row])
    seconds = time.perf_counter() - start
    if not partial.rows:
        raise GovorError(f"{server.url} answered none of {len(clips)} clips; the first: {failed[0]['reason']}.")
    rows = in_order([*partial.rows, *lost], clips)
    found = {
        "seconds": round(seconds, 2),
        # Of this call alone: what an earlier one asked for took its own time.
        "real_time_factor": round(seconds / asked_seconds, 4) if asked_seconds else None,
        "latency": latency_summary([row["latency_seconds"] for row in partial.rows]),
        "retried": sum(row["tries"] > 1 for row in partial.rows),
        "failed": failed,
    }
    summary = write_eval(target, rows, {**about, **found}, manifest)
    if not failed:
        partial.finished()
    return summary


def in_order(rows: Sequence[dict[str, Any]], clips: Sequence[Clip]) -> list[dict[str, Any]]:
    """Rows in the order of the manifest."""
    by_name = {row["id"]: row for row in rows}
    return [by_name[clip.id] for clip in clips]
