"""Damaged audio files: one sentence or samples, never a traceback, never a hang, and the length that is told is the one
that is heard."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from containers import encoded, encoded_av, of_unknown_length, sound, without_info_frame
from govor.audio import SAMPLE_RATE, decode, probe, stream
from govor.errors import AudioError

CASES = 60
SLOWEST_SECONDS = 5.0


def good(kind: str) -> bytes:
    samples = sound(0.6)
    wide = np.repeat(samples, 3)
    made = {
        "wav": lambda: encoded(samples, "WAV"),
        "wav-float": lambda: encoded(np.stack([samples, samples], axis=1), "WAV", "FLOAT"),
        "flac": lambda: encoded(samples, "FLAC"),
        "flac-pipe": lambda: of_unknown_length(encoded(samples, "FLAC")),
        "mp3": lambda: encoded(samples, "MP3"),
        "mp3-pipe": lambda: without_info_frame(encoded(samples, "MP3", bitrate_mode="VARIABLE")),
        "ogg": lambda: encoded(samples, "OGG", "VORBIS"),
        "opus": lambda: encoded(samples, "OGG", "OPUS"),
        "m4a": lambda: encoded_av(wide, "mp4", "aac"),
        "aac": lambda: encoded_av(wide, "adts", "aac"),
        "webm": lambda: encoded_av(wide, "webm", "libopus"),
        "aiff": lambda: encoded(samples, "AIFF"),
        "au": lambda: encoded(samples, "AU"),
    }
    return made[kind]()


KINDS = ("wav", "wav-float", "flac", "flac-pipe", "mp3", "mp3-pipe", "ogg", "opus", "m4a", "aac", "webm", "aiff", "au")


def damaged(data: bytes, number: int) -> bytes:
    generator = np.random.default_rng(number)
    changed = bytearray(data)
    if number % 3 == 0:
        changed = changed[: int(generator.integers(1, len(data)))]
    if number % 3 or number % 2:
        for _ in range(int(generator.integers(1, 6))):
            among = 200 if generator.random() < 0.7 else len(changed)  # mostly in the header
            place = int(generator.integers(0, min(len(changed), among)))
            changed[place] = int(generator.choice([0, 255, 127, 128, int(generator.integers(256))]))
    if number % 10 == 9:
        changed += generator.integers(0, 256, 3000, np.uint8).tobytes()
    return bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_as_they_are_or_refused(tmp_path: Path, kind: str) -> None:
    whole = good(kind)
    path = tmp_path / f"a.{kind.partition('-')[0]}"
    path.write_bytes(whole)
    truth = len(decode(path))
    assert truth / SAMPLE_RATE == pytest.approx(0.6, abs=0.1)
    outcomes: Counter[str] = Counter()
    for number in range(CASES):
        path.write_bytes(damaged(whole, number))
        start = time.perf_counter()
        told: list[float | str] = []
        for read in (
            lambda: probe(path).duration_seconds,
            lambda: len(decode(path, max_seconds=120)) / SAMPLE_RATE,
            lambda: sum(len(block) for block in stream(path)) / SAMPLE_RATE,
        ):
            try:
                told.append(read())
            except AudioError as error:
                assert len(str(error).splitlines()) == 1
                told.append(error.rule)
        assert time.perf_counter() - start < SLOWEST_SECONDS, (kind, number)
        probed, decoded, streamed = told
        if isinstance(decoded, float):
            assert streamed == pytest.approx(decoded, abs=0.01), (kind, number, told)
            # What FFmpeg reads by its header may hold a little more, or broken packets.
            assert probed == pytest.approx(decoded, abs=0.11 if kind in ("m4a", "webm") else 0.02), (kind, number, told)
        outcomes["read" if isinstance(decoded, float) else decoded] += 1
    assert len(outcomes) > 1, outcomes  # the damage did not meet one place alone
    if kind not in ("ogg", "opus"):  # whose pages have checksums
        assert outcomes["read"], outcomes
