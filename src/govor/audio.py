"""Recordings: what they are, and their samples at 16 kHz mono.

libsndfile reads wav, flac, mp3, ogg and opus; PyAV (the `media` extra) what it cannot open: m4a, webm, mp4.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from govor.errors import AudioError

SAMPLE_RATE = 16_000
AUDIO_SUFFIXES = frozenset(
    {
        ".wav",
        ".flac",
        ".mp3",
        ".ogg",
        ".oga",
        ".opus",
        ".m4a",
        ".webm",
        ".mp4",
        ".aac",
        ".aiff",
        ".aif",
        ".au",
        ".aifc",
        ".caf",
        ".w64",
        ".mp2",
        ".m4b",
        ".mka",
        ".mkv",
        ".mov",
        ".avi",
        ".3gp",
        ".3g2",
        ".amr",
        ".awb",
        ".wma",
        ".asf",
        ".ac3",
    }
)
_AV_SUFFIXES = frozenset(
    [
        ".m4a",
        ".webm",
        ".mp4",
        ".aac",
        ".caf",
        ".m4b",
        ".mka",
        ".mkv",
        ".mov",
        ".avi",
        ".3gp",
        ".3g2",
        ".amr",
        ".awb",
        ".wma",
        ".asf",
        ".ac3",
    ]
)
_MAX_CHANNELS = 64
_BLOB = re.compile(r"(?P<path>.+)#(?P<offset>\d+),(?P<length>\d+)")

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says of it. `duration_seconds` may be wrong in a damaged file: decode to be sure."""

    duration_seconds: float
    sample_rate_hz: int
    channels: int
    codec: str


def probe(audio: str | Path) -> AudioInfo:
    """Read the header of `audio`.

    Raises:
        AudioError: missing, empty or unreadable.
    """
    if Path(audio).suffix.lower() in _AV_SUFFIXES:
        return _probe_av(_existing(audio))
    try:
        with soundfile.SoundFile(_source(audio)) as file:
            return AudioInfo(file.frames / file.samplerate, file.samplerate, file.channels, _codec(file))
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        raise _unreadable(_existing(audio), error) from error


def promised_bytes(audio: str | Path) -> tuple[int, int] | None:
    """Bytes of sound that a WAV header promises and that the file holds, where it holds fewer; libsndfile reads such a
    file without a word. None for sound files, other formats, and headers of a stream that never learned its length."""
    path, span = split_blob(audio)
    if span is not None or path.suffix.lower() != ".wav":
        return None
    size = path.stat().st_size
    with path.open("rb") as handle:
        if handle.read(12)[:4] != b"RIFF":
            return None
        while len(head := handle.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                held = size - handle.tell()
                open_ended = length == 0 or length >= 0x7FFFFF00
                return None if open_ended or held >= length else (length, held)
            handle.seek(length + length % 2, os.SEEK_CUR)
    return None


def decode(
    audio: str | Path,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
    max_seconds: float | None = None,
) -> Samples:
    """Samples [n] of `audio` at 16 kHz, mono, float32 in -1…1.

    Args:
        audio: a path, or `path#offset,length` for the encoded bytes inside a larger file.
        offset_seconds, duration_seconds: the part wanted; the whole by default.
        max_seconds: refuse more than this while decoding (headers lie).

    Raises:
        AudioError: missing, empty, unreadable, too long, or samples that are not numbers.
    """
    if Path(audio).suffix.lower() in _AV_SUFFIXES:
        samples, rate = _read_av(_existing(audio), offset_seconds, duration_seconds, max_seconds)
    else:
        try:
            samples, rate = _read(audio, offset_seconds, duration_seconds, max_seconds)
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            raise _unreadable(_existing(audio), error) from error
    if samples.size == 0:
        raise AudioError("empty", f"{audio} holds no audio (zero samples).")
    if not math.isfinite(float(samples.sum())):  # one value that is no number makes the sum none
        raise AudioError("not_a_number", f"{audio} holds samples that are not numbers; export it again.")
    resampled = resample(samples, rate)
    if resampled.size == 0:
        raise AudioError("empty", f"{audio} holds less than one sample at 16 kHz.")
    return resampled


def stream(audio: str | Path) -> Iterator[Samples]:
    """`decode`, a minute or so at a time, so that memory does not grow with the recording.

    Raises:
        AudioError: as `decode`; what was read before stays read.
    """
    av_file = Path(audio).suffix.lower() in _AV_SUFFIXES
    heard = False
    try:
        for samples in _resampled(_av_blocks(_existing(audio)) if av_file else _file_blocks(audio)):
            if not math.isfinite(float(samples.sum())):
                raise AudioError("not_a_number", f"{audio} holds samples that are not numbers; export it again.")
            if samples.size:
                heard = True
                yield samples
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        raise _unreadable(_existing(audio), error) from error
    if not heard:
        raise AudioError("empty", f"{audio} holds no audio (zero samples).")


def _file_blocks(audio: str | Path) -> Iterator[tuple[Samples, int]]:
    with soundfile.SoundFile(_source(audio)) as file:
        _check_channels(file.channels, audio)
        for block in _blocks(file, None, None, audio):
            yield block, file.samplerate


def _resampled(blocks: Iterator[tuple[Samples, int]]) -> Iterator[Samples]:
    resampler = None
    for block, rate in blocks:
        if rate == SAMPLE_RATE:
            yield block
            continue
        resampler = resampler or soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        yield resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(_nothing(), last=True)


def resample(samples: Samples, rate_hz: int) -> Samples:
    """To 16 kHz with soxr's HQ setting (an 11 kHz alias lies at -142 dB)."""
    if rate_hz == SAMPLE_RATE:
        return samples
    resampled: Samples = soxr.resample(samples, rate_hz, SAMPLE_RATE, quality="HQ")
    return resampled


def find_audio(folder: Path, unless: str | None = None) -> Iterator[Path]:
    """Audio files below `folder`, sorted within each folder; links to folders are not followed, hidden files left out, and
    so is every folder that holds a file named `unless`."""
    for root, folders, files in os.walk(folder):
        if unless in files:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                yield Path(root) / name


def cut_at_pauses(samples: Samples, max_seconds: float = 30.0) -> list[tuple[int, int]]:
    """Cut a long recording into pieces of at most `max_seconds`, each at the quietest spot near its end.

    Returns (start, end) in samples; together they are the whole recording, in order.
    """
    limit = int(max_seconds * SAMPLE_RATE)
    frame = SAMPLE_RATE // 50
    pieces, start = [], 0
    while len(samples) - start > limit:
        window = samples[start + limit // 2 : start + limit]
        frames = window[: len(window) // frame * frame].reshape(-1, frame)
        # A pause is longer than one frame: smooth over 0.3 s before looking for the minimum.
        loudness = np.convolve(np.square(frames).mean(axis=1), np.ones(15) / 15, mode="same")
        end = start + limit // 2 + int(loudness.argmin()) * frame + frame // 2
        pieces.append((start, end))
        start = end
    pieces.append((start, len(samples)))
    return pieces


def split_blob(audio: str | Path) -> tuple[Path, tuple[int, int] | None]:
    """`path#offset,length` as its parts; a plain path has no span."""
    match = _BLOB.fullmatch(str(audio))
    if match is None or Path(audio).exists():
        return Path(audio), None
    return Path(match["path"]), (int(match["offset"]), int(match["length"]))


def _source(audio: str | Path) -> str | bytes | IO[bytes]:
    """What libsndfile opens: the path itself (it reads files faster than through Python), or the bytes of a blob."""
    path, span = split_blob(audio) if "#" in str(audio) else (Path(audio), None)
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    if span is None:
        return str(path) if os.name == "nt" else os.fsencode(path)  # a name need not be UTF-8
    if path.stat().st_size < sum(span):
        raise ValueError("the span ends past the file")
    with path.open("rb", buffering=0) as handle:  # a buffer would read on past the clip
        handle.seek(span[0])
        return io.BytesIO(handle.read(span[1]))


def _existing(audio: str | Path) -> Path:
    path, span = split_blob(audio)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise AudioError("unreadable", f"{path} is not a file.")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise AudioError("missing", f"{path} was not found; check the path in the manifest.") from None
    except ValueError:
        raise AudioError("unreadable", f"{str(path)!r} is no path.") from None
    except OSError as error:
        raise AudioError("unreadable", f"{path} cannot be opened: {error.strerror}.") from None
    if size == 0 or (span is not None and span[0] + span[1] > size):
        raise AudioError("empty", f"{path} is empty (or shorter than the span asked of it).")
    return path


def _codec(file: Any) -> str:
    return f"{file.format}/{file.subtype}".lower()


def _read(audio: str | Path, offset: float, duration: float | None, max_seconds: float | None) -> tuple[Samples, int]:
    with soundfile.SoundFile(_source(audio)) as file:
        _check_channels(file.channels, audio)
        if offset:
            file.seek(min(round(offset * file.samplerate), file.frames))
        wanted = None if duration is None else round(duration * file.samplerate)
        blocks = list(_blocks(file, wanted, max_seconds, audio))
        return (np.concatenate(blocks) if len(blocks) != 1 else blocks[0]) if blocks else _nothing(), file.samplerate


def _check_channels(channels: int, audio: str | Path) -> None:
    if channels > _MAX_CHANNELS:
        raise AudioError("unreadable", f"{audio} claims {channels} channels; at most {_MAX_CHANNELS} are read.")


def _blocks(file: Any, wanted: int | None, max_seconds: float | None, audio: str | Path) -> Iterator[Samples]:
    block_frames = 60 * file.samplerate
    read = 0
    while wanted is None or read < wanted:
        count = block_frames if wanted is None else min(block_frames, wanted - read)
        block = file.read(count, dtype="float32", always_2d=True)
        read += len(block)
        _check_length(read / file.samplerate, max_seconds, audio)
        if len(block):
            yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        if len(block) < count:
            return


def _check_length(seconds: float, max_seconds: float | None, audio: str | Path) -> None:
    if max_seconds is not None and seconds > max_seconds:
        raise AudioError("too_long", f"{audio} is longer than the limit of {max_seconds:g} s.")


def _nothing() -> Samples:
    return np.zeros(0, dtype=np.float32)


def _unreadable(path: Path, error: Exception) -> AudioError:
    reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
    return AudioError("unreadable", f"{path} is not audio that can be read ({reason}); convert it or leave it out.")


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise AudioError("unreadable", "m4a, webm and mp4 need PyAV; install it with: pip install av") from None
    return av


def _probe_av(path: Path) -> AudioInfo:
    av = _av()
    try:
        with av.open(str(path)) as container:
            stream = _audio_stream(container, path)
            if container.duration is not None:
                seconds = container.duration / 1_000_000
            elif stream.duration is not None:
                seconds = float(stream.duration * stream.time_base)
            else:
                seconds = math.nan
            codec = stream.codec_context
            if not math.isfinite(seconds):
                seconds = sum(frame.samples for frame in container.decode(stream)) / codec.sample_rate
            return AudioInfo(
                seconds,
                codec.sample_rate,
                codec.channels,
                f"{container.format.name.split(',')[0]}/{codec.name}",
            )
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error


def _read_av(path: Path, offset: float, duration: float | None, max_seconds: float | None) -> tuple[Samples, int]:
    blocks, read, rate = [], 0, SAMPLE_RATE
    for block, rate in _av_blocks(path):
        blocks.append(block)
        read += block.size
        _check_length(read / rate, max_seconds, path)
        if duration is not None and read >= round((offset + duration) * rate):
            break
    samples = np.concatenate(blocks).astype(np.float32, copy=False) if blocks else _nothing()
    return samples[round(offset * rate) : None if duration is None else round((offset + duration) * rate)], rate


def _av_blocks(path: Path) -> Iterator[tuple[Samples, int]]:
    """Mono samples of each packet, at the rate of the file."""
    av = _av()
    try:
        with av.open(str(path)) as container:
            stream = _audio_stream(container, path)
            rate = stream.codec_context.sample_rate
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
            for frame in container.decode(stream):
                for part in resampler.resample(frame):
                    yield part.to_ndarray()[0], rate
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error


def _audio_stream(container: Any, path: Path) -> Any:
    if not container.streams.audio:
        raise AudioError("unreadable", f"{path} holds no audio track.")
    return container.streams.audio[0]
