"""Near-duplicates: the threshold is set on one half of real speech and judged on the other.

Positives: each clip encoded again (mp3, opus, 8 kHz), trimmed at both ends, made louder or quieter, one of each and all
at once. Negatives: every other pair, the same speaker saying similar words among them: Czech dialogue in which two voices
say most lines, and Spanish telephone prompts of one voice (numbers, "por favor marque 1 …"). Both corpora hold a few real
copies (the same prompt under two names); pairs whose originals differ in under a tenth of the bits are left out. Everything goes through the index that validation uses.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import soundfile
import soxr

from bench.results import Asked, Figure
from govor.audio import SAMPLE_RATE, Samples, decode
from govor.corpus import fillets, prompts
from govor.corpus.fingerprint import MAX_BIT_ERROR, MIN_COMMON_FRAMES, Index, fingerprint
from govor.corpus.manifests import read_clips

CLIPS = 600
REAL_COPY = 0.1


def encoded(samples: Samples, container: str, subtype: str) -> Samples:
    """Through a lossy codec and back."""
    rate = 48_000 if subtype == "OPUS" else 16_000
    buffer = io.BytesIO()
    soundfile.write(buffer, soxr.resample(samples, SAMPLE_RATE, rate), rate, format=container, subtype=subtype)
    buffer.seek(0)
    back, rate = soundfile.read(buffer, dtype="float32")
    return soxr.resample(back, rate, SAMPLE_RATE)


def telephone(samples: Samples) -> Samples:
    """8 kHz and 8-bit mu-law."""
    buffer = io.BytesIO()
    soundfile.write(buffer, soxr.resample(samples, SAMPLE_RATE, 8_000), 8_000, format="WAV", subtype="ULAW")
    buffer.seek(0)
    back, rate = soundfile.read(buffer, dtype="float32")
    return soxr.resample(back, rate, SAMPLE_RATE)


def variants(samples: Samples, generator: np.random.Generator) -> Iterator[tuple[str, Samples]]:
    """Each way a copy differs, and all at once."""

    def trimmed(given: Samples) -> Samples:
        start, end = (generator.uniform(0.02, 0.2, 2) * len(given)).astype(int)
        return given[start : len(given) - end]

    gain = float(10 ** (generator.uniform(-18, 6) / 20))
    yield "mp3", encoded(samples, "MP3", "MPEG_LAYER_III")
    yield "opus", encoded(samples, "OGG", "OPUS")
    yield "8 kHz", telephone(samples)
    yield "trimmed", trimmed(samples)
    yield "gain", np.clip(samples * gain, -1, 1)
    yield "all", np.clip(telephone(encoded(trimmed(samples), "OGG", "OPUS")) * gain, -1, 1)


def half(paths: list[str], seed: int) -> tuple[list[tuple[float, bool, str]], dict[str, int]]:
    """(bit error, is a copy, kind) of every match that the index finds at all, and how many copies of a kind there are."""
    generator = np.random.default_rng(seed)
    owners: list[tuple[int, str]] = []
    kinds: dict[str, int] = {}
    with Index(max_bit_error=0.5) as index:
        for number, path in enumerate(paths):
            samples = decode(path)
            index.add(fingerprint(samples))
            owners.append((number, "original"))
            for kind, copy in variants(samples, generator):
                index.add(fingerprint(copy.astype(np.float32)))
                owners.append((number, kind))
                kinds[kind] = kinds.get(kind, 0) + 1
        matches = list(index.matches())
        real = {
            (owners[match.first][0], owners[match.second][0])
            for match in matches
            if owners[match.first][1] == owners[match.second][1] == "original" and match.bit_error < REAL_COPY
        }
        found = []
        for match in matches:
            (a, kind_a), (b, kind_b) = owners[match.first], owners[match.second]
            if (a, b) in real or (b, a) in real:
                continue
            if a != b:
                found.append((match.bit_error, False, f"{kind_a}/{kind_b}"))
            elif kind_a == "original":
                found.append((match.bit_error, True, kind_b))
    return found, kinds


def main(_: Asked) -> list[Figure]:
    """Set on the first half, judge on the second."""
    fillets.prepare(print)
    clips = [*fillets.clips(), *read_clips(prompts.prepare("es", print))]
    paths = [clip.audio for clip in clips if 0.7 <= clip.duration < 20]
    chosen = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[: 2 * CLIPS]]
    first, kinds = half(chosen[:CLIPS], 1)
    second = half(chosen[CLIPS:], 2)[0]
    total = sum(kinds.values())
    limits = np.arange(0.05, 0.45, 0.005)
    scores = np.array([f_score(first, total, limit) for limit in limits])
    best = float(limits[scores == scores.max()].mean())  # the middle of the best stretch
    copies = sorted(error for error, same, _ in first if same)
    others = sorted(error for error, same, _ in first if not same)
    print(f"{CLIPS} clips and {total} copies in each half; at least {MIN_COMMON_FRAMES} frames in common")
    print(
        f"first half: copies up to {copies[int(0.99 * len(copies))]:.3f} (99 %), others from {others[0]:.3f}"
        if others
        else ""
    )
    print(f"threshold set there: {best:.3f} (shipped: {MAX_BIT_ERROR})")
    hits = [kind for error, same, kind in second if same and error <= best]
    wrong = [(round(error, 3), kind) for error, same, kind in second if not same and error <= best]
    precision, recall = len(hits) / max(len(hits) + len(wrong), 1), len(hits) / total
    print(f"second half: precision {precision:.4f}  recall {recall:.4f}")
    for kind, count in kinds.items():
        print(f"  {kind:<8} recall {hits.count(kind) / count:.4f}")
    print(f"  wrong pairs: {wrong[:8]}")
    return [
        Figure("threshold set on the first half", best, "bit error", "lower"),
        Figure("precision, second half", precision, "share"),
        Figure("recall, second half", recall, "share", goal=0.99),
        *(Figure(f"recall, {kind}", hits.count(kind) / count, "share") for kind, count in kinds.items()),
    ]


def f_score(found: list[tuple[float, bool, str]], total: int, limit: float) -> float:
    """F1 of calling every match up to `limit` a copy."""
    right = sum(same for error, same, _ in found if error <= limit)
    called = sum(error <= limit for error, _, _ in found)
    return 2 * right / (called + total)
