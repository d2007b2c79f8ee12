"""Clips and recordings of any length, known text or none: the way in for whoever wants words with times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from govor.audio import SAMPLE_RATE, decode
from govor.corpus.manifests import read_clips
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import AudioError, GovorError
from govor.families.base import Aligner, Recogniser
from govor.families.opening import Opened
from govor.families.task import ContextMode
from govor.jsons import read_json
from govor.timing import heads
from govor.timing.align import Aligned, Listening, align_pieces
from govor.timing.longform import Ear, hear
from govor.timing.recordings import Window, align_recording
from govor.timing.words import pieces_of

# What fits a model's window is aligned at once.
_AT_ONCE_SECONDS = 29.0
_CLIPS_TO_CHOOSE_BY = 400
Notify = Callable[[str], None]


def listening_of(
    opened: Opened, clips: Iterable[Clip], context: ContextMode, anew: bool = False, notify: Notify = lambda _: None
) -> Listening | None:
    """The heads to believe: kept beside the model, else measured now on the short ones of `clips`, or of the clips that the run
    was validated on, and kept; else None (those that the model's configuration names)."""
    recogniser = opened.recogniser
    if not isinstance(recogniser, Aligner):
        return None
    found = None if anew else heads.kept(opened.folder, recogniser.heads, context)
    if found is not None:
        return found
    measured = None
    for source in (clips, _validated_on(opened.folder)):
        some = [told(opened, clip) for clip in islice(source, _CLIPS_TO_CHOOSE_BY) if clip.transcript.strip()]
        measured = measured or heads.measure_heads(recogniser, some, context)
    if measured is None:
        notify("too few short clips to measure the heads on; those that the model's configuration names are believed")
        return None
    notify(
        f"heads measured on {measured.borders} borders between clips: {len(measured.listening.heads)} of "
        f"{len(recogniser.heads)} follow the speech, off by {measured.error_seconds * 1000:.0f} ms"
    )
    try:
        heads.keep(opened.folder, measured, context, {"model": opened.name})
    except (OSError, GovorError) as error:
        notify(f"the choice cannot be kept beside the model: {error}")
    return measured.listening


def told(opened: Opened, clip: Clip) -> Clip:
    """The clip in the language that the model was taught for all of its clips, if it was."""
    return clip.replace(language=opened.language_token) if opened.language_token else clip


def _validated_on(folder: Path) -> Iterator[Clip]:
    """Clips that the run in `folder` was validated on, as far as they are still there."""
    for place in (folder, *list(folder.parents)[:2]):
        if (place / "run_manifest.json").exists():
            data = read_json(place / "run_manifest.json").get("data", {})
            paths = [Path(entry["path"]) for name, entry in data.items() if name.endswith("/validation")]
            for path in paths:
                if path.exists():
                    yield from read_clips(path)
            return


def align_any(
    recogniser: Recogniser,
    clip: Clip,
    context: ContextMode,
    listening: Listening | None,
    check: bool = True,
    pieces: Sequence[str] | None = None,
) -> tuple[Aligned, float]:
    """(words with times, seconds) of a clip or a recording of any length; times count from the clip's beginning.

    Args:
        check: refuse audio that is not as long as the row says.
        pieces: the transcript, cut already; by words if None.

    Raises:
        AudioError: unreadable, or of another length.
    """
    parts = pieces_of(clip.transcript, clip.language) if pieces is None else pieces
    longest = min(_AT_ONCE_SECONDS, recogniser.longest_seconds)
    if clip.duration <= longest:
        samples = clip_samples(clip) if check else decode(clip.audio)
        if len(samples) / SAMPLE_RATE <= longest:
            (found,) = align_pieces(recogniser, [samples], [parts], [clip.language], context, listening)
            return found, len(samples) / SAMPLE_RATE
    return _align_long(recogniser, clip, parts, context, listening, check)


def _align_long(
    recogniser: Recogniser,
    clip: Clip,
    pieces: Sequence[str],
    context: ContextMode,
    listening: Listening | None,
    check: bool,
) -> tuple[Aligned, float]:
    how = Ear(clip.language, context)
    parts: list[Window] = []
    seconds = 0.0
    for piece, samples in hear(
        recogniser, clip.audio, how, clip.offset or 0.0, None if clip.offset is None else clip.duration
    ):
        # A window that says nothing is left out, so that no word is put into silence.
        if piece["text"]:
            parts.append(Window(piece["start"], samples.copy(), piece["text"]))
        seconds = piece["end"]
    if check and abs(seconds - clip.duration) > max(0.5, 0.02 * clip.duration):
        raise AudioError(
            "duration_mismatch",
            f"Clip '{clip.id}' lasts {seconds:.2f} s and its manifest says {clip.duration:.2f} s; run govor validate.",
        )
    return align_recording(recogniser, parts, pieces, clip.language, context, listening), seconds
