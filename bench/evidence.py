"""What each training method brings on real speech: runs, scores and paired tests (an afternoon on two cores).

Whisper tiny learns the Czech game dialogue of `govor quickstart` (its split must be there). Multi-line slices are real
lines of one level joined in the order of the dialogue, so that their times and the text before them are known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from bench.results import Asked, Figure, ratio
from govor.audio import SAMPLE_RATE
from govor.corpus import fillets
from govor.corpus.manifests import Manifest, write_clips
from govor.corpus.records import Clip, Segment
from govor.corpus.samples import clip_samples
from govor.corpus.transcripts import snap

SPLIT = Path("manifests/splits/quickstart")
JOINED = Path("manifests/splits/joined")
SEEDS = (0, 1, 2)
LONGEST_SECONDS = 28.0
LINES = 16  # clips a step; a joined slice holds about eight lines
BASE = ["base_model=openai/whisper-tiny", "evaluation.metric=loss", "evaluation.decode_clips=0"]
ON_JOINED = [f"data.split={JOINED}", "finetune.clips_per_step=4"]
TIMES = ["examples.timestamps_share=0.4", "examples.previous_share=0.5"]
RUNS: dict[str, list[str]] = {
    "plain": [],
    "stripes": ["examples.spec_augment.share=1.0"],
    "lora": ["finetune.method=lora", "finetune.lr=1e-3"],
    "joined": ON_JOINED,
    "times": [*ON_JOINED, *TIMES],
}


def main(_: Asked) -> list[Figure]:
    """Train and score every method with every seed, then compare each with its baseline."""
    if not JOINED.exists():
        join_lines()
    for seed in SEEDS:
        for name, settings in RUNS.items():
            run(f"{name}-{seed}", [*settings, f"finetune.seed={seed}"])
            for part in ("test", "joined-test"):
                score(f"{name}-{seed}", part)
    figures = []
    for name, against in (("stripes", "plain"), ("lora", "plain"), ("joined", "plain"), ("times", "joined")):
        for seed in SEEDS:
            for dataset in ("quickstart-test", "joined-test"):
                for context in ("padded", "speech"):
                    figures += compare(f"{against}-{seed}", f"{name}-{seed}", dataset, context)
    return figures


def join_lines() -> None:
    """Slices of consecutive lines of a level, of the training and of the test part, with their times."""
    order = {clip.id: number for number, clip in enumerate(fillets.clips())}
    audio = Path("data/joined")
    audio.mkdir(parents=True, exist_ok=True)
    for part in ("train", "validation", "test"):
        lines = sorted(Manifest(SPLIT / f"{part}.jsonl"), key=lambda clip: order[clip.id])
        write_clips(JOINED / f"{part}.jsonl", _slices(lines, audio))


def _slices(lines: list[Clip], folder: Path) -> list[Clip]:
    made: list[Clip] = []
    waiting: list[Clip] = []
    for line in [*lines, None]:
        full = waiting and (
            line is None
            or line.source != waiting[0].source
            or sum(c.duration + 0.4 for c in [*waiting, line]) > LONGEST_SECONDS
        )
        if full:
            before = made[-1] if made and made[-1].source == waiting[0].source else None
            made.append(_joined(waiting, before, folder))
            waiting = []
        if line is not None:
            waiting.append(line)
    return made


def _joined(lines: list[Clip], before: Clip | None, folder: Path) -> Clip:
    generator = np.random.default_rng(len(lines[0].id))
    parts, segments, at = [], [], 0
    for line in lines:
        samples = clip_samples(line)
        start, end = at / SAMPLE_RATE, (at + len(samples)) / SAMPLE_RATE
        segments.append(Segment(snap(start), snap(end), line.transcript))
        pause = int(generator.uniform(0.1, 0.4) * SAMPLE_RATE)
        parts += [samples, np.zeros(pause, dtype=np.float32)]
        at += len(samples) + pause
    name = lines[0].id.replace("/", "_")
    path = folder / f"{name}.flac"
    soundfile.write(path, np.concatenate(parts), SAMPLE_RATE)
    first = lines[0]
    return Clip(
        name,
        str(path),
        " ".join(line.transcript for line in lines),
        round(at / SAMPLE_RATE, 6),
        first.language,
        source=first.source,
        license=first.license,
        segments=tuple(segments),
        prev_transcript=before.transcript if before else None,
        prev_segments=before.segments if before else (),
    )


def run(name: str, settings: list[str]) -> None:
    """Train once; a finished run is reused."""
    if not Path(f"models/whisper/{name}/run_manifest.json").exists():
        sets = [part for setting in [f"name={name}", *BASE, *settings] for part in ("--set", setting)]
        govor("train", "quickstart", "--overwrite", *sets)


def score(name: str, dataset: str) -> None:
    """Score on the single lines or on the joined ones; a scoring that is there is reused."""
    manifest = SPLIT / "test.jsonl" if dataset == "test" else JOINED / "test.jsonl"
    if not Path(f"manifests/evals/{name}__{manifest.parent.name}-test__speech.json").exists():
        govor("evaluate", f"models/whisper/{name}", "--manifest", str(manifest), "--overwrite")


def compare(a: str, b: str, dataset: str, context: str) -> list[Figure]:
    """Print a paired comparison on one line; WER and CER of the second over those of the first, and how sure that is."""
    files = [f"manifests/evals/{name}__{dataset}__{context}.json" for name in (a, b)]
    result = json.loads(govor("compare", *files, "--json", "--overwrite"))
    wer, cer = result["wer"], result["cer"]
    print(
        f"{b:<12} against {a:<10} {dataset:<16} {context:<7} WER {wer['a']:.3f} → {wer['b']:.3f} (p {wer['p_value']:.3f})  "
        f"CER {cer['a']:.3f} → {cer['b']:.3f} (p {cer['p_value']:.3f})",
        flush=True,
    )
    case = f"{b} over {a}, {dataset} {context}"
    return [
        figure
        for metric in ("wer", "cer")
        for figure in (
            ratio(f"{metric.upper()}, {case}", result[metric]["b"] / result[metric]["a"], better="lower"),
            Figure(f"p of {metric.upper()}, {case}", result[metric]["p_value"], "probability", "lower"),
        )
    ]


def govor(*arguments: str) -> str:
    """What a command prints."""
    done = subprocess.run([sys.executable, "-m", "govor", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout
