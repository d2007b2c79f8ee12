"""A folder as teams really have it: sound recordings, and a share of them broken in every way we know."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
TEXT = "sol mar pan"


def voice(number: int, seconds: float = 0.8, rate: int = RATE) -> np.ndarray:
    """A sound of its own for every number: four tones and noise."""
    generator = np.random.default_rng(number)
    clock = np.arange(int(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * f * clock * (1 + 0.2 * clock)) for f in generator.uniform(200, 3500, 4))
    return (0.1 * tones + 0.02 * generator.standard_normal(len(clock))).astype(np.float32)


def build(folder: Path, count: int, broken_share: float = 0.02) -> dict[str, str]:
    """Write about `count` recordings; returns the rule expected of each broken one by its file name."""
    folder.mkdir(parents=True)
    broken = max(len(BREAKAGES), int(count * broken_share))
    for number in range(count - broken):
        place = folder / f"tape {number % 40}"
        place.mkdir(exist_ok=True)
        name = ("clip {}", "clip\n{}", "\u202eclip{}", "קליפ {}", "-{}", "clip'\"{}", "ćlip{}")[number % 7].format(
            number
        )
        suffix = (".wav", ".flac", ".ogg", ".mp3")[number % 4]
        _write(place / f"{name}{suffix}", voice(number), TEXT)
    expected: dict[str, str] = {}
    for number in range(broken):
        kind = list(BREAKAGES)[number % len(BREAKAGES)]
        rule = BREAKAGES[kind](folder / "bad", f"{kind}-{number}", 1_000_000 + number)
        if rule:
            expected[f"{kind}-{number}"] = rule
    (folder / "loop").symlink_to(folder)
    return expected


def _write(path: Path, samples: np.ndarray, text: str | bytes | None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # libsndfile is given a plain name: it need not know ours.
    plain = path.parent / f".writing{path.suffix}"
    soundfile.write(plain, samples, options.pop("rate", RATE), **options)
    plain.replace(path)
    if text is not None:
        path.with_suffix(".txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _truncated(suffix: str, rule: str) -> Callable[[Path, str, int], str]:
    def make(folder: Path, name: str, number: int) -> str:
        path = _write(folder / f"{name}{suffix}", voice(number, 4.0), TEXT)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        return rule

    return make


def _not_audio(suffix: str, data: bytes, rule: str) -> Callable[[Path, str, int], str]:
    def make(folder: Path, name: str, number: int) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}{suffix}").write_bytes(data)
        (folder / f"{name}.txt").write_text(TEXT)
        return rule

    return make


def _text(data: bytes | None, rule: str) -> Callable[[Path, str, int], str]:
    def make(folder: Path, name: str, number: int) -> str:
        _write(folder / f"{name}.wav", voice(number), data)
        return rule

    return make


def _samples(
    change: Callable[[np.ndarray], np.ndarray], rule: str, **options: object
) -> Callable[[Path, str, int], str]:
    def make(folder: Path, name: str, number: int) -> str:
        _write(folder / f"{name}.wav", change(voice(number)), TEXT, **options)
        return rule

    return make


def _fifo(folder: Path, name: str, number: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / f"{name}.wav")
    return "unreadable"


def _dangling(folder: Path, name: str, number: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.wav").symlink_to(folder / "nowhere.wav")
    return "unreadable"


def _self_link(folder: Path, name: str, number: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.wav").symlink_to(folder / f"{name}.wav")
    return "unreadable"


def _forbidden(folder: Path, name: str, number: int) -> str:
    path = _write(folder / f"{name}.wav", voice(number), TEXT)
    path.chmod(0)
    return "" if os.geteuid() == 0 else "unreadable"  # root may read everything


def _mp3_named_wav(folder: Path, name: str, number: int) -> str:
    path = _write(folder / f"{name}.mp3", voice(number), TEXT)
    path.rename(path.with_suffix(".wav"))
    return ""  # its content is sound, and libsndfile goes by content


def _many_channels(folder: Path, name: str, number: int) -> str:
    _write(folder / f"{name}.wav", np.stack([voice(number, rate=96_000)] * 8, axis=1), TEXT, rate=96_000)
    return ""


def _copy(folder: Path, name: str, number: int) -> str:
    original = _write(folder / f"{name}-original.wav", voice(number), TEXT)
    shutil.copy(original, folder / f"{name}.wav")
    (folder / f"{name}.txt").write_text(TEXT)
    return "duplicate_file"


def _text_folder(folder: Path, name: str, number: int) -> str:
    _write(folder / f"{name}.wav", voice(number), None)
    (folder / f"{name}.txt").mkdir()
    return "no_transcript"


def _lying_header(folder: Path, name: str, number: int) -> str:
    path = _write(folder / f"{name}.wav", voice(number), TEXT)
    data = bytearray(path.read_bytes())
    data[24:28] = (0).to_bytes(4, "little")  # a sample rate of 0 Hz
    path.write_bytes(data)
    return "unreadable"


BREAKAGES: dict[str, Callable[[Path, str, int], str]] = {
    "cut-mp3": _truncated(".mp3", "truncated"),
    "cut-flac": _truncated(".flac", "truncated"),
    "cut-ogg": _truncated(".ogg", "truncated"),
    "cut-wav": _truncated(".wav", "wrong_header"),
    "text": _not_audio(".wav", b"this is no audio", "unreadable"),
    "picture": _not_audio(".mp3", b"\x89PNG\r\n\x1a\n" + bytes(2000), "unreadable"),
    "web-page": _not_audio(".ogg", b"<!doctype html><p>not found</p>" * 40, "unreadable"),
    "empty": _not_audio(".wav", b"", "empty"),
    "zero-flac": _not_audio(".flac", b"", "empty"),
    "channels": _many_channels,
    "nan": _samples(lambda samples: samples * np.nan, "not_a_number", subtype="FLOAT"),
    "infinite": _samples(lambda samples: samples + np.inf, "not_a_number", subtype="FLOAT"),
    "silent": _samples(lambda samples: samples * 0, "silent"),
    "clipped": _samples(lambda samples: np.clip(samples * 100, -1, 1), "clipped"),
    "short": _samples(lambda samples: samples[:2000], "too_short"),
    "no-samples": _samples(lambda samples: samples[:0], "empty"),
    "cp1250": _text("Čiji je ćup? Đurđin, žuti i šareni.".encode("cp1250"), "bad_transcript"),
    "cp1255": _text("שלום לכל הילדים".encode("cp1255"), "bad_transcript"),
    "utf16-bare": _text("sol mar".encode("utf-16-le"), "bad_transcript"),
    "utf16": _text("sol mar pan".encode("utf-16"), ""),
    "bom": _text(b"\xef\xbb\xbf" + TEXT.encode(), ""),
    "blank": _text(b" \n\t\n", "empty_transcript"),
    "untold": _text(None, "no_transcript"),
    "book": _text(b"word " * 400_000, "bad_transcript"),
    "chatty": _text(b"word " * 60, "text_too_long"),
    "fifo": _fifo,
    "dangling": _dangling,
    "self-link": _self_link,
    "forbidden": _forbidden,
    "mp3-as-wav": _mp3_named_wav,
    "copy": _copy,
    "text-folder": _text_folder,
    "header": _lying_header,
}
