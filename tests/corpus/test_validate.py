"""What validate keeps and drops, and why: P25, P27, T23, O16 to O19, T22, H2, H3, H4, A5, T11."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import soundfile

from conftest import make_corpus, speech
from containers import RATE, encoded, encoded_av, of_unknown_length, sound, with_sizes, without_info_frame
from corpus.test_duplicates import real_like
from govor.audio import SAMPLE_RATE
from govor.corpus.inventory import Statement, inventory
from govor.corpus.manifests import Manifest, read_rows
from govor.corpus.preprocess import PreprocessSettings, preprocess
from govor.corpus.records import Clip, Segment, is_blank
from govor.corpus.samples import clip_samples
from govor.corpus.vad import Vad
from govor.corpus.validate import Checks, Limits, Report, validate
from govor.errors import AudioError
from govor.families.task import DecodeOptions
from govor.runs import Workspace
from messy import voice
from rows import lines, row

Run = Callable[..., CompletedProcess[str]]


def judged(folder: Path) -> tuple[dict[str, Clip], dict[str, dict], Report]:
    """Kept clips and dropped rows by file name, and the report."""
    for file in folder.iterdir():
        if not file.with_suffix(".txt").exists():
            file.with_suffix(".txt").write_text(f"these are the words of {file.stem}")
    kept: list[Clip] = []
    dropped: list[dict] = []
    rows = list(inventory(Workspace(), [folder], Statement("en", "own"), "inline"))
    *_, report = validate(
        Workspace(), rows, Checks(Limits(near_duplicates="off")), kept.append, dropped.append, engine_name="inline"
    )
    assert len(kept) + len(dropped) == len(rows)
    return (
        {Path(clip.audio).name: clip for clip in kept},
        {Path(row["row"]["audio"]).name: row for row in dropped},
        report,
    )


def quiet_then_loud(seconds: float, seed: int) -> np.ndarray:
    samples = sound(seconds, seed=seed)
    samples[: len(samples) // 2] *= 0.01
    return samples


def test_lengths_are_those_of_the_sound(tmp_path: Path) -> None:
    loud_last = quiet_then_loud(20.0, 1)
    wav = encoded(sound(6.0, seed=3), "WAV")
    files = {
        "vbr.mp3": (without_info_frame(encoded(sound(20.0), "MP3", bitrate_mode="VARIABLE")), 20.0),
        "vbr-loud-last.mp3": (without_info_frame(encoded(loud_last, "MP3", bitrate_mode="VARIABLE")), 20.0),
        "pipe.flac": (of_unknown_length(encoded(sound(6.0, seed=2), "FLAC")), 6.0),
        "quiet.aac": (encoded_av(np.repeat(loud_last[::-1], 3), "adts", "aac"), 20.0),
        "crashed.wav": (with_sizes(wav, 36, 0), 6.0),
        "streamed.wav": (with_sizes(encoded(sound(6.0, seed=4), "WAV"), 0xFFFFFFFF, 0xFFFFFFFF), 6.0),
        "phone.mp3": (encoded_av(np.repeat(sound(5.0, seed=5), 3), "mp4", "aac"), 5.0),
        "phone.wav": (encoded_av(np.repeat(sound(5.0, seed=6), 3), "mp4", "aac"), 5.0),
        "chained.ogg": (b"".join(encoded(sound(3.0, seed=seed), "OGG", "VORBIS") for seed in (7, 8)), 6.0),
    }
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).with_suffix(".txt").write_text("words")
    rows = {
        Path(row["audio"]).name: row for row in inventory(Workspace(), [tmp_path], Statement("en", "own"), "inline")
    }
    kept, dropped, _ = judged(tmp_path)
    assert not dropped and set(kept) == set(files)
    for name, (_, seconds) in files.items():
        assert kept[name].duration == pytest.approx(seconds, abs=0.2), name
        assert rows[name]["duration"] == pytest.approx(kept[name].duration, abs=0.02), name
        assert len(clip_samples(kept[name])) / SAMPLE_RATE == pytest.approx(kept[name].duration, abs=1e-4)


def test_what_is_refused_has_its_true_reason(tmp_path: Path) -> None:
    ogg = encoded(sound(1.0), "OGG", "VORBIS")
    opus, flac, mp3 = (encoded(sound(8.0, seed=1), *kind) for kind in (("OGG", "OPUS"), ("FLAC",), ("MP3",)))
    m4a = encoded_av(np.repeat(sound(8.0, seed=2), 3), "mp4", "aac")
    wav = encoded(sound(4.0, seed=3), "WAV")
    hiss = np.random.default_rng(0).normal(0, 1e-4, 3 * RATE).astype(np.float32)
    files = {
        "half.ogg": (ogg[: len(ogg) // 2], "truncated"),
        "half.opus": (opus[: len(opus) // 2], "truncated"),
        "half.flac": (flac[: len(flac) // 2], "truncated"),
        "half.mp3": (mp3[: len(mp3) // 2], "truncated"),
        "nearly-whole.mp3": (mp3[: int(0.95 * len(mp3))], "truncated"),
        "half.m4a": (m4a[: len(m4a) // 2], "truncated"),
        "half.wav": (wav[: len(wav) // 2], "wrong_header"),
        "speaks-of-half.wav": (with_sizes(wav, len(wav) - 8, (len(wav) - 44) // 2), "wrong_header"),
        "twice.wav": (wav + wav, "wrong_header"),
        "empty.wav": (with_sizes(wav[:44], 36, 0), "empty"),
        "nothing.wav": (b"", "empty"),
        "constant.wav": (encoded(np.full(3 * RATE, 0.3, np.float32), "WAV"), "silent"),
        "constant-8k.wav": (encoded(np.full(3 * 8000, -0.7, np.float32), "WAV", rate=8000), "silent"),
        "constant.mp3": (encoded(np.full(3 * RATE, 0.3, np.float32), "MP3"), "silent"),
        "constant-hiss.wav": (encoded(0.3 + hiss, "WAV"), "silent"),
        "silent.wav": (encoded(np.zeros(3 * RATE, np.float32), "WAV"), "silent"),
        "integers.wav": (encoded(sound(3.0) * 32768, "WAV", "FLOAT"), "out_of_range"),
    }
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "offset.wav").write_bytes(encoded(sound(3.0, seed=9) * 0.05 + 0.3, "WAV"))
    kept, dropped, _ = judged(tmp_path)
    assert {name: dropped[name]["rule"] for name in files} == {name: rule for name, (_, rule) in files.items()}
    assert set(kept) == {"offset.wav"}, "a constant below a voice takes nothing from it"
    for name in ("half.ogg", "half.opus", "half.flac", "half.mp3"):
        assert "cut short" in dropped[name]["message"]


BLANK = ("\u200b", " \u00a0\u3000", "\u2800\u2800", "\u3164", "\ufeff\u200f", "\u00ad", "\t\u2028\n", "\u0301", "")


def test_a_text_of_blanks_alone_is_empty(tmp_path: Path) -> None:
    for number, text in enumerate(BLANK):
        (tmp_path / f"blank{number}.wav").write_bytes(encoded(sound(1.0, seed=number), "WAV"))
        (tmp_path / f"blank{number}.txt").write_text(text, encoding="utf-8")
    for number, text in enumerate(("a", "7", "…", "\u200bא", "ก็", "👍")):
        assert not is_blank(text)
        (tmp_path / f"text{number}.wav").write_bytes(encoded(sound(1.0, seed=50 + number), "WAV"))
        (tmp_path / f"text{number}.txt").write_text(text, encoding="utf-8")
    kept, dropped, _ = judged(tmp_path)
    assert len(kept) == 6
    assert {row["rule"] for row in dropped.values()} <= {"empty_transcript", "no_transcript"} and len(dropped) == 9


# --- two channels -----------------------------------------------------------------------------------------------------


def call(seconds: float = 20.0) -> tuple[np.ndarray, list[tuple[float, float, int]]]:
    """Two voices on two channels, by turns: samples [n, 2], and who speaks when."""
    voices = [sound(seconds, seed=seed) for seed in (1, 2)]
    turns = [(2.0 * number, 2.0 * number + 2.0, number % 2) for number in range(int(seconds / 2))]
    samples = np.random.default_rng(0).normal(0, 0.0005, (len(voices[0]), 2)).astype(np.float32)
    for start, end, side in turns:
        span = slice(int(start * RATE), int(end * RATE))
        samples[span, side] += voices[side][span]
    return samples, turns


def test_two_voices_on_two_channels_are_told(tmp_path: Path) -> None:
    samples, _ = call()
    voice = sound(5.0, seed=4)
    files = {
        "call.wav": (samples, "separate"),
        "opposite.wav": (np.stack([voice, -voice], axis=1), "opposite"),
        "stereo.wav": (np.stack([sound(5.0, seed=5), 0.8 * sound(5.0, seed=5)], axis=1), None),
        "mono.wav": (sound(5.0, seed=6), None),
    }
    for name, (data, _) in files.items():
        soundfile.write(tmp_path / name, data, RATE)
    kept, dropped, report = judged(tmp_path)
    assert not dropped
    assert {name: clip.extra.get("channels_hold") for name, clip in kept.items()} == {
        name: held for name, (_, held) in files.items()
    }
    assert report.as_dict()["warnings"]["separate_channels"] == 1
    assert report.as_dict()["warnings"]["opposite_channels"] == 1
    assert any("--channels split" in sentence for sentence in report.advice())
    heard = clip_samples(kept["opposite.wav"])
    assert np.abs(heard).max() == pytest.approx(np.abs(voice).max(), rel=0.01)


def made(clip: Clip, folder: Path, **values: object) -> tuple[list[Clip], list[dict]]:
    results = list(preprocess(Workspace(), [clip], folder, PreprocessSettings(**values), Vad("energy"), "inline"))  # type: ignore[arg-type]
    return [clip for result in results for clip in result.clips], [row for result in results for row in result.dropped]


# --- clips of 30 s ----------------------------------------------------------------------------------------------------


def of_length(folder: Path, seconds: float, said: float = 30.0) -> Clip:
    path = folder / f"{seconds}.wav"
    soundfile.write(path, sound(seconds), RATE)
    return Clip(f"clip-{seconds}", str(path), "sol mar", said, "en", speaker="a", license="own")


@pytest.mark.parametrize("seconds", [30.0, 30.003, 30.09])
def test_a_little_over_30_s_is_cut_alike_everywhere(tmp_path: Path, seconds: float) -> None:
    from govor.examples.spec import ExampleSpec
    from govor.families.recogniser import RECOGNITION
    from govor.families.whisper.tiny import tiny

    model = tiny()
    for said in (30.0, seconds):
        clip = of_length(tmp_path, seconds, said)
        samples = clip_samples(clip)
        assert len(samples) == min(int(seconds * SAMPLE_RATE), 480_000)
        spec = ExampleSpec(clip, "en")
        model.renderer.check(spec)
        RECOGNITION.check_clips(model, [clip], tmp_path, DecodeOptions())
        assert model.renderer.encode(spec, samples).mel.shape[1] == 3000
        assert len(model.transcribe([samples], ["en"], DecodeOptions("speech"))) == 1
        ((kept,), dropped) = made(clip.replace(segments=(Segment(0.0, seconds, "sol mar"),)), tmp_path / f"{said}")
        assert not dropped and kept.duration <= 30.0
        assert kept.segments[-1].end is not None and kept.segments[-1].end <= 30.0


@pytest.mark.parametrize("seconds", [30.2, 30.5, 33.0])
def test_more_than_a_little_over_30_s_is_refused_with_its_id(tmp_path: Path, seconds: float) -> None:
    from govor.examples.spec import ExampleSpec
    from govor.families.recogniser import RECOGNITION
    from govor.families.whisper.tiny import tiny

    clip, model = of_length(tmp_path, seconds), tiny()
    with pytest.raises(AudioError, match=f"clip-{seconds}"):
        clip_samples(clip)
    for check in (
        lambda: model.renderer.check(ExampleSpec(clip, "en")),
        lambda: RECOGNITION.check_clips(model, [clip], tmp_path, DecodeOptions()),
    ):
        with pytest.raises(AudioError, match=f"clip-{seconds}"):
            check()


def test_training_and_scoring_of_30_s(govor: Run, workspace: Path, tiny_folder: Path) -> None:
    from conftest import make_split, toy_recipe
    from govor.corpus.manifests import write_clips

    split = make_split(workspace)
    recipe = toy_recipe(split, tiny_folder, workspace / "toy.yaml", finetune={"epochs": 1})
    for part in ("train", "validation", "test"):
        rows = list(Manifest(split / f"{part}.jsonl"))
        write_clips(split / f"{part}.jsonl", [of_length(workspace, 30.05).replace(id=f"long-{part}"), *rows[1:]])
    govor("train", recipe)
    govor("evaluate", tiny_folder, "--manifest", split / "test.jsonl")
    govor("package", "models/whisper/toy", "--format", "hf")
    assert json.loads((workspace / "models/whisper/toy/package.json").read_text())
    write_clips(split / "validation.jsonl", [of_length(workspace, 30.4)])
    write_clips(split / "test.jsonl", [of_length(workspace, 30.4)])
    for command in (("train", recipe, "--overwrite"), ("evaluate", tiny_folder, "--manifest", split / "test.jsonl")):
        refused = govor(*command, expect=2)
        assert "clip-30.4" in refused.stderr and "Traceback" not in refused.stderr


def test_times_beyond_the_end_have_a_reason(workspace: Path, govor: Run) -> None:
    soundfile.write("long.wav", np.concatenate([real_like(1, 30.0), real_like(2, 15.0)]), 16_000)
    soundfile.write("short.wav", real_like(3), 16_000)
    late = {"start": 100.0, "end": 120.0, "text": "pozdě"}
    good = {"start": 0.0, "end": 9.0, "text": "ano"}
    rows = [
        row("none", "long.wav", duration=45.0, segments=[late]),
        row("some", "long.wav", duration=45.0, segments=[good, late]),
        row("short", "short.wav", duration=3.0, segments=[{"start": 2.0, "end": 9.0, "text": "ano"}]),
    ]
    lines("m.jsonl", *rows)
    govor("preprocess", "m.jsonl", "--name", "p", "--vad", "energy", expect=1)
    dropped = [(item["row"]["transcript"], item["rule"]) for _, item in read_rows("manifests/p.dropped.jsonl")]
    assert dropped == [("pozdě", "times_beyond_end")] * 2
    govor("validate", "m.jsonl", "--near-duplicates", "off", expect=2)
    assert {item["rule"] for _, item in read_rows("manifests/dropped.jsonl")} == {"times_beyond_end"}


def test_a_second_try_after_nothing_was_kept_is_not_refused(workspace: Path, govor: Run) -> None:
    soundfile.write("a.wav", voice(1, 0.1), 16_000)
    lines("m.jsonl", row("a", duration=0.1))
    for command in (("validate", "m.jsonl"), ("preprocess", "m.jsonl", "--name", "p", "--vad", "energy")):
        for _ in range(2):
            assert "None of the" in govor(*command, expect=2).stderr
    assert list(read_rows("manifests/dropped.jsonl"))


def messy(folder: Path) -> Path:
    """Sound clips and one of each trouble."""
    make_corpus(folder, 12, speakers=3)
    bad = folder / "bad"
    bad.mkdir()
    sound = speech(["sol", "mar", "pan"], seconds=1.5)

    def clip(name: str, samples: np.ndarray, text: str | None = "sol mar pan", **options: Any) -> Path:
        path = bad / name
        soundfile.write(path, samples, 16_000, **options)
        if text is not None:
            path.with_suffix(".txt").write_text(text)
        return path

    (bad / "text.wav").write_text("no audio")
    (bad / "zero.wav").write_bytes(b"")
    clip("silent.wav", np.zeros(16_000, np.float32))
    clip("short.wav", sound[:3000])
    clip("long.flac", np.tile(sound, 25))
    clip("untold.wav", speech(["vid"], seconds=1.0), None)
    clip("blank.wav", speech(["zem"], seconds=1.0), "  \n")
    clip("clipped.wav", np.clip(sound * 40, -1, 1))
    clip("chatty.wav", speech(["pan"], seconds=1.0), "word " * 40)
    clip("nan.wav", np.full(16_000, np.nan, np.float32), subtype="FLOAT")
    twin = next(folder.glob("speaker0/*.wav"))
    (bad / "twin.wav").write_bytes(twin.read_bytes())
    (bad / "twin.txt").write_text("a copy")
    samples, rate = soundfile.read(next(folder.glob("speaker1/*.wav")), dtype="int16")
    soundfile.write(bad / "same.flac", samples, rate)
    (bad / "same.txt").write_text("the same samples as flac")
    cut = clip("cut.mp3", np.tile(sound, 4))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 3])
    (bad / "latin1.wav").write_bytes((bad / "untold.wav").read_bytes())
    (bad / "latin1.txt").write_bytes("Čačak".encode("cp1250"))
    return folder


def run_validate(rows: list[dict[str, Any]], **limits: Any) -> tuple[list[Clip], list[dict[str, Any]], dict[str, Any]]:
    kept: list[Clip] = []
    dropped: list[dict[str, Any]] = []
    report = {}
    for running in validate(
        Workspace(), rows, Checks(Limits(**limits)), kept.append, dropped.append, engine_name="inline"
    ):
        report = running.as_dict()
    return kept, dropped, report


def test_kept_and_dropped_make_the_inventory(tmp_path: Path) -> None:
    rows = list(inventory(Workspace(), [messy(tmp_path / "set")], Statement("cs", "own"), "inline"))
    kept, dropped, report = run_validate(rows, max_seconds=30)
    assert (
        len(kept) + len(dropped)
        == len(rows)
        == report["inventory_rows"]
        == report["kept_rows"] + report["dropped_rows"]
    )
    assert sorted([clip.id for clip in kept] + [row["row"]["id"] for row in dropped]) == sorted(
        row["id"] for row in rows
    )
    rules = {Path(row["row"]["audio"]).name: row["rule"] for row in dropped}
    # Of two equal recordings the first met is kept, and bad/ comes before speaker*/.
    assert sorted(rule for rule in rules.values() if rule.startswith("duplicate")) == [
        "duplicate_audio",
        "duplicate_file",
    ]
    assert {name: rule for name, rule in rules.items() if not rule.startswith("duplicate")} == {
        "text.wav": "unreadable",
        "zero.wav": "empty",
        "silent.wav": "silent",
        "short.wav": "too_short",
        "long.flac": "too_long",
        "untold.wav": "no_transcript",
        "blank.wav": "empty_transcript",
        "clipped.wav": "clipped",
        "chatty.wav": "text_too_long",
        "nan.wav": "not_a_number",
        "cut.mp3": "truncated",
        "latin1.wav": "bad_transcript",
    }
    assert all(clip.license == "own" and clip.pcm_sha256 for clip in kept)
    for each in dropped:
        assert each["message"] and set(each) == {"row", "rule", "measured", "limit", "message"}
