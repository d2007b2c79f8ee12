"""Small recordings as bytes, in every container, whole or damaged in a stated way."""

from __future__ import annotations

import io

import numpy as np
import soundfile

RATE = 16_000


def sound(seconds: float = 4.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Something like speech: a gliding tone whose loudness comes and goes, and noise."""
    generator = np.random.default_rng(seed)
    clock = np.arange(int(seconds * rate)) / rate
    voice = np.sin(2 * np.pi * np.cumsum(200 + 150 * np.sin(2 * np.pi * (1.3 + seed) * clock)) / rate)
    return (0.3 * voice * (0.55 + 0.45 * np.sin(5 * clock)) + 0.005 * generator.standard_normal(len(clock))).astype(
        np.float32
    )


def encoded(
    samples: np.ndarray, container: str, subtype: str | None = None, rate: int = RATE, **options: object
) -> bytes:
    """By libsndfile."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype, **options)
    return buffer.getvalue()


class _Pipe(io.RawIOBase):
    """What can be written to and not gone back in."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(data)  # type: ignore[call-overload]
        return len(bytes(data))  # type: ignore[call-overload]

    def seekable(self) -> bool:
        return False


def encoded_av(
    samples: np.ndarray, container: str, codec: str, rate: int = 48_000, pipe: bool = False, picture: bool = False
) -> bytes:
    """By FFmpeg; `samples` [n] or [n, channels] at `rate`. With `pipe` no header knows a length, with `picture` there is a
    film that lasts twice as long."""
    import av

    target: object = _Pipe() if pipe else io.BytesIO()
    planes = np.ascontiguousarray(np.atleast_2d(samples.T), np.float32)
    layout = "mono" if len(planes) == 1 else "stereo"
    with av.open(target, "w", format=container) as file:
        film = file.add_stream("mpeg4", rate=5) if picture else None
        stream = file.add_stream(codec, rate=rate, layout=layout)
        if film is not None:
            film.width = film.height = 64
            film.pix_fmt = "yuv420p"
            for _ in range(int(10 * planes.shape[1] / rate)):
                file.mux(film.encode(av.VideoFrame(64, 64, "yuv420p")))
            file.mux(film.encode(None))
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate)
        for part in resampler.resample(frame):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return target.data if isinstance(target, _Pipe) else target.getvalue()  # type: ignore[attr-defined]


def without_info_frame(mp3: bytes) -> bytes:
    """An MP3 as a pipe gets it: its first frame, which tells the length, is gone."""
    second = mp3.index(mp3[:2], 4)
    assert b"Info" in mp3[:second] or b"Xing" in mp3[:second]
    return mp3[second:]


def with_sizes(wav: bytes, riff: int, data: int) -> bytes:
    """A WAV whose two lengths say something else."""
    place = wav.index(b"data") + 4
    return wav[:4] + riff.to_bytes(4, "little") + wav[8:place] + data.to_bytes(4, "little") + wav[place + 4 :]


def of_unknown_length(flac: bytes) -> bytes:
    """A FLAC as a pipe gets it."""
    return with_flac_length(flac, 0)


def with_flac_length(flac: bytes, samples: int) -> bytes:
    """A FLAC whose header promises another number of samples."""
    held = int.from_bytes(flac[21:26], "big")
    return flac[:21] + (held & ~0xFFFFFFFFF | samples).to_bytes(5, "big") + flac[26:]
