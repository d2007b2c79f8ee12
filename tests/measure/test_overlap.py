"""Whether a set is among what a model was trained on."""

from pathlib import Path

import numpy as np
import soundfile

from conftest import speech
from govor.corpus.manifests import write_clips
from govor.corpus.records import Clip
from govor.measure.overlap import overlap, overlap_line
from govor.runs import Workspace


def test_every_copy_of_an_overlapping_clip_counts_and_empty_rows_do_not(workspace: Path) -> None:
    clips = []
    for name, words, text in (("a", "sol mar", "sol mar"), ("b", "sol mar", "sol mar"), ("c", "vid zem", "…")):
        soundfile.write(workspace / f"{name}.wav", speech(words.split()), 16_000)
        clips.append(Clip(name, f"{name}.wav", text, len(speech(words.split())) / 16_000, "en"))
    other = speech(["pan", "luna", "sol"], seed=5)
    soundfile.write(workspace / "d.wav", other, 16_000)
    training = [clips[0].replace(id="t"), Clip("d", "d.wav", "…", len(other) / 16_000, "en")]
    write_clips(workspace / "train.jsonl", training)
    found = overlap(Workspace(), clips, [workspace / "train.jsonl"])
    assert found["audio"] == 2 and found["sentence"] == 2 and found["ids"] == ["a", "b"]


def clip(folder: Path, name: str, words: str, seed: int, gain: float = 1.0) -> Clip:
    # Tones whose pitches and lengths are drawn: no two seeds sound alike.
    generator = np.random.default_rng(seed)
    parts = [
        np.sin(2 * np.pi * generator.uniform(300, 3000) * np.arange(generator.integers(1500, 5000)) / 16_000)
        for _ in range(16)
    ]
    wave = gain * 0.3 * np.concatenate(parts)
    soundfile.write(folder / f"{name}.wav", wave, 16_000)
    return Clip(name, str(folder / f"{name}.wav"), words, len(wave) / 16_000, "en", license="own")


def test_overlap_is_counted_by_audio_near_duplicate_and_sentence(tmp_path: Path) -> None:
    test = [clip(tmp_path, f"t{i}", words, i) for i, words in enumerate(["sol", "luna mar", "pan pan vid", "zem"])]
    same_audio = test[0].replace(id="x0", transcript="something else")
    louder = clip(tmp_path, "x1", "luna mar", 1, gain=0.5).replace(transcript="louder")
    same_words = clip(tmp_path, "x2", "pan pan vid", 77).replace(transcript="Pan, pan: VID!")
    write_clips(tmp_path / "train.jsonl", [same_audio, louder, same_words])
    found = overlap(Workspace(), test, [tmp_path / "train.jsonl"])
    assert (found["audio"], found["sentence"]) == (1, 1) and found["near_duplicate"] >= 2
    assert "t3" not in found["ids"] and {"t0", "t1", "t2"} <= set(found["ids"])
    assert "clips stand in the training data" in overlap_line("set", found)
    deaf = overlap(Workspace(), test, [tmp_path / "train.jsonl"], hear=False)
    assert deaf["near_duplicate"] == 0 and deaf["sentence"] == 1 and "--hear-training" in overlap_line("set", deaf)
    nothing = overlap(Workspace(), test, [tmp_path / "gone.jsonl"])
    assert nothing["training_manifests_missing"] and "was not checked" in overlap_line("set", nothing)
