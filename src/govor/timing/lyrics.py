"""The words of a song or a speech, line by line, beside its recording."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from govor.audio import probe
from govor.corpus import transcripts
from govor.errors import AudioError, GovorError
from govor.files import read_text


@dataclass(frozen=True, slots=True)
class Song:
    """A recording of `seconds` and its lines, as they stand in the file `text`."""

    audio: Path
    text: Path
    seconds: float
    lines: tuple[str, ...]


def read_song(audio: Path, text: Path) -> Song:
    """A recording and its words.

    Raises:
        GovorError: the recording cannot be read, or the text holds no words.
    """
    return Song(audio, text, probe(audio).duration_seconds, tuple(read_lyrics(text)))


def read_lyrics(path: Path) -> list[str]:
    """Lines of words; section names in brackets ([Chorus]) are not sung."""
    content = read_text(path)
    try:
        timed_lines = [segment.text for segment in transcripts.read(content, path.suffix).segments]
    except AudioError as error:
        raise GovorError(f"{path}: {error}") from None
    unnamed = (re.sub(r"^\s*\[[^\]]*\]\s*$", "", line).strip() for line in timed_lines or content.splitlines())
    lines = [line for line in unnamed if any(letter.isalnum() for letter in line)]
    if not lines:
        raise GovorError(f"{path} holds no words.")
    return lines
