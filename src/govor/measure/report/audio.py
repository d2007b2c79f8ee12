"""Recordings beside a page."""

from __future__ import annotations

import shutil
from pathlib import Path

import soundfile

from govor.audio import SAMPLE_RATE, decode
from govor.errors import AudioError

# What browsers play as it is; anything else, and parts of longer files, are written as FLAC.
_PLAYABLE = frozenset({".wav", ".mp3", ".ogg", ".oga", ".opus", ".flac", ".m4a", ".webm", ".mp4"})


def copy_audio(audio: str, offset: float | None, seconds: float, folder: Path, number: int) -> str | None:
    """Copy a clip into `folder/audio`; its name there, or None where the recording is gone or unreadable."""
    source = Path(audio)
    whole = offset is None and "#" not in audio
    try:
        if whole and source.suffix.lower() in _PLAYABLE:
            name = f"audio/{number:05d}{source.suffix.lower()}"
            shutil.copyfile(source, folder / name)
            return name
        name = f"audio/{number:05d}.flac"
        samples = decode(audio, offset or 0.0, None if offset is None else seconds)
        soundfile.write(folder / name, samples, SAMPLE_RATE)
    except (AudioError, OSError):
        return None
    return name
