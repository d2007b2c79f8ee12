"""Which audio context to train before: the speech, cached silence, both, padding. Real speech, three seeds (hours on two cores).

Whisper tiny learns the Czech game dialogue of `govor quickstart` (its split must be there); what is finished is kept, so
the measurement goes on where it was stopped. Every run has the same number of steps and is scored in all three contexts.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, median

from bench.evidence import SPLIT, compare, govor, run
from bench.results import Asked, Figure, ratio
from govor.runs import Run, Workspace

SEEDS = (0, 1, 2)
CONTEXTS = ("padded", "cached", "speech")
RUNS: dict[str, list[str]] = {
    "speech": [],
    "half": ["examples.context=cached", "examples.contexts={speech: 0.5, cached: 0.5}"],
    "cached": ["examples.context=cached"],
    "padded": ["examples.context=padded"],
}


def main(_: Asked) -> list[Figure]:
    """Train and score every context with every seed, then compare each with stock training, as it is served padded."""
    for seed in SEEDS:
        for name, settings in RUNS.items():
            run(f"{name}-{seed}", [*settings, "evaluation.evaluations=1", f"finetune.seed={seed}"])
            score(f"{name}-{seed}")
    figures, padded, steps = [], {}, {}
    for name in RUNS:
        rates = {context: [_rate(f"{name}-{seed}", context) for seed in SEEDS] for context in CONTEXTS}
        shown = "  ".join(f"{c} {mean(r):.4f} ({', '.join(f'{one:.3f}' for one in r)})" for c, r in rates.items())
        steps[name] = median(_step_seconds(f"{name}-{s}") for s in SEEDS)
        padded[name] = mean(rates["padded"])
        figures.append(Figure(f"{name}, step", steps[name], "s", "lower"))
        figures += [Figure(f"{name}, WER {context}", mean(rates[context]), "share", "lower") for context in CONTEXTS]
        print(f"{name:<8} {steps[name]:5.2f} s a step   WER {shown}", flush=True)
    for seed in SEEDS:
        for name in RUNS:
            if name != "padded":
                figures += compare(f"padded-{seed}", f"{name}-{seed}", f"{SPLIT.name}-test", "padded")
    for name in [name for name in RUNS if name not in ("speech", "padded")]:
        figures += [
            ratio(
                f"padded WER, mean of the seeds, {name} over stock training",
                padded[name] / padded["padded"],
                1.02,
                "lower",
            ),
            ratio(f"step, {name} over the speech", steps[name] / steps["speech"], 1.4, "lower"),
        ]
    return figures


def score(name: str) -> None:
    """Score in all contexts; scorings that are there are reused."""
    if not all(_scoring(name, context).exists() for context in CONTEXTS):
        govor(
            *("evaluate", f"models/whisper/{name}", "--manifest", str(SPLIT / "test.jsonl")),
            *("--context", "all", "--overwrite"),
        )


def _scoring(name: str, context: str) -> Path:
    return Path(f"manifests/evals/{name}__{SPLIT.name}-test__{context}.json")


def _rate(name: str, context: str) -> float:
    return float(json.loads(_scoring(name, context).read_text())["wer"])


def _step_seconds(name: str) -> float:
    run = Run(Path(f"models/whisper/{name}"), Workspace())
    return median(row["seconds"] for row in run.metrics("train"))
