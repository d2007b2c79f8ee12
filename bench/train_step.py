"""The training step: ours on the speech against the stock way, the same model, clips and effective batch.

The peer is `WhisperForConditionalGeneration` as people train it: features padded to 30 s, its own loss, AdamW; tried in
fp32 and bf16 autocast, with micro-batches of 4 and 16, and its best is taken. Ours runs at its defaults.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from bench.results import Asked, Figure, ratio
from govor.corpus import fillets
from govor.corpus.manifests import Manifest
from govor.examples.batching import Plan
from govor.examples.dataset import Choices, TrainingSource, load_batch
from govor.examples.features import FullLength
from govor.families.opening import find_model, trainable_folder
from govor.families.whisper.model import Whisper
from govor.finetune.groups import assign
from govor.finetune.optim import build_optimizer

CLIPS_PER_STEP = 16
STEPS = (1, 2, 3)  # step 0 warms up


class Short(TrainingSource):
    """Rows of up to 30 s."""

    def __len__(self) -> int:
        return super().__len__() - 400

    def spec(self, row: int, draw: int) -> Any:
        """Long recordings give way to the row after."""
        clips = self.sources[0]
        while clips[row].duration > 29 or clips[row].duration < 0.5:
            row += 1
        return super().spec(row, draw)


def timed(whisper: Whisper, batches: dict[int, list[Any]], loss: Callable[[Any], torch.Tensor], bf16: bool) -> float:
    """Mean seconds of a step after one that warms up."""
    optimizer = build_optimizer(whisper.module, assign(whisper.parts(), {"all": 1e-6}), 0.01, 0.98)
    whisper.module.train()
    spent = []
    for step in (0, *STEPS):
        start = time.perf_counter()
        for batch in batches[step]:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                value = loss(batch)
            value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(whisper.module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        spent.append(time.perf_counter() - start)
    return sum(spent[1:]) / len(STEPS)


def main(_: Asked) -> list[Figure]:
    """Each setting's seconds and the ratio of the best of each side."""
    manifest = Manifest(fillets.prepare(print))
    whisper = Whisper.load(trainable_folder(find_model("openai/whisper-base", print)))

    def batches(share: float, budget: float) -> dict[int, list[Any]]:
        choices = Choices(features=(FullLength(),), probabilities=((0, {"full_length": share}),))
        source = Short([manifest], whisper.renderer, 0, choices)
        plan = Plan(source, 0, CLIPS_PER_STEP, budget)
        return {step: [load_batch(b.specs, whisper.renderer) for b in plan.step(step)] for step in (0, *STEPS)}

    module: Any = whisper.module
    stock = lambda b: module(input_features=torch.stack(b["mels"]), labels=b["targets"]).loss  # noqa: E731
    peers = {}
    for size in (4, 16):
        padded = batches(1.0, 30.0 * size)
        for bf16 in (False, True):
            peers[f"padded, micro-batch {size}, {'bf16' if bf16 else 'fp32'}"] = timed(whisper, padded, stock, bf16)
    speech = batches(0.0, 120.0)
    ours = {
        ("bf16" if bf16 else "fp32"): timed(whisper, speech, lambda b: whisper.loss(b)[0], bf16)
        for bf16 in (False, True)
    }
    figures = []
    for name, value in [*peers.items(), *((f"ours on the speech, {key}", value) for key, value in ours.items())]:
        print(f"{name:<36} {value:7.2f} s per step of {CLIPS_PER_STEP} clips")
        figures.append(Figure(name, value, "s a step", "lower"))
    for kind in ("fp32", "bf16"):
        best = min(value for name, value in peers.items() if name.endswith(kind))
        print(f"ratio in {kind}: {best / ours[kind]:.1f}")
        figures.append(ratio(f"stock over ours, {kind}", best / ours[kind]))
    best_of_each = min(peers.values()) / min(ours.values())
    print(f"ratio of the best of each: {best_of_each:.1f}   (goal 8)")
    return [*figures, ratio("stock over ours, the best of each", best_of_each, 8.0)]
