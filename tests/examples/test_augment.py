"""Augmentation: seeded, as strong as it says, the same offline and in training."""

import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import yaml

from conftest import make_split, read_metrics, toy_recipe
from govor.corpus.manifests import Manifest, read_clips, write_clips
from govor.corpus.records import Clip, Segment
from govor.corpus.samples import clip_samples
from govor.errors import GovorError
from govor.examples.augment import EFFECTS, Augmenter, AugmentSettings, augmented_clip, load_settings
from govor.examples.effects import (
    add_noise,
    add_reverb,
    change_gain,
    change_speed,
    coloured_noise,
    shift_pitch,
    telephone,
)
from govor.examples.preview import png
from messy import voice

Run = Callable[..., CompletedProcess[str]]
RATE = 16_000
CLOCK = np.arange(2 * RATE) / RATE
TONE = (0.3 * np.sin(2 * np.pi * 440 * CLOCK)).astype(np.float32)


def pitch_of(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * RATE / len(samples))


def always(**changes: dict[str, object]) -> AugmentSettings:
    values: dict[str, object] = {name: {"probability": 0.0} for name in EFFECTS}
    return AugmentSettings.model_validate({**values, **changes})


def test_the_shipped_settings_are_the_defaults() -> None:
    assert load_settings(Path(__file__).parents[2] / "configs" / "augment.yaml") == AugmentSettings()


def test_speed_changes_length_and_pitch_and_pitch_only_pitch() -> None:
    fast = change_speed(TONE, 1.1)
    assert abs(len(fast) - len(TONE) / 1.1) <= 2 and abs(pitch_of(fast) - 484) < 2
    for semitones in (-3, 2):
        high = shift_pitch(TONE, semitones)
        assert len(high) == len(TONE) and abs(pitch_of(high) - 440 * 2 ** (semitones / 12)) < 4
        assert np.sqrt(np.square(high[RATE // 2 : RATE]).mean()) > 0.15


@pytest.mark.parametrize("snr", [0.0, 10.0, 25.0])
def test_noise_is_as_loud_as_asked_over_the_speech(snr: float) -> None:
    speech = np.concatenate([TONE * 0.2, np.zeros(4 * RATE, np.float32)])
    noise = coloured_noise(len(speech), "white", np.random.default_rng(0))
    added = add_noise(speech, noise, snr) - speech
    found = 10 * np.log10(np.square(TONE * 0.2).mean() / np.square(added).mean())
    assert abs(found - snr) < 0.2


@pytest.mark.parametrize(("kind", "slope"), [("white", 0), ("pink", -3), ("brown", -6)])
def test_noise_has_the_colour_it_says(kind: str, slope: float) -> None:
    power = np.square(np.abs(np.fft.rfft(coloured_noise(1 << 17, kind, np.random.default_rng(1)))))
    octave = [10 * np.log10(power[low : 2 * low].mean()) for low in (1 << 11, 1 << 13)]
    assert abs((octave[1] - octave[0]) / 2 - slope) < 0.3


def test_the_telephone_passes_the_middle_and_nothing_else() -> None:
    for hertz, passes in ((100, False), (1_000, True), (3_000, True), (5_000, False)):
        through = telephone((0.3 * np.sin(2 * np.pi * hertz * CLOCK)).astype(np.float32))
        assert len(through) == len(CLOCK) and bool(np.square(through).mean() > 0.02) is passes, hertz


def test_a_room_rings_on_and_keeps_the_length() -> None:
    click = np.zeros(RATE, np.float32)
    click[100] = 0.5
    wet = add_reverb(click, 0.5, -6.0, np.random.default_rng(0))
    energy = np.square(wet)
    assert len(wet) == RATE and abs(wet[100] - 0.5) < 0.05
    early, late = energy[1_000:2_000].sum(), energy[7_000:8_000].sum()
    assert early > 30 * late > 0, "60 dB in half a second"


def test_gain_never_clips() -> None:
    assert abs(20 * np.log10(np.abs(change_gain(TONE, -6)).max() / 0.3) + 6) < 0.1
    assert np.abs(change_gain(TONE, 40)).max() <= 0.99


def test_a_draw_depends_on_seed_clip_and_draw_alone() -> None:
    augmenter = Augmenter.of(AugmentSettings())
    first = [augmenter(TONE, f"clip{n}", d) for n in range(12) for d in range(2)]
    again = [augmenter(TONE, f"clip{n}", d) for n in range(12) for d in range(2)]
    assert all(np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(first, again, strict=True))
    assert len({str(done) for _, done, _ in first}) > 6
    other = Augmenter.of(AugmentSettings(seed=1))
    assert [other(TONE, f"clip{n}", 0)[1] for n in range(12)] != [augmenter(TONE, f"clip{n}", 0)[1] for n in range(12)]


def test_effects_come_as_often_as_asked_and_one_does_not_move_the_others() -> None:
    augmenter = Augmenter.of(AugmentSettings())
    drawn = [[note.split()[0] for note in augmenter(TONE[:3200], f"c{n}")[1]] for n in range(400)]
    for name in EFFECTS:
        share = sum(name in done for done in drawn) / len(drawn)
        assert abs(share - getattr(AugmentSettings(), name).probability) < 0.08, name
    without = Augmenter.of(AugmentSettings.model_validate({"speed": {"probability": 0.0}}))
    quiet = [list(without(TONE[:3200], f"c{n}")[1]) for n in range(50)]
    loud = [[note for note in augmenter(TONE[:3200], f"c{n}")[1] if "speed" not in note] for n in range(50)]
    assert quiet == loud


def test_the_speed_of_a_draw_is_known_without_its_audio() -> None:
    augmenter = Augmenter.of(always(speed={"probability": 0.7}))
    for number in range(40):
        changed, _, factor = augmenter(TONE, f"c{number}")
        assert factor == augmenter.speed_factor(f"c{number}", 0) and abs(len(changed) - len(TONE) / factor) <= 2


def test_times_move_with_the_speed() -> None:
    clip = Clip(
        "a", "a.wav", "ano ne", 2.0, "cs", segments=(Segment(0.5, 1.0, "ano"), Segment(1.5, None, "ne")), pcm_sha256="x"
    )
    fast = augmented_clip(clip, 1.25, 1.6)
    assert [(s.start, s.end) for s in fast.segments] == [(0.4, 0.8), (1.2, None)] and fast.pcm_sha256 is None


def test_noise_recordings_are_used_where_there_are_some(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "street.wav", voice(5, 0.4), RATE)
    augmenter = Augmenter.of(always(noise={"probability": 1.0, "folder": str(tmp_path)}))
    changed, done, _ = augmenter(TONE, "a")
    assert (
        re.fullmatch(r"noise street \d+ dB", done[0])
        and len(changed) == len(TONE)
        and not np.array_equal(changed, TONE)
    )
    with pytest.raises(GovorError, match="holds no recordings"):
        Augmenter.of(always(noise={"probability": 1.0, "folder": str(tmp_path / "none")}))


def test_contradictory_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("noise: {min_snr_db: 30}\n")
    with pytest.raises(GovorError, match=r"noise.snr_db: the smallest, 30, is above the largest, 25"):
        load_settings(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("nois: {probability: 1}\n")
    with pytest.raises(GovorError, match="did you mean 'noise'"):
        load_settings(tmp_path / "b.yaml")


def test_copies_are_written_and_stay_with_their_original(workspace: Path, govor: Run) -> None:
    split = make_split(workspace)
    done = govor("augment", split / "train.jsonl", "--copies", "2", "--name", "more")
    assert "untouched" in done.stdout
    clips = list(read_clips("manifests/more.jsonl"))
    assert len(clips) == 36
    for clip in clips[12:]:
        assert len(clip_samples(clip)) == round(clip.duration * RATE)
        assert clip.near_duplicate_group == clip.extra["augmented_from"] and clip.license == "own"
    first = {clip.id: Path(clip.audio).read_bytes() for clip in clips[12:]}
    govor("augment", split / "train.jsonl", "--copies", "2", "--name", "more", "--overwrite")
    assert first == {clip.id: Path(clip.audio).read_bytes() for clip in list(read_clips("manifests/more.jsonl"))[12:]}


def test_the_page_shows_every_effect(workspace: Path, govor: Run) -> None:
    split = make_split(workspace)
    govor("augment", split / "train.jsonl", "--preview", "out.html", "--clips", "2")
    page = Path("out.html").read_text()
    assert page.count("<figure>") == 2 * (1 + len(EFFECTS) + 2) and page.count("data:audio/flac") == page.count(
        "<figure>"
    )
    assert "<script" not in page


def test_pictures_are_valid_png() -> None:
    import struct
    import zlib

    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    data = png(pixels)
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (4, 3)
    at = data.index(b"IDAT")
    length = struct.unpack(">I", data[at - 4 : at])[0]
    lines = zlib.decompress(data[at + 4 : at + 4 + length])
    assert [list(lines[5 * row + 1 : 5 * row + 5]) for row in range(3)] == pixels.tolist()


def test_training_augments_on_the_fly_and_says_so(workspace: Path, tiny_folder: Path, govor: Run) -> None:
    split = make_split(workspace)
    settings = {name: {"probability": 1.0} for name in ("speed", "noise", "gain")}
    Path("hard.yaml").write_text(yaml.safe_dump(settings))
    plain = toy_recipe(split, tiny_folder, workspace / "plain.yaml")
    hard = toy_recipe(split, tiny_folder, workspace / "hard-run.yaml", examples={"augment": "hard.yaml"})
    losses = {}
    for recipe, name in ((plain, "plain"), (hard, "hard"), (hard, "again")):
        said = govor("train", recipe, "--set", f"name={name}", "--max-steps", "3")
        assert ("augmentation: hard.yaml" in said.stderr) is (name != "plain")
        losses[name] = [row["loss"] for row in read_metrics(Path("models/whisper") / name, "train")]
    assert losses["hard"] == losses["again"] != losses["plain"]


def test_a_clip_that_would_not_fit_a_window_is_left_alone(tmp_path: Path) -> None:
    from govor.examples.dataset import Choices, TrainingSource
    from govor.examples.features import Augmentation

    write_clips(
        tmp_path / "m.jsonl", [Clip("long", "a.wav", "ano", 29.5, "cs"), Clip("short", "b.wav", "ano", 5.0, "cs")]
    )
    slow = Augmenter.of(always(speed={"probability": 1.0, "min_factor": 0.6, "max_factor": 1.0}))
    choices = Choices(features=(Augmentation(slow, 30.0),))
    source = TrainingSource([Manifest(tmp_path / "m.jsonl")], SimpleNamespace(longest_seconds=30.0), 0, choices)
    long = [source.spec(0, draw) for draw in range(20)]
    assert all(spec.clip.duration <= 30 for spec in long) and any(spec.augment_draw is None for spec in long)
    short = source.spec(1, 3)
    assert short.recorded is not None and short.recorded.duration == 5.0 and short.clip.duration > 5.0
