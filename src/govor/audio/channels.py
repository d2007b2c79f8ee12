"""Recordings of several channels: how they become one, and whether they hold one scene or two voices."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from govor.audio.samples import Samples

Relation = Literal["opposite", "separate"]

# The energy that is left of channels when they are averaged, against what is left of unrelated ones.
_CANCELLED = 0.2
_FRAME_SECONDS = 0.05
_APART_DB = 20.0  # how far the difference of the channels moves from one speaker to the other
_LOUDER_DB = 9.0  # a channel while its own voice speaks over what leaks from the other
_AUDIBLE_DB = 35.0  # below the loud frames
_FEWEST_SHARE, _SIDED_SHARE = 0.1, 0.6


def to_mono(block: Samples, channel: int | None = None) -> Samples:
    """Samples [n] of a block [n, channels]: the mean of the channels, or the one asked for where there are several.

    Where the channels cancel each other (one was wired the wrong way round), the louder one is taken.
    """
    count = block.shape[1]
    if count == 1:
        return block[:, 0]
    if channel is not None:
        return block[:, min(channel, count - 1)]
    with np.errstate(all="ignore"):  # what is no number is said after resampling
        return _mixed(block, count)


def _mixed(block: Samples, count: int) -> Samples:
    mono: Samples = (block[:, 0] + block[:, 1]) / np.float32(2) if count == 2 else block.mean(axis=1)
    energies = np.einsum("nc,nc->c", block, block)
    if float(mono @ mono) < _CANCELLED * float(energies.sum()) / count**2:
        return block[:, int(energies.argmax())]
    return mono


class Listener:
    """Hears a recording of two channels block by block, and tells how they relate."""

    def __init__(self) -> None:
        self._levels: list[npt.NDArray[np.float32]] = []
        self._mixed = self._apart = 0.0

    def hear(self, block: Samples, rate_hz: int) -> None:
        """The next samples [n, channels]."""
        if block.shape[1] != 2:
            return
        with np.errstate(all="ignore"):
            self._hear(block, rate_hz)

    def _hear(self, block: Samples, rate_hz: int) -> None:
        size = max(1, int(rate_hz * _FRAME_SECONDS))
        frames = block[: len(block) // size * size].reshape(-1, size, 2)
        self._levels.append(np.einsum("fnc,fnc->fc", frames, frames) / np.float32(size))
        mixed = block[:, 0] + block[:, 1]
        self._mixed += float(mixed @ mixed)
        self._apart += float(np.einsum("nc,nc->", block, block))

    def relation(self) -> Relation | None:
        """`opposite`: the channels cancel each other. `separate`: each holds a voice that the other lacks, by turns.

        In a stereo recording of one scene both channels hear everybody, some louder on one side; on the channels of a call
        only one is loud at a time, now this one and now that.
        """
        if self._apart > 0 and self._mixed < _CANCELLED * self._apart:
            return "opposite"
        energies: npt.NDArray[Any] = np.concatenate(self._levels) if self._levels else np.zeros((0, 2))
        levels = 10 * np.log10(energies.astype(np.float64) + 1e-10)
        if not len(levels):
            return None
        louder = levels.max(axis=1)
        audible = levels[louder > max(np.percentile(louder, 95) - _AUDIBLE_DB, -70.0)]
        if not len(audible):
            return None
        difference = audible[:, 0] - audible[:, 1]
        low, high = np.percentile(difference, (10, 90))
        middle, quarter = (low + high) / 2, (high - low) / 4
        left, right = audible[difference > middle + quarter], audible[difference < middle - quarter]
        if high - low < _APART_DB or min(len(left), len(right)) < _FEWEST_SHARE * len(audible):
            return None
        if len(left) + len(right) < _SIDED_SHARE * len(audible):
            return None
        # Each channel is louder while its own voice speaks: beside a channel of mere hiss a voice that rises and falls
        # is apart from it now more and now less.
        contrast = np.median(left, axis=0) - np.median(right, axis=0)
        return "separate" if contrast[0] > _LOUDER_DB and -contrast[1] > _LOUDER_DB else None
