"""Making recordings harder than they are: noise, speed, pitch, reverberation, gain and the telephone band.

One object does it offline (`govor augment`) and in training, with the same settings and seeds: what a clip becomes is a
function of (seed, clip, draw) alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from govor.audio import Samples, decode, find_audio
from govor.config import Settings, parse, read_yaml
from govor.corpus.records import Clip, Segment
from govor.corpus.transcripts import snap
from govor.errors import GovorError
from govor.examples.effects import (
    add_noise,
    add_reverb,
    change_gain,
    change_speed,
    coloured_noise,
    shift_pitch,
    telephone,
)

CONFIG = Path("configs") / "augment.yaml"


class _Effect(Settings):
    probability: float = Field(0.0, ge=0, le=1, description="share of clips that get it")


class Noise(_Effect):
    """Noise from a folder of recordings, or made up."""

    probability: float = Field(0.3, ge=0, le=1, description="share of clips that get it")
    min_snr_db: float = Field(5.0, description="loudest noise: speech is this much louder")
    max_snr_db: float = Field(25.0, description="quietest noise")
    folder: str | None = Field(None, description="folder of noise recordings; without one it is white, pink or brown")


class Speed(_Effect):
    """Faster or slower, the pitch with it."""

    probability: float = Field(0.2, ge=0, le=1, description="share of clips that get it")
    min_factor: float = Field(0.9, ge=0.5, le=1, description="slowest")
    max_factor: float = Field(1.1, ge=1, le=2, description="fastest")


class Pitch(_Effect):
    """Higher or lower at the same speed."""

    probability: float = Field(0.1, ge=0, le=1, description="share of clips that get it")
    max_semitones: float = Field(2.0, gt=0, le=6, description="farthest up or down")


class Reverb(_Effect):
    """A room: an exponential tail of noise after the direct sound."""

    probability: float = Field(0.15, ge=0, le=1, description="share of clips that get it")
    min_rt60_seconds: float = Field(0.15, gt=0, description="shortest time until the tail is 60 dB down")
    max_rt60_seconds: float = Field(0.6, gt=0, le=3, description="longest")
    max_wet_db: float = Field(-6.0, le=6, description="loudest tail against the direct sound")


class Gain(_Effect):
    """Louder or quieter; peaks stay below full scale."""

    probability: float = Field(0.3, ge=0, le=1, description="share of clips that get it")
    min_db: float = Field(-12.0, description="quietest")
    max_db: float = Field(6.0, description="loudest")


class Telephone(_Effect):
    """300–3,400 Hz at 8 kHz in 8-bit mu-law (ITU-T G.711)."""

    probability: float = Field(0.1, ge=0, le=1, description="share of clips that get it")


class AugmentSettings(Settings):
    """Which effects, how often and how strong; they are applied in this order."""

    seed: int = Field(0, description="which of the possible draws")
    speed: Speed = Field(default_factory=Speed)
    pitch: Pitch = Field(default_factory=Pitch)
    reverb: Reverb = Field(default_factory=Reverb)
    noise: Noise = Field(default_factory=Noise)
    telephone: Telephone = Field(default_factory=Telephone)
    gain: Gain = Field(default_factory=Gain)

    @model_validator(mode="after")
    def _ordered(self) -> AugmentSettings:
        for name, low, high in (
            ("noise.snr_db", self.noise.min_snr_db, self.noise.max_snr_db),
            ("reverb.rt60_seconds", self.reverb.min_rt60_seconds, self.reverb.max_rt60_seconds),
            ("gain.db", self.gain.min_db, self.gain.max_db),
        ):
            if low > high:
                raise ValueError(f"{name}: the smallest, {low:g}, is above the largest, {high:g}")
        return self


EFFECTS = ("speed", "pitch", "reverb", "noise", "telephone", "gain")


def load_settings(path: Path) -> AugmentSettings:
    """Settings from YAML."""
    return parse(AugmentSettings, read_yaml(path), str(path))


@dataclass(frozen=True)
class Augmenter:
    """Applies the settings. Noise recordings are listed once and read when drawn."""

    settings: AugmentSettings
    noises: tuple[Path, ...] = field(default=())

    @classmethod
    def of(cls, settings: AugmentSettings, root: Path = Path()) -> Augmenter:
        """With the noise folder's recordings; the folder is relative to `root`, that of the workspace.

        Raises:
            GovorError: the folder holds none.
        """
        folder = settings.noise.folder
        if folder is None or settings.noise.probability == 0:
            return cls(settings)
        place = root / folder
        noises = tuple(find_audio(place)) if place.is_dir() else ()
        if not noises:
            raise GovorError(f"The noise folder {folder} holds no recordings; name another, or leave noise.folder out.")
        return cls(settings, noises)

    def __call__(self, samples: Samples, clip_id: str, draw: int = 0) -> tuple[Samples, list[str], float]:
        """Samples [n] → samples [m], what was done, and the factor by which times shrink (speed)."""
        generator = self.generator(clip_id, draw)
        done: list[str] = []
        factor = 1.0
        for name in EFFECTS:
            wanted = generator.random() < getattr(self.settings, name).probability
            inner = np.random.default_rng(generator.integers(1 << 62))  # one effect's draws do not move the next one's
            if wanted:
                samples, note, shrink = self.apply(name, samples, inner)
                factor *= shrink
                done.append(note)
        return samples, done, factor

    def speed_factor(self, clip_id: str, draw: int) -> float:
        """By how much this draw changes the clip's length, without its audio: speed is drawn first."""
        generator = self.generator(clip_id, draw)
        wanted = generator.random() < self.settings.speed.probability
        inner = np.random.default_rng(generator.integers(1 << 62))
        return float(inner.uniform(self.settings.speed.min_factor, self.settings.speed.max_factor)) if wanted else 1.0

    def generator(self, clip_id: str, draw: int) -> np.random.Generator:
        """The random choices of one draw of one clip."""
        key = f"{self.settings.seed}|{clip_id}|{draw}".encode("utf-8", "surrogatepass")
        return np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:16], "little"))

    def apply(self, name: str, samples: Samples, generator: np.random.Generator) -> tuple[Samples, str, float]:
        """One effect with drawn strength: samples, what was done, the factor by which times shrink."""
        s = self.settings
        if name == "speed":
            factor = float(generator.uniform(s.speed.min_factor, s.speed.max_factor))
            return change_speed(samples, factor), f"speed x{factor:.2f}", factor
        if name == "pitch":
            semitones = float(generator.uniform(-s.pitch.max_semitones, s.pitch.max_semitones))
            return shift_pitch(samples, semitones), f"pitch {semitones:+.1f}", 1.0
        if name == "reverb":
            rt60 = float(generator.uniform(s.reverb.min_rt60_seconds, s.reverb.max_rt60_seconds))
            wet = s.reverb.max_wet_db - float(generator.uniform(0, 12))
            return add_reverb(samples, rt60, wet, generator), f"reverb {rt60:.2f} s {wet:.0f} dB", 1.0
        if name == "noise":
            snr = float(generator.uniform(s.noise.min_snr_db, s.noise.max_snr_db))
            noise, kind = self._noise(len(samples), generator)
            return add_noise(samples, noise, snr), f"noise {kind} {snr:.0f} dB", 1.0
        if name == "telephone":
            return telephone(samples), "telephone", 1.0
        gain = float(generator.uniform(s.gain.min_db, s.gain.max_db))
        return change_gain(samples, gain), f"gain {gain:+.0f} dB", 1.0

    def _noise(self, length: int, generator: np.random.Generator) -> tuple[Samples, str]:
        if not self.noises:
            kind = ("white", "pink", "brown")[int(generator.integers(3))]
            return coloured_noise(length, kind, generator), kind
        path = self.noises[int(generator.integers(len(self.noises)))]
        noise = decode(path, max_seconds=3600)
        repeated = np.resize(noise, max(length, len(noise)))
        start = int(generator.integers(len(repeated) - length + 1))
        return repeated[start : start + length], path.stem


def augmented_clip(clip: Clip, factor: float, seconds: float) -> Clip:
    """The manifest row of a clip that became `seconds` long; its times shrink by `factor`."""

    def at(time: float) -> float:
        return min(snap(time / factor), snap(seconds))

    segments = tuple(
        Segment(at(s.start), None if s.end is None else at(s.end), s.text, s.speaker) for s in clip.segments
    )
    return clip.replace(duration=seconds, segments=segments, offset=None, words=(), sha256=None, pcm_sha256=None)
