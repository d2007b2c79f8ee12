"""What recordings suffer: speed, pitch, rooms, noise, level and the telephone, as plain functions of samples."""

from __future__ import annotations

import numpy as np
import soxr

from govor.audio import SAMPLE_RATE, Samples


def change_speed(samples: Samples, factor: float) -> Samples:
    """`factor` times as fast by resampling; the pitch goes with it."""
    out: Samples = soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE, quality="HQ")
    return out


def shift_pitch(samples: Samples, semitones: float) -> Samples:
    """Pitch by `semitones` at the same length: played faster, then stretched back."""
    factor = 2 ** (semitones / 12)
    return _fit(stretch(change_speed(samples, factor), factor), len(samples))


def stretch(samples: Samples, factor: float) -> Samples:
    """`factor` times as long at the same pitch: WSOLA (Verhelst and Roelands, 1993), 40 ms windows at half overlap, each
    placed within 10 ms where it best continues the one before."""
    window, half, reach = 640, 320, 160
    if len(samples) < 2 * window:
        return samples
    shape = np.hanning(window + 1)[:-1].astype(np.float32)
    frames = max(1, int((len(samples) * factor - window) // half))
    padded = np.pad(samples, (reach, window + 2 * reach))
    out = np.zeros(frames * half + window, np.float32)
    place = reach
    for frame in range(frames):
        ideal = round(frame * half / factor) + reach
        if frame:
            following = padded[place + half : place + half + window]  # what would come next if nothing were stretched
            low = min(max(ideal - reach, 0), len(padded) - window - 2 * reach)
            candidates = np.lib.stride_tricks.sliding_window_view(padded[low : low + window + 2 * reach], window)
            ideal = low + int((candidates @ following).argmax())
        place = min(ideal, len(padded) - window - half - 1)
        out[frame * half : frame * half + window] += shape * padded[place : place + window]
    return out


def add_reverb(samples: Samples, rt60_seconds: float, wet_db: float, generator: np.random.Generator) -> Samples:
    """Direct sound plus an exponentially decaying tail of noise, as long as the clip was."""
    length = int(rt60_seconds * SAMPLE_RATE)
    decay = np.exp(-6.908 * np.arange(length) / length)  # -60 dB at the end
    tail = generator.standard_normal(length) * decay
    tail[: SAMPLE_RATE // 200] = 0  # nothing comes back within 5 ms
    tail *= 10 ** (wet_db / 20) / max(float(np.sqrt(np.square(tail).sum())), 1e-9)
    response = tail
    response[0] = 1.0
    size = len(samples) + length
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    return _below_full_scale(wet.astype(np.float32))


def add_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Speech plus noise [n] at `snr_db`, measured over the frames in which somebody speaks."""
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320) if len(samples) >= 320 else samples[None]
    energies = np.square(frames, dtype=np.float64).mean(axis=1)
    speech = energies[energies > energies.max() / 1000].mean() if energies.size else 0.0
    level = float(np.square(noise, dtype=np.float64).mean())
    if not speech or not level:
        return samples
    scale = np.sqrt(speech / level / 10 ** (snr_db / 10))
    return _below_full_scale((samples + noise * scale).astype(np.float32))


def coloured_noise(length: int, kind: str, generator: np.random.Generator) -> Samples:
    """White, pink (-3 dB an octave) or brown (-6 dB) noise [length]."""
    spectrum = np.fft.rfft(generator.standard_normal(max(length, 2)))
    frequency = np.maximum(np.arange(len(spectrum)), 1)
    slope = {"white": 0.0, "pink": 0.5, "brown": 1.0}[kind]
    spectrum /= frequency**slope
    noise = np.fft.irfft(spectrum, max(length, 2))[:length]
    return (noise / max(float(np.abs(noise).max()), 1e-9)).astype(np.float32)


def telephone(samples: Samples) -> Samples:
    """Through a telephone line and back to 16 kHz, as long as before."""
    narrow = soxr.resample(samples, SAMPLE_RATE, 8_000, quality="HQ")
    spectrum = np.fft.rfft(narrow)
    frequency = np.fft.rfftfreq(len(narrow), 1 / 8_000)
    # A gentle edge of 100 Hz on both sides, so that nothing rings.
    spectrum *= np.clip((frequency - 250) / 100, 0, 1) * np.clip((3_450 - frequency) / 100, 0, 1)
    band = np.clip(np.fft.irfft(spectrum, len(narrow)), -1, 1)
    coded = np.round(np.sign(band) * np.log1p(255 * np.abs(band)) / np.log(256) * 127) / 127
    line = np.sign(coded) * (256 ** np.abs(coded) - 1) / 255
    wide: Samples = soxr.resample(line.astype(np.float32), 8_000, SAMPLE_RATE, quality="HQ")
    return _fit(wide, len(samples))


def change_gain(samples: Samples, gain_db: float) -> Samples:
    """Louder or quieter, peaks below full scale."""
    return _below_full_scale((samples * np.float32(10 ** (gain_db / 20))).astype(np.float32))


def _below_full_scale(samples: Samples) -> Samples:
    peak = float(np.abs(samples).max()) if len(samples) else 0.0
    return samples if peak <= 0.99 else (samples * np.float32(0.99 / peak)).astype(np.float32)


def _fit(samples: Samples, length: int) -> Samples:
    return samples[:length] if len(samples) >= length else np.pad(samples, (0, length - len(samples)))
