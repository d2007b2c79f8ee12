"""Loudness of speech in LUFS, and bringing a recording to a target.

ITU-R BS.1770-4: K-weighting (a shelf for the head, a high-pass), mean square of 400 ms blocks every 100 ms, an absolute
gate at -70 LUFS and a relative one 10 LU below the mean of what is left. The two filters' analogue prototypes are turned
into coefficients at 16 kHz (the standard prints those of 48 kHz).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from govor.audio import SAMPLE_RATE, Samples

_PEAK = 10 ** (-1 / 20)  # never louder than -1 dBFS
_BLOCK, _STEP = 2 * SAMPLE_RATE // 5, SAMPLE_RATE // 10


def loudness_lufs(samples: Samples) -> float:
    """Integrated loudness of mono samples [n] at 16 kHz; -inf for silence. Clips under 0.4 s are one block."""
    weighted = _k_weighted(samples)
    if len(weighted) < _BLOCK:
        blocks = np.array([np.square(weighted).mean()]) if len(weighted) else np.zeros(0)
    else:
        total = np.concatenate([[0.0], np.cumsum(np.square(weighted))])
        starts = np.arange(0, len(weighted) - _BLOCK + 1, _STEP)
        blocks = (total[starts + _BLOCK] - total[starts]) / _BLOCK
    audible = blocks[blocks > 10 ** ((-70 + 0.691) / 10)]
    if not len(audible):
        return -np.inf
    gated = audible[audible > audible.mean() / 10]
    return float(-0.691 + 10 * np.log10(gated.mean()))


def to_loudness(samples: Samples, target_lufs: float) -> Samples:
    """The samples at `target_lufs`, or as near as a peak of -1 dBFS allows. Silence stays as it is."""
    loudness = loudness_lufs(samples)
    if not np.isfinite(loudness):
        return samples
    gain = 10 ** ((target_lufs - loudness) / 20)
    gain = min(gain, _PEAK / max(float(np.abs(samples).max()), 1e-9))
    return (samples * np.float32(gain)).astype(np.float32)


def _k_weighted(samples: Samples) -> npt.NDArray[np.float64]:
    """Both filters at once, in the frequency domain; padding takes the ringing of the high-pass."""
    if not len(samples):
        return np.zeros(0)
    size = len(samples) + SAMPLE_RATE // 2
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(size))
    response = _shelf(z) * _high_pass(z)
    filtered: npt.NDArray[np.float64] = np.fft.irfft(np.fft.rfft(samples, size) * response, size)[: len(samples)]
    return filtered


def _shelf(z: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """High shelf: 1681.97 Hz, +3.99984 dB, Q 0.70718."""
    k = np.tan(np.pi * 1681.974450955533 / SAMPLE_RATE)
    high = 10 ** (3.999843853973347 / 20)
    band, q = high**0.4996667741545416, 0.7071752369554196
    norm = 1 + k / q + k * k
    b = np.array([high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k]) / norm
    a = np.array([1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm])
    return np.polyval(b[::-1], z) / np.polyval(a[::-1], z)


def _high_pass(z: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """High-pass: 38.135 Hz, Q 0.50033."""
    k = np.tan(np.pi * 38.13547087602444 / SAMPLE_RATE)
    q = 0.5003270373238773
    norm = 1 + k / q + k * k
    a = np.array([1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm])
    return np.polyval(np.array([1.0, -2.0, 1.0]), z) / np.polyval(a[::-1], z)
