"""Where something sounds and where nothing does: the loudness of short frames, and what of it counts as sound.

What asks differs in its limits (a detector of speech is stricter about noise than the aligner, which must not lose the
soft end of a word) and in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from govor.audio import Samples

# A recording whose loudest spot lies below is silent.
SILENCE_DBFS = -60.0

Levels = npt.NDArray[np.floating]
Frames = npt.NDArray[np.bool_]


def frame_powers(samples: Samples, frame: int) -> npt.NDArray[np.float64]:
    """Mean square of each `frame` samples [n // frame]; what is left at the end belongs to no frame."""
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    powers: npt.NDArray[np.float64] = np.square(frames, dtype=np.float64).mean(axis=1)
    return powers


def levels_db(samples: Samples, frame: int, least_power: float = 1e-12) -> npt.NDArray[np.float64]:
    """Loudness of each `frame` samples in dB below full scale; digital silence is as loud as `least_power`."""
    return power_db(frame_powers(samples, frame), least_power)


def power_db(powers: npt.NDArray[np.floating], least_power: float = 1e-12) -> npt.NDArray[np.float64]:
    """Mean squares, or what grows as they do, in dB; none is as loud as `least_power`."""
    levels: npt.NDArray[np.float64] = 10 * np.log10(powers.astype(np.float64) + least_power)
    return levels


def peak_dbfs(samples: Samples, least: float = 1e-12) -> float:
    """The loudest sample in dB below full scale; digital silence, and no samples, are as loud as `least`."""
    peak = float(np.abs(samples).max()) if len(samples) else 0.0
    return float(20 * np.log10(peak + least))


@dataclass(frozen=True, slots=True)
class Sound:
    """What counts as sound: less than `under_peak_db` below the loudest frame and, if a floor is given, `over_floor_db` over
    the noise floor, which is the `floor_percentile` of all frames.

    Where loudest and floor are nearer than `least_range_db` there is no pause anywhere: all is sound, or all silence.
    """

    under_peak_db: float
    over_floor_db: float = -np.inf
    floor_percentile: float = 0.0
    least_range_db: float = 0.0

    def of(self, levels: Levels) -> Frames:
        """Which frames are sound, of levels in dB [frames]."""
        if not len(levels):
            return np.zeros(0, np.bool_)
        peak, least = float(levels.max()), float(levels.min())
        floor = float(np.percentile(levels, self.floor_percentile)) if self.floor_percentile else least
        if peak - floor < self.least_range_db:
            return np.full(len(levels), peak > SILENCE_DBFS)
        sounding: Frames = levels > max(peak - self.under_peak_db, floor + self.over_floor_db)
        return sounding


def stretches(frames: Frames) -> npt.NDArray[np.intp]:
    """Begin and end [stretches, 2] of each run of true frames; the end is the first frame that is not of it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], frames, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2)
