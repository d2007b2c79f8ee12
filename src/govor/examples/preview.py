"""A page that shows and plays what augmentation does to some clips."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
import numpy as np
import numpy.typing as npt
import soundfile

from govor.audio import SAMPLE_RATE, Samples
from govor.examples.augment import EFFECTS, Augmenter


@dataclass(frozen=True, slots=True)
class Shown:
    """One version of a clip."""

    title: str
    note: str
    image: str
    audio: str


def page(augmenter: Augmenter, clips: Sequence[tuple[str, str, Samples]], draws: int) -> str:
    """HTML with each clip (id, transcript, samples [n]) as it is, with every effect alone, and as training would draw it."""
    rows = []
    for name, transcript, samples in clips:
        versions = [_shown("as recorded", f"{len(samples) / SAMPLE_RATE:.2f} s", samples)]
        for effect in EFFECTS:  # whatever its probability
            changed, note, _ = augmenter.apply(effect, samples, augmenter.generator(f"{name}/{effect}", 0))
            versions.append(_shown(effect, note, changed))
        for draw in range(draws):
            changed, done, _ = augmenter(samples, name, draw)
            versions.append(_shown(f"draw {draw + 1}", ", ".join(done) or "nothing drawn", changed))
        rows.append({"id": name, "transcript": transcript, "versions": versions})
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = (resources.files("govor.examples") / "preview.html").read_text(encoding="utf-8")
    return environment.from_string(text).render(rows=rows)


def spectrogram(samples: Samples, bands: int = 96) -> npt.NDArray[np.uint8]:
    """Log-frequency power [bands, frames] of samples [n], 0–255 over 80 dB, low frequencies at the bottom; for looking."""
    window, hop = 512, 160
    padded = np.pad(samples, (0, max(0, window - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)))
    edges = np.unique(np.round(np.geomspace(2, window // 2, bands + 1)).astype(int))
    levels = 10 * np.log10(np.add.reduceat(power, edges[:-1], axis=1) / np.diff(edges) + 1e-10)
    scaled = np.clip((levels - levels.max() + 80) / 80, 0, 1)
    pixels: npt.NDArray[np.uint8] = (255 * scaled.T[::-1]).astype(np.uint8)
    return pixels


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A grey PNG of pixels [height, width] (PNG specification, colour type 0, 8 bit)."""
    height, width = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = np.pad(pixels, ((0, 0), (1, 0))).tobytes()  # a zero before each line: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


def _shown(title: str, note: str, samples: Samples) -> Shown:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return Shown(title, note, _data("image/png", png(spectrogram(samples))), _data("audio/flac", buffer.getvalue()))


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
