"""Decoding: every format, the right length and pitch, and one reason for what cannot be read."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import speech
from govor.audio import SAMPLE_RATE, CutShort, decode, probe, split_blob
from govor.errors import AudioError


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def pitch(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * SAMPLE_RATE / len(samples))


def write_av(path: Path, samples: np.ndarray, rate: int, codec: str) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.mark.parametrize(
    ("suffix", "rate"), [("wav", 8000), ("wav", 44_100), ("flac", 48_000), ("mp3", 44_100), ("ogg", 22_050)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_of_libsndfile(tmp_path: Path, suffix: str, rate: int, channels: int) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(2.0, rate)] * channels, axis=1), rate)
    samples = decode(path)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert len(samples) / SAMPLE_RATE == pytest.approx(2.0, abs=0.06)
    assert pitch(samples) == pytest.approx(440, abs=2)
    info = probe(path)
    assert (info.sample_rate_hz, info.channels) == (rate, channels)
    assert info.duration_seconds == pytest.approx(2.0, abs=0.06)


def test_opus(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    soundfile.write(path, tone(1.0, 48_000), 48_000, format="OGG", subtype="OPUS")
    assert pitch(decode(path)) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"), [("m4a", "aac", 44_100), ("mp4", "aac", 48_000), ("webm", "libopus", 48_000)]
)
def test_formats_of_pyav(tmp_path: Path, suffix: str, codec: str, rate: int) -> None:
    path = tmp_path / f"a.{suffix}"
    write_av(path, tone(2.0, rate), rate, codec)
    samples = decode(path)
    assert len(samples) / SAMPLE_RATE == pytest.approx(2.0, abs=0.1)
    assert pitch(samples) == pytest.approx(440, abs=2)
    assert probe(path).duration_seconds == pytest.approx(2.0, abs=0.1)
    part = decode(path, 0.5, 1.0)
    assert len(part) / SAMPLE_RATE == pytest.approx(1.0, abs=0.01)


def test_a_part_is_the_same_as_the_part_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    samples = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(decode(path, 0.5, 1.0), samples[8000:24_000])


def test_a_blob_is_read_from_inside_a_file(tmp_path: Path) -> None:
    clip, blob = tmp_path / "a.flac", tmp_path / "blob"
    soundfile.write(clip, tone(0.5, 16_000), 16_000)
    data = clip.read_bytes()
    blob.write_bytes(b"x" * 100 + data + b"y" * 50)
    np.testing.assert_array_equal(decode(f"{blob}#100,{len(data)}"), decode(clip))
    assert split_blob(f"{blob}#100,5") == (blob, (100, 5))
    with pytest.raises(AudioError, match="shorter than the span"):
        decode(f"{blob}#100,{10 * len(data)}")


def test_an_alias_above_8_khz_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, 48_000, 11_000.0), 48_000, subtype="FLOAT")
    assert np.abs(decode(path)[1000:-1000]).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("text.wav", b"this is text and no audio at all", "unreadable"),
        ("zero.wav", b"", "empty"),
        ("text.m4a", b"this is text and no audio at all", "unreadable"),
        ("cut.flac", b"fLaC\x00\x00\x00\x22", "unreadable"),
    ],
)
def test_what_is_no_audio_has_one_reason(tmp_path: Path, name: str, content: bytes, rule: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError) as caught:
        decode(tmp_path / name)
    assert caught.value.rule == rule and name in str(caught.value)


def test_missing_folder_header_only_and_not_a_number(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), 16_000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.2], np.float32), 16_000, subtype="FLOAT")
    for path, rule in (
        (tmp_path / "gone.wav", "missing"),
        (tmp_path, "unreadable"),
        (tmp_path / "none.wav", "empty"),
        (tmp_path / "nan.wav", "not_a_number"),
    ):
        with pytest.raises(AudioError) as caught:
            decode(path)
        assert caught.value.rule == rule


def test_too_much_audio_is_refused_while_decoding(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", np.zeros(SAMPLE_RATE * 200, np.float32), SAMPLE_RATE)
    with pytest.raises(AudioError, match="longer than the limit of 100 s"):
        decode(tmp_path / "long.flac", max_seconds=100)


def test_streamed_audio_is_decoded_audio(tmp_path: Path) -> None:
    from govor.audio import decode, stream

    wave = speech(["sol", "mar"] * 120, 75, rate=44_100)
    soundfile.write(tmp_path / "a.flac", np.column_stack([wave, wave]), 44_100)
    whole, parts = decode(tmp_path / "a.flac"), np.concatenate(list(stream(tmp_path / "a.flac")))
    assert abs(len(whole) - len(parts)) <= 1
    np.testing.assert_allclose(whole[: len(parts)], parts[: len(whole)], atol=2e-4)
    with pytest.raises(AudioError, match="not found"):
        list(stream(tmp_path / "none.wav"))
    (tmp_path / "bad.wav").write_bytes(b"RIFF....WAVE")
    with pytest.raises(AudioError, match="not audio that can be read"):
        list(stream(tmp_path / "bad.wav"))


@pytest.mark.parametrize(
    ("suffix", "codec"), [("wav", None), ("flac", None), ("mp3", None), ("ogg", None), ("m4a", "aac")]
)
def test_what_was_promised_is_asked_for_while_decoding(tmp_path: Path, suffix: str, codec: str | None) -> None:
    whole, half = tmp_path / f"whole.{suffix}", tmp_path / f"half.{suffix}"
    if codec:
        write_av(whole, tone(4.0, 16_000), 16_000, codec)
    else:
        soundfile.write(whole, tone(4.0, 16_000), 16_000)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert np.array_equal(decode(whole, promised=True), decode(whole))
    with pytest.raises(AudioError) as caught:
        decode(half, promised=True)
    assert caught.value.rule in ("truncated", "wrong_header")
    if isinstance(caught.value, CutShort):
        assert caught.value.shortfall == probe(half).shortfall
        assert pickle.loads(pickle.dumps(caught.value)).shortfall == caught.value.shortfall
    else:
        assert suffix == "m4a", "without its index there is nothing to measure"
