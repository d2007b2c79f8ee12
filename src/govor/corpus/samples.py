"""The samples of a clip, read in one place, so that training, scoring and proofs hear the same."""

from __future__ import annotations

from govor.audio import SAMPLE_RATE, Samples, decode
from govor.corpus.records import Clip
from govor.errors import AudioError


def clip_samples(clip: Clip) -> Samples:
    """Samples [n] at 16 kHz: the stated part of the file, or the whole where no offset is stated.

    Raises:
        AudioError: unreadable, or another length than the manifest says, so that words would be lost or added.
    """
    samples = decode(clip.audio, clip.offset or 0.0, clip.duration if clip.offset is not None else None)
    seconds = len(samples) / SAMPLE_RATE
    if abs(seconds - clip.duration) > max(0.1, 0.02 * clip.duration):
        raise AudioError(
            "duration_mismatch",
            f"Clip '{clip.id}' lasts {seconds:.2f} s and its manifest says {clip.duration:.2f} s; run govor validate, or "
            "state the offset of a part.",
        )
    return samples
