"""The corpus stages: hours of audio per CPU-hour beside bare decoding, lhotse and `datasets.map`, and memory by rows.

All on the same real files, on one core (`inline`), CPU time of the process, best of two passes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bench.decode import bare
from bench.results import Asked, Figure, ratio
from govor.corpus import fillets
from govor.corpus.inventory import Statement, inventory
from govor.corpus.preprocess import PreprocessSettings, preprocess, write_pcm16
from govor.corpus.records import Clip
from govor.corpus.vad import Vad
from govor.corpus.validate import Checks, Limits, validate
from govor.runs import Workspace

CLIPS = 400
ROWS = (10_000, 100_000, 1_000_000)
PEERS = ("lhotse: resample, save_audios", "datasets.map: soundfile, soxr, encode")


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds, the better of two passes."""
    spent = []
    for _ in range(2):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def drain(items: Iterable[object]) -> None:
    """Go through."""
    deque(items, maxlen=0)


def main(_: Asked) -> list[Figure]:
    """Speed, then memory."""
    fillets.prepare(print)
    clips = [clip for clip in fillets.clips() if 0.7 < clip.duration < 30][:CLIPS]
    with tempfile.TemporaryDirectory() as scratch:
        return [*speed(clips, Path(scratch)), *memory(Path(scratch))]


def speed(clips: list[Clip], scratch: Path) -> list[Figure]:
    """Each stage beside what does the same work without us."""
    hours = sum(clip.duration for clip in clips) / 3600
    folder = scratch / "ogg"
    for clip in clips:
        link = folder / f"{clip.id}.ogg"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(clip.audio)
        link.with_suffix(".txt").write_text(clip.transcript, encoding="utf-8")
    rows = [clip.to_row() for clip in clips]
    paths = [Path(clip.audio) for clip in clips]

    def encode(number: int, samples: Any) -> None:
        pcm = np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2")
        soundfile.write(scratch / f"{number}.wav", pcm, 16_000, subtype="PCM_16")

    def ours_validated(near: str) -> None:
        limits = Limits.model_validate({"near_duplicates": near})
        drain(
            validate(
                Workspace(),
                [dict(row) for row in rows],
                Checks(limits),
                lambda _: None,
                lambda _: None,
                engine_name="inline",
            )
        )

    measured = {
        "inventory (headers, sha256, transcripts)": cpu(
            lambda: drain(inventory(Workspace(), [folder], Statement("cs"), "inline"))
        ),
        "raw decode + resample": cpu(lambda: [bare(path) for path in paths]),
        "validate without near-duplicates": cpu(lambda: ours_validated("off")),
        "validate": cpu(lambda: ours_validated("drop")),
        "raw decode + resample + encode": cpu(lambda: [encode(n, bare(path)) for n, path in enumerate(paths)]),
        "preprocess": cpu(
            lambda: drain(
                preprocess(Workspace(), clips, scratch / "out", PreprocessSettings(), Vad("energy"), "inline")
            )
        ),
        "lhotse: resample, save_audios": cpu(lambda: lhotse_saves(clips, scratch / "lhotse")),
        "datasets.map: soundfile, soxr, encode": cpu(lambda: datasets_maps(paths, encode)),
    }
    return compared(measured, hours)


def compared(measured: dict[str, float], hours: float) -> list[Figure]:
    """Each stage's speed, and the ratios, from CPU seconds."""
    for name, seconds in measured.items():
        print(f"{name:<42}{hours * 3600 / seconds:8.0f} x real time of one core")
    against = measured["raw decode + resample + encode"] / measured["preprocess"]
    print(f"preprocess against raw decode + resample + encode: {against:.2f}   (goal 0.80)")
    for peer in PEERS:
        print(f"preprocess against {peer}: {measured[peer] / measured['preprocess']:.2f}")
    print(f"validate against raw decode + resample: {measured['raw decode + resample'] / measured['validate']:.2f}\n")
    raw = measured["raw decode + resample"]
    return [
        *(Figure(f"{name}, one core", hours * 3600 / seconds, "× real time") for name, seconds in measured.items()),
        ratio("preprocess against raw decode + resample + encode", against, 0.80),
        *(ratio(f"preprocess against {peer}", measured[peer] / measured["preprocess"]) for peer in PEERS),
        ratio(
            "validate without near-duplicates against raw decode + resample",
            raw / measured["validate without near-duplicates"],
        ),
        ratio("validate against raw decode + resample", raw / measured["validate"], 0.60),
    ]


def lhotse_saves(clips: list[Clip], folder: Path) -> None:
    """The same through lhotse's cuts."""
    from lhotse import CutSet, MonoCut, Recording

    cuts = []
    for clip in clips:
        recording = Recording.from_file(clip.audio, recording_id=clip.id.replace("/", "-"))
        cuts.append(MonoCut(recording.id, 0.0, recording.duration, 0, recording=recording))
    CutSet.from_cuts(cuts).resample(16_000).save_audios(folder, format="wav", progress_bar=False)


def datasets_maps(paths: list[Path], encode: Callable[[int, Any], None]) -> None:
    """The same as a function of `datasets.map`, whose own audio feature needs torchcodec."""
    import datasets

    datasets.disable_caching()
    datasets.disable_progress_bars()
    table = datasets.Dataset.from_dict({"path": [str(path) for path in paths]})

    def work(row: dict[str, str], number: int) -> dict[str, int]:
        samples = bare(Path(row["path"]))
        encode(number, samples)
        return {"samples": len(samples)}  # type: ignore[arg-type]

    table.map(work, with_indices=True)


def memory(scratch: Path) -> list[Figure]:
    """Peak memory of the commands by the number of rows; rows are parts of long recordings, each its own sound."""
    generator = np.random.default_rng(0)
    sound = scratch / "long.wav"
    write_pcm16(sound, generator.integers(-9_000, 9_000, 16_000 * 600).astype("<i2"))
    print("peak memory of one process (MiB) and seconds, by rows")
    measured = []
    for count in ROWS:
        manifest = scratch / f"{count}.jsonl"
        with manifest.open("w", encoding="utf-8") as handle:
            for number in range(count):
                # A name for each tape: parts of one recording that overlap cannot be split.
                tape = scratch / f"tape-{number // 50}.wav"
                if not tape.exists():
                    tape.symlink_to(sound)
                row = {
                    "id": f"tape-{number // 50}/{number}",
                    "audio": str(tape),
                    "transcript": f"broj {number}  , da !!",
                    "duration": 1.0,
                    "language": "sr",
                    "offset": (number % 9_580_000) / 16_000,
                    "speaker": f"s{number % 500}",
                    "source": f"tape-{number // 50}",
                    "license": "own",
                }
                handle.write(json.dumps(row) + "\n")
        figures = []
        for command in (
            ["validate", str(manifest), "--near-duplicates", "off", "--out", f"v{count}"],
            ["normalize", f"v{count}/kept.jsonl", "--out", f"n{count}.jsonl"],
            ["split", f"n{count}.jsonl", "--name", f"s{count}", "--allow-overlap", "speaker"],
            ["balance", f"n{count}.jsonl", "--out", f"b{count}.json"],
        ):
            start = time.perf_counter()
            peak = peak_mib(command, scratch)
            spent = time.perf_counter() - start
            figures.append(f"{command[0]} {peak:.0f} ({spent:.0f} s)")
            measured += [
                Figure(f"{command[0]}, {count:,} rows, peak memory", peak, "MiB", "lower"),
                Figure(f"{command[0]}, {count:,} rows, time", spent, "s", "lower"),
            ]
        print(f"{count:>9} rows: " + "   ".join(figures), flush=True)
    return measured


def peak_mib(command: list[str], scratch: Path) -> float:
    """Run a command and tell its largest process's resident memory."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)\n"
        "assert done.returncode in (0, 1), done.stderr.decode()[-2000:]\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)\n"
    )
    line = [sys.executable, "-c", code, sys.executable, "-m", "govor", *command]
    done = subprocess.run(
        line, cwd=scratch, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout)
