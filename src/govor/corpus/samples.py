"""The samples of a clip, read in one place, so that training, scoring and proofs hear the same."""

from __future__ import annotations

from govor.audio import SAMPLE_RATE, Samples, decode, probe
from govor.corpus.records import Clip
from govor.errors import AudioError

# What models take at once, and what slices are cut to. So little more than that is the rounding of a codec's frames.
WINDOW_SECONDS = 30.0
OVER_WINDOW_SECONDS = 0.1


def clip_samples(clip: Clip, channel: int | None = None) -> Samples:
    """Samples [n] at 16 kHz: the stated part of the file, or the whole where no offset is stated.

    Args:
        channel: take this one alone, counted from 0; the mean of all by default.

    Raises:
        AudioError: unreadable, or another length than the manifest says, so that words would be lost or added.
    """
    part = clip.duration if clip.offset is not None else None
    samples = decode(clip.file, clip.offset or 0.0, part, channel=channel)
    seconds = len(samples) / SAMPLE_RATE
    # A row that says 30 s promises to fit a window; see `fitted`.
    if abs(seconds - clip.duration) > duration_tolerance(clip.duration) or (
        fits_window(clip.duration) and not fits_window(seconds)
    ):
        raise _another_length(clip, seconds)
    return fitted(samples) if fits_window(clip.duration) else samples


def duration_tolerance(duration: float) -> float:
    """By how many seconds a file may differ from what its row says and still hold the same words."""
    return max(0.1, 0.02 * duration)


def fits_window(seconds: float) -> bool:
    """Whether a clip of this length counts as one of at most 30 s: what a codec's frames add (under 0.1 s) is cut off."""
    return seconds < WINDOW_SECONDS + OVER_WINDOW_SECONDS


def fitted(samples: Samples) -> Samples:
    """Samples that fit a window of 30 s."""
    return samples[: int(WINDOW_SECONDS * SAMPLE_RATE)]


def check_length(clip: Clip) -> None:
    """Refuse a clip of which the row says that it fits a window, and the file does not, before it is decoded.

    Raises:
        AudioError: too long.
    """
    nearly = WINDOW_SECONDS - duration_tolerance(WINDOW_SECONDS) <= clip.duration
    if clip.offset is None and nearly and fits_window(clip.duration):
        try:
            seconds = probe(clip.file).duration_seconds
        except AudioError:
            return  # said where it is read
        if not fits_window(seconds):
            raise _another_length(clip, seconds)


def _another_length(clip: Clip, seconds: float) -> AudioError:
    return AudioError(
        "duration_mismatch",
        f"Clip '{clip.id}' lasts {seconds:.2f} s and its manifest says {clip.duration:.2f} s; run govor validate, or "
        "state the offset of a part.",
    )
