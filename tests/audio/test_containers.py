"""The audio that is used is the audio that is there, to the last sample, or it is refused with the true reason.

Faults P25, P27, T23, O16, O17, O18, O19, T22, H2, H3, and their kind.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from containers import (
    RATE,
    encoded,
    encoded_av,
    of_unknown_length,
    sound,
    with_flac_length,
    with_sizes,
    without_info_frame,
)
from govor.audio import SAMPLE_RATE, decode, probe, stream
from govor.errors import AudioError


def lengths(path: Path | str) -> tuple[float, float, float]:
    return (
        probe(path).duration_seconds,
        len(decode(path)) / SAMPLE_RATE,
        sum(len(block) for block in stream(path)) / SAMPLE_RATE,
    )


def assert_lasts(path: Path | str, seconds: float, within: float = 0.07) -> None:
    probed, decoded, streamed = lengths(path)
    assert decoded == pytest.approx(seconds, abs=within)
    assert (probed, streamed) == pytest.approx((decoded, decoded), abs=0.02)


def assert_sounds_like(samples: np.ndarray, truth: np.ndarray) -> None:
    """Loudness by tenths of a second, which tells what was left out or comes twice."""
    count = min(len(samples), len(truth)) // 1600
    found, wanted = (np.sqrt(np.square(one[: count * 1600].reshape(-1, 1600)).mean(axis=1)) for one in (samples, truth))
    assert np.corrcoef(found, wanted)[0, 1] > 0.9


def quiet_then_loud(seconds: float) -> np.ndarray:
    samples = sound(seconds)
    samples[: len(samples) // 2] *= 0.001
    return samples


LOUDNESS: dict[str, Callable[[float], np.ndarray]] = {
    "even": sound,
    "quiet then loud": quiet_then_loud,
    "loud then quiet": lambda seconds: quiet_then_loud(seconds)[::-1].copy(),
}


@pytest.mark.parametrize("rate", [16_000, 44_100, 8_000])
@pytest.mark.parametrize("loudness", LOUDNESS)
def test_an_mp3_without_a_header_is_read_to_its_end(tmp_path: Path, loudness: str, rate: int) -> None:
    import soxr

    samples = LOUDNESS[loudness](20.0)
    whole = encoded(
        soxr.resample(samples, RATE, rate), "MP3", rate=rate, bitrate_mode="VARIABLE", compression_level=0.5
    )
    path = tmp_path / "a.mp3"
    path.write_bytes(without_info_frame(whole))
    assert_lasts(path, 20.0, within=0.2)
    assert_sounds_like(decode(path), samples)
    np.testing.assert_allclose(np.concatenate(list(stream(path))), decode(path), atol=1e-3)
    part = decode(path, 15.0, 2.0)
    assert len(part) == pytest.approx(2 * SAMPLE_RATE, abs=2)


def test_an_mp3_whose_header_speaks_of_less_is_read_to_its_end(tmp_path: Path) -> None:
    first, second = (encoded(sound(seconds, seed=seed), "MP3") for seconds, seed in ((3.0, 1), (2.0, 2)))
    tag = b"ID3\x04\0\0" + bytes((0, 0, 8, 0)) + bytes(1024)
    for name, data in {
        "joined": first + second,
        "tagged": tag + first + tag + second + b"TAG" + bytes(125),
        "behind junk": bytes(range(200)) * 500 + first + second,
    }.items():
        (tmp_path / f"{name}.mp3").write_bytes(data)
        assert_lasts(tmp_path / f"{name}.mp3", 5.0)
    heard = decode(tmp_path / "joined.mp3")
    assert_sounds_like(heard, np.concatenate([sound(3.0, seed=1), sound(2.0, seed=2)]))


def test_noise_between_frames_costs_itself_alone(tmp_path: Path) -> None:
    data = without_info_frame(encoded(sound(10.0), "MP3"))
    middle = len(data) // 2
    noise = np.random.default_rng(3).integers(0, 255, 5000, np.uint8).tobytes()
    (tmp_path / "a.mp3").write_bytes(data[:middle] + noise + data[middle:])
    assert_lasts(tmp_path / "a.mp3", 10.0, within=0.3)


@pytest.mark.parametrize("loudness", LOUDNESS)
@pytest.mark.parametrize(("container", "codec", "suffix"), [("adts", "aac", "aac"), ("webm", "libopus", "webm")])
def test_an_estimate_is_no_promise(tmp_path: Path, loudness: str, container: str, codec: str, suffix: str) -> None:
    samples = np.repeat(LOUDNESS[loudness](12.0), 3)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded_av(samples, container, codec, pipe=True))
    assert_lasts(path, 12.0, within=0.1)
    assert probe(path).shortfall is None


def test_a_film_may_last_longer_than_its_sound(tmp_path: Path) -> None:
    for container, codec in (("mp4", "aac"), ("matroska", "libopus")):
        path = tmp_path / f"a.{container}"
        path.write_bytes(encoded_av(np.repeat(sound(3.0), 3), container, codec, picture=True))
        assert_lasts(path, 3.0, within=0.1)
        assert probe(path).shortfall is None


@pytest.mark.parametrize("promised", [0, 1, 8_000, 1 << 20])
def test_a_flac_is_as_long_as_its_frames(tmp_path: Path, promised: int) -> None:
    samples = sound(4.0)
    path = tmp_path / "a.flac"
    path.write_bytes(with_flac_length(encoded(samples, "FLAC"), promised))
    assert_lasts(path, 4.0, within=1e-6)
    np.testing.assert_allclose(decode(path), samples, atol=1e-4)
    assert (probe(path).shortfall is not None) == (promised > len(samples))


def test_a_flac_from_a_pipe_needs_no_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "a.flac"
    path.write_bytes(of_unknown_length(encoded(sound(0.1), "FLAC")))  # one frame
    assert_lasts(path, 0.1, within=1e-6)
    path.write_bytes(without_info_frame(encoded(sound(2.0), "MP3")))
    assert_lasts(path, 2.0)


@pytest.mark.parametrize("container", ["OGG/VORBIS", "OGG/OPUS", "FLAC/PCM_16", "MP3/MPEG_LAYER_III"])
@pytest.mark.parametrize("same", [False, True])
def test_recordings_joined_end_to_end_are_read_to_the_last(tmp_path: Path, container: str, same: bool) -> None:
    kind, subtype = container.split("/")
    first, second = sound(2.0, seed=1), sound(2.0, seed=1 if same else 2)
    path = tmp_path / "a.bin"
    path.write_bytes(encoded(first, kind, subtype) + encoded(second, kind, subtype))
    assert_lasts(path, 4.0)
    assert_sounds_like(decode(path), np.concatenate([first, second]))
    assert_sounds_like(decode(path, 1.5, 1.0), np.concatenate([first[24_000:], second[:8_000]]))


SIZES = {
    "riff and data 0": (0, 0),
    "as begun": (36, 0),
    "data 0": (None, 0),
    "both open": (0xFFFFFFFF, 0xFFFFFFFF),
    "data open": (0, 0xFFFFFFFF),
    "sox": (0x7FFFFFFF, 0x7FFFF000),
}


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_U8", "PCM_24", "FLOAT", "ULAW"])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_wav_that_was_never_closed_is_read_to_its_end(tmp_path: Path, sizes: str, subtype: str) -> None:
    data = encoded(np.concatenate([np.zeros(800, np.float32), sound(2.0)]), "WAV", subtype)
    riff, length = SIZES[sizes]
    path = tmp_path / "a.wav"
    path.write_bytes(with_sizes(data, len(data) - 8 if riff is None else riff, length))
    assert_lasts(path, 2.05, within=0.001)
    assert probe(path).shortfall is None
    assert_sounds_like(decode(path)[800:], sound(2.0))


def test_an_aiff_that_sox_wrote_into_a_pipe_is_whole(tmp_path: Path) -> None:
    data = bytearray(encoded(sound(2.0), "AIFF"))
    place = data.index(b"SSND") + 4
    data[4:8], data[place : place + 4] = (0x7F000050).to_bytes(4, "big"), (0x7F000008).to_bytes(4, "big")
    data[data.index(b"COMM") + 10 : data.index(b"COMM") + 14] = bytes(4)
    (tmp_path / "a.aiff").write_bytes(data)
    assert_lasts(tmp_path / "a.aiff", 2.0, within=0.001)
    assert probe(tmp_path / "a.aiff").shortfall is None


def test_what_stands_behind_the_sound(tmp_path: Path) -> None:
    data = encoded(sound(2.0), "WAV")
    sound_bytes = len(data) - 44
    path = tmp_path / "a.wav"
    for tail in (
        b"LIST\4\0\0\0abcd",
        b"x",
        bytes(5000),
        b"TAG" + bytes(5000),
        b"zzzz\xd0\7\0\0" + bytes(range(250)) * 8,
    ):
        path.write_bytes(data + tail)
        assert_lasts(path, 2.0, within=1e-6)
    for broken in (with_sizes(data, len(data) - 8, sound_bytes // 2), with_sizes(data, 36, 3201), data + data):
        path.write_bytes(broken)
        for read in (probe, decode, lambda name: list(stream(name))):
            with pytest.raises(AudioError, match="stand behind it") as caught:
                read(path)
            assert caught.value.rule == "wrong_header"
    path.write_bytes(data[: len(data) // 2])
    short = probe(path).shortfall
    assert short is not None and (short.rule, short.promised) == ("wrong_header", sound_bytes)
    path.write_bytes(data[:44])
    with pytest.raises(AudioError, match="cut short"):
        decode(path)
    path.write_bytes(with_sizes(data[:44], 36, 0))
    with pytest.raises(AudioError) as caught:
        decode(path)
    assert caught.value.rule == "empty"


def test_an_au_and_an_rf64_that_were_never_closed(tmp_path: Path) -> None:
    au = encoded(sound(2.0), "AU")
    for length in (0, 0xFFFFFFFF):
        (tmp_path / "a.au").write_bytes(au[:8] + length.to_bytes(4, "big") + au[12:])
        assert_lasts(tmp_path / "a.au", 2.0, within=1e-6)
    (tmp_path / "a.au").write_bytes(au[:8] + (10_000).to_bytes(4, "big") + au[12:])
    with pytest.raises(AudioError, match="stand behind it"):
        decode(tmp_path / "a.au")
    rf64 = encoded(sound(2.0), "RF64")
    place = rf64.index(b"ds64") + 8
    (tmp_path / "a.wav").write_bytes(rf64[:place] + bytes(24) + rf64[place + 24 :])
    assert_lasts(tmp_path / "a.wav", 2.0, within=1e-6)


@pytest.mark.parametrize("container", ["OGG/VORBIS", "OGG/OPUS", "MP3/MPEG_LAYER_III", "FLAC/PCM_16"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_what_was_cut_short_says_so(tmp_path: Path, container: str, share: float) -> None:
    data = encoded(sound(6.0), *container.split("/"))
    path = tmp_path / "a.bin"
    path.write_bytes(data[: int(share * len(data))])
    try:
        info = probe(path)
        assert info.shortfall is not None and info.shortfall.rule == "truncated"
        assert info.shortfall.measured == pytest.approx(info.duration_seconds, abs=0.1)
        assert len(decode(path)) / SAMPLE_RATE == pytest.approx(info.duration_seconds, abs=0.02)
    except AudioError as error:
        assert error.rule == "truncated"


def pages(data: bytes) -> list[int]:
    """Where the pages of an Ogg begin."""
    return [found.start() for found in re.finditer(b"OggS\0", data)]


def test_an_ogg_without_a_whole_page_of_sound_and_an_m4a_without_index_are_truncated(tmp_path: Path) -> None:
    ogg, opus = (encoded(sound(1.0), "OGG", codec) for codec in ("VORBIS", "OPUS"))
    m4a = encoded_av(np.repeat(sound(6.0), 3), "mp4", "aac")
    for name, data in {
        "a.ogg": ogg[: len(ogg) * 2 // 3],
        "b.ogg": ogg[:100],
        **{f"{count}.ogg": ogg[: pages(ogg)[count]] for count in (1, 2)},
        **{f"{count}.opus": opus[: pages(opus)[count]] for count in (1, 2)},
        "a.m4a": m4a[: len(m4a) // 2],
    }.items():
        (tmp_path / name).write_bytes(data)
        for read in (decode, lambda path: list(stream(path))):
            with pytest.raises(AudioError, match="cut short") as caught:
                read(tmp_path / name)
            assert caught.value.rule == "truncated"


@pytest.mark.parametrize(("container", "codec"), [("matroska", "aac"), ("webm", "libopus"), ("avi", "mp3")])
def test_a_film_that_was_cut_and_one_with_a_hole_say_so(tmp_path: Path, container: str, codec: str) -> None:
    data = encoded_av(np.repeat(sound(8.0), 3), container, codec)
    middle = len(data) // 2
    for name, broken in {"cut": data[:middle], "hole": data[:middle] + bytes(3000) + data[middle + 3000 :]}.items():
        (tmp_path / name).write_bytes(broken)
        if name == "hole" and container == "avi":  # nobody tells
            continue
        try:
            info = probe(tmp_path / name)
        except AudioError as error:
            assert error.rule in ("truncated", "unreadable")
            continue
        assert info.shortfall is not None and info.shortfall.rule == "truncated"
        assert info.shortfall.measured == pytest.approx(len(decode(tmp_path / name)) / SAMPLE_RATE, abs=0.02)
    (tmp_path / "whole").write_bytes(data)
    assert probe(tmp_path / "whole").shortfall is None
    assert_lasts(tmp_path / "whole", 8.0)


def every_kind() -> dict[str, bytes]:
    samples = sound(2.0)
    return {
        "wav": encoded(samples, "WAV"),
        "flac": encoded(samples, "FLAC"),
        "mp3": encoded(samples, "MP3"),
        "ogg": encoded(samples, "OGG", "VORBIS"),
        "opus": encoded(samples, "OGG", "OPUS"),
        "aiff": encoded(samples, "AIFF"),
        "au": encoded(samples, "AU"),
        "m4a": encoded_av(np.repeat(samples, 3), "mp4", "aac"),
        "aac": encoded_av(np.repeat(samples, 3), "adts", "aac"),
        "webm": encoded_av(np.repeat(samples, 3), "webm", "libopus"),
    }


def test_a_recording_is_what_its_bytes_are_whatever_its_name(tmp_path: Path) -> None:
    kinds = every_kind()
    for kind, data in kinds.items():
        for suffix in (*kinds, "mp4", "txt", "vox", "gsm"):
            path = tmp_path / f"{kind}.{suffix}"
            path.write_bytes(data)
            assert_lasts(path, 2.0, within=0.1)
        blob = tmp_path / "blob"
        blob.write_bytes(b"x" * 77 + data + b"y" * 99)
        np.testing.assert_array_equal(decode(f"{blob}#77,{len(data)}"), decode(tmp_path / f"{kind}.{kind}"))
        assert probe(data).duration_seconds == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("suffix", ["wav", "mp3", "au", "m4a", "vox", "gsm", "aac", "ogg"])
@pytest.mark.parametrize(
    "data",
    [
        b"these are words and no sound. " * 300,
        b"\x89PNG\r\n\x1a\n" + bytes(3000),
        b"#EXTM3U\n#EXTINF:10,\n/etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile other.wav\n",
    ],
    ids=["text", "picture", "playlist", "concat"],
)
def test_what_is_no_sound_is_refused_under_every_name(tmp_path: Path, data: bytes, suffix: str) -> None:
    (tmp_path / "other.wav").write_bytes(encoded(sound(1.0), "WAV"))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    with pytest.raises(AudioError, match="is not audio that can be read") as caught:
        decode(path)
    assert caught.value.rule == "unreadable" and "pipe" not in str(caught.value)


def test_what_a_mac_lays_beside_a_recording_is_not_part_of_it(tmp_path: Path) -> None:
    for kind, data in every_kind().items():
        (tmp_path / f"a.{kind}").write_bytes(data)
        (tmp_path / f"._a.{kind}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(range(256)) * 16)
        assert_lasts(tmp_path / f"a.{kind}", 2.0, within=0.1)


@pytest.mark.parametrize("container", ["WAV", "RF64", "AIFF", "AU", "W64", "CAF"])
def test_what_plain_samples_lack_is_told_in_bytes(tmp_path: Path, container: str) -> None:
    data = encoded(sound(2.0), container)
    (tmp_path / "a").write_bytes(data)
    assert probe(tmp_path / "a").shortfall is None
    (tmp_path / "a").write_bytes(data[: len(data) * 2 // 3])
    short = probe(tmp_path / "a").shortfall
    assert short is not None and short.rule == "wrong_header"
    assert short.measured is not None and short.promised is not None and short.measured < 0.7 * short.promised
    assert_lasts(tmp_path / "a", 1.32, within=0.05)


def test_without_pyav_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = every_kind()
    monkeypatch.setitem(sys.modules, "av", None)
    for kind, data in kinds.items():
        path = tmp_path / f"{kind}.mp3"
        path.write_bytes(data)
        if kind in ("m4a", "aac", "webm"):
            with pytest.raises(AudioError, match="pip install av"):
                decode(path)
        else:
            assert_lasts(path, 2.0)


def test_a_path_of_thousands_of_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = Path(*["d" * 200] * 15)
    monkeypatch.chdir(tmp_path)
    deep.mkdir(parents=True)
    (deep / "a.wav").write_bytes(encoded(sound(1.0), "WAV"))
    assert len(str(deep)) > 3000
    assert_lasts(deep / "a.wav", 1.0)
    with pytest.raises(AudioError, match="name too long"):
        decode(Path(*deep.parts, *deep.parts, "a.wav"))


# --- channels ---------------------------------------------------------------------------------------------------------


def test_samples_far_beyond_full_scale_and_absurd_rates_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(sound(1.0) * 20_000, "WAV", "FLOAT"))
    with pytest.raises(AudioError, match="full scale") as caught:
        decode(path)
    assert caught.value.rule == "out_of_range"
    path.write_bytes(encoded(sound(1.0) * 4, "WAV", "FLOAT"))
    np.testing.assert_allclose(decode(path), sound(1.0) * 4, rtol=1e-6)
    data = encoded(sound(1.0), "WAV")
    for rate in (1, 0xFFFFFF):
        path.write_bytes(data[:24] + rate.to_bytes(4, "little") + data[28:])
        with pytest.raises(AudioError, match="samples a second"):
            decode(path)
    for rate in (4_000, 7_350, 11_025, 96_000, 192_000):
        path.write_bytes(encoded(sound(1.0, rate=rate), "WAV", rate=rate))
        assert_lasts(path, 1.0, within=0.001)
