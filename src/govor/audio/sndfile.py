"""Reading by libsndfile: wav, flac, mp3, ogg, opus and their like."""

from __future__ import annotations

import soundfile

from govor.audio.containers import Part
from govor.audio.opened import (
    BLOCK_SECONDS,
    PROMISE_TOLERANCE_SECONDS,
    AudioInfo,
    Blocks,
    Opened,
    part_between,
)
from govor.errors import AudioError


def first_part(opened: Opened) -> soundfile.SoundFile | None:
    """The first part, opened; None where the recording is for PyAV."""
    if opened.layout.by_av:
        return None
    try:
        file = _part(opened, opened.parts()[0])
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        opened.refused = error
        return None
    # libsndfile takes what it does not know for raw samples, and guesses where MP3 inside of other containers ends.
    if file.format == "RAW" or (opened.layout.kind != "mp3" and "MPEG" in file.subtype):
        file.close()
        return None
    try:
        opened.check_shape(file.channels, file.samplerate)
    except AudioError:
        file.close()
        raise
    return file


def info(opened: Opened, first: soundfile.SoundFile) -> tuple[AudioInfo, float]:
    """What the recording is, and how many seconds its headers say; `first` is closed."""
    seconds = 0.0
    try:
        with first as file:
            about = AudioInfo(0.0, file.samplerate, file.channels, f"{file.format}/{file.subtype}".lower())
            seconds += file.frames / file.samplerate
        for part in opened.parts()[1:]:
            with _part(opened, part) as file:
                seconds += file.frames / file.samplerate
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        raise opened.unreadable(error) from error
    return about, seconds


def blocks(opened: Opened, first: soundfile.SoundFile, offset_seconds: float, duration_seconds: float | None) -> Blocks:
    """Samples [n, channels] and their rate, a minute or so at a time; `first` is closed."""
    try:
        with first as file:
            if not opened.layout.parts[1:]:
                yield from _read(opened, file, offset_seconds, duration_seconds)
                return
            yield from part_between(_read_all(opened, file), offset_seconds, duration_seconds)
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        raise opened.unreadable(error) from error


def _part(opened: Opened, part: Part) -> soundfile.SoundFile:
    file = opened.part(part)
    return soundfile.SoundFile(file, closefd=False) if isinstance(file, int) else soundfile.SoundFile(file)


def _read(opened: Opened, file: soundfile.SoundFile, offset: float = 0.0, duration: float | None = None) -> Blocks:
    if offset:
        file.seek(min(round(offset * file.samplerate), file.frames))
    wanted = None if duration is None else round(duration * file.samplerate)
    most, read = BLOCK_SECONDS * file.samplerate, 0
    while wanted is None or read < wanted:
        count = most if wanted is None else min(most, wanted - read)
        block = file.read(count, dtype="float32", always_2d=True)
        read += len(block)
        if len(block):
            yield block, file.samplerate
        if len(block) < count:
            break
    missing = file.frames - read
    if (
        not offset
        and wanted is None
        and missing > PROMISE_TOLERANCE_SECONDS * file.samplerate
        and not opened.layout.shortfall
    ):
        reached, promised = read / file.samplerate, file.frames / file.samplerate
        message = f"{opened.audio} is damaged: it can be read for {reached:.2f} s, and {promised:.2f} s were to come."
        raise AudioError("unreadable", message)


def _read_all(opened: Opened, first: soundfile.SoundFile) -> Blocks:
    yield from _read(opened, first)
    for part in opened.parts()[1:]:
        with _part(opened, part) as file:
            yield from _read(opened, file)
