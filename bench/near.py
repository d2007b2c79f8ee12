"""Near-duplicates: the threshold is set on one half of real speech and judged on the other.

Positives: each clip encoded again (mp3, opus, 8 kHz), trimmed at both ends, made louder or quieter, one of each and all
at once. Negatives: every other pair, the same speaker saying similar words among them: Czech dialogue in which two voices
say most lines, and Spanish telephone prompts of one voice (numbers, "por favor marque 1 …"). Both corpora hold a few real
copies (the same prompt under two names); pairs whose originals differ in under a tenth of the bits are left out. Everything
goes through the index that validation uses.

Then a million made-up fingerprints, whose words meet by chance 37 times as often as even draws of 32 bits would: so often
they do between recordings of the Czech dialogue that are no copies. One in a hundred has a copy with 6 % of its bits turned.
"""

from __future__ import annotations

import io
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import soundfile
import soxr

from bench.results import Asked, Figure
from govor.audio import SAMPLE_RATE, Samples, decode
from govor.corpus import fillets, prompts
from govor.corpus.fingerprint import MAX_BIT_ERROR, MIN_COMMON_FRAMES, Fingerprint, Index, fingerprint
from govor.corpus.manifests import read_clips

CLIPS = 600
REAL_COPY = 0.1
MADE_UP = 1_000_000
MEET_BY_CHANCE = 37


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


def half(paths: list[str], seed: int) -> tuple[list[tuple[float, bool, str]], dict[str, int], int]:
    """(bit error, is a copy, kind) of every match that the index finds at all, how many copies of a kind there are, and how
    many the index finds as it is shipped."""
    generator = np.random.default_rng(seed)
    owners: list[tuple[int, str]] = []
    kinds: dict[str, int] = {}
    with Index(max_bit_error=0.5) as index, Index() as shipped:
        for number, path in enumerate(paths):
            samples = decode(path)
            for kind, copy in (("original", samples), *variants(samples, generator)):
                print_ = fingerprint(copy.astype(np.float32))
                index.add(print_)
                shipped.add(print_)
                owners.append((number, kind))
                kinds[kind] = kinds.get(kind, 0) + 1
        del kinds["original"]
        pairs = [(owners[match.first], owners[match.second]) for match in shipped.matches()]
        as_shipped = sum(a == b and kind == "original" for (a, kind), (b, _) in pairs)
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
    return found, kinds, as_shipped


def made_up(count: int) -> dict[str, float]:
    """Seconds of CPU time and peak memory (MiB) of an index of so many fingerprints, and the share of copies found."""
    generator = np.random.default_rng(0)
    space = 2**32 // MEET_BY_CHANCE
    planted, copies, spent = {}, [], 0.0
    with Index() as index:

        def add(words: np.ndarray) -> int:
            nonlocal spent
            begin = time.process_time()
            number = index.add(Fingerprint(words, np.ones(len(words), bool)))
            spent += time.process_time() - begin
            return number

        for number in range(count):
            frames = int(np.clip(generator.lognormal(5.2, 0.5), 40, 1_800))
            words = (generator.integers(0, space, frames, dtype=np.uint64) * 2_654_435_761 & 0xFFFFFFFF).astype(
                np.uint32
            )
            add(words)
            if number % 100 == 0:
                turned = (generator.random((frames, 32)) < 0.06) @ (1 << np.arange(32))
                copies.append((number, (words ^ turned.astype(np.uint32))[frames // 10 :]))
        for number, words in copies:
            planted[number, add(words)] = True
        begin = time.process_time()
        found = sum((match.first, match.second) in planted for match in index.matches())
    return {
        "store": spent,
        "find": time.process_time() - begin,
        "recall": found / len(planted),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main(asked: Asked) -> list[Figure]:
    """Set on the first half, judge on the second; then very many."""
    count = asked.clips or MADE_UP
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # its memory is its own
        many = pool.submit(made_up, count).result()
    print(
        f"{count:,} made-up fingerprints: {many['store']:.0f} s to store, {many['find']:.0f} s to find {many['recall']:.2%} of "
        f"the copies, {many['memory']:.0f} MiB"
    )
    return [
        *real(),
        Figure(f"{count:,} fingerprints: store", many["store"], "CPU s", "lower"),
        Figure(f"{count:,} fingerprints: find", many["find"], "CPU s", "lower"),
        Figure(f"{count:,} fingerprints: recall", many["recall"], "share", goal=0.99),
        Figure(f"{count:,} fingerprints: peak memory", many["memory"], "MiB", "lower", 4096),
    ]


def real() -> list[Figure]:
    """Of real speech."""
    fillets.prepare(print)
    clips = [*fillets.clips(), *read_clips(prompts.prepare("es", print))]
    paths = [clip.audio for clip in clips if 0.7 <= clip.duration < 20]
    chosen = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[: 2 * CLIPS]]
    first, kinds, _ = half(chosen[:CLIPS], 1)
    second, _, as_shipped = half(chosen[CLIPS:], 2)
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
    print(f"second half, as shipped: recall {as_shipped / total:.4f}")
    return [
        Figure("threshold set on the first half", best, "bit error", "lower"),
        Figure("precision, second half", precision, "share"),
        Figure("recall, second half", recall, "share", goal=0.99),
        Figure("recall, second half, as shipped", as_shipped / total, "share", goal=0.99),
        *(Figure(f"recall, {kind}", hits.count(kind) / count, "share") for kind, count in kinds.items()),
    ]


def f_score(found: list[tuple[float, bool, str]], total: int, limit: float) -> float:
    """F1 of calling every match up to `limit` a copy."""
    right = sum(same for error, same, _ in found if error <= limit)
    called = sum(error <= limit for error, _, _ in found)
    return 2 * right / (called + total)
