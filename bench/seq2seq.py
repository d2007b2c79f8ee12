"""Training against the stock `Seq2SeqTrainer` recipe: same model, clips, batch, steps and schedule, in one run.

Needs the split of `govor quickstart`. Each side trains in a process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.results import Asked, Figure, ratio

MODEL = "openai/whisper-tiny"
SPLIT = Path("manifests/splits/quickstart")
STEPS = 20
CLIPS_PER_STEP = 16
LR = 5e-5
LONGEST_SECONDS = 30.0


def main(_: Asked) -> list[Figure]:
    """Train both ways, score both: clips a second, peak memory and WER."""
    rows = {side: _child(side) for side in ("stock", "ours")}
    figures = []
    for side, row in rows.items():
        figures += [
            Figure(f"{side}, speed", row["clips_per_second"], "clips a second"),
            Figure(f"{side}, peak memory", row["peak_mb"], "MiB", "lower"),
        ]
        print(f"{side:<6} {row['clips_per_second']:6.2f} clips/s   peak {row['peak_mb']:7.0f} MiB", end="   ")
        for context, summary in row["scores"].items():
            low, high = summary["wer_interval"]
            figures += [
                Figure(f"{side}, {metric.upper()} {context}", summary[metric], "share", "lower")
                for metric in ("wer", "cer")
            ]
            print(f"{context} WER {summary['wer']:.3f} [{low:.3f}, {high:.3f}] CER {summary['cer']:.3f}", end="   ")
        print()
    faster = rows["ours"]["clips_per_second"] / rows["stock"]["clips_per_second"]
    print(f"ratio {faster:.1f} after {STEPS} steps of {CLIPS_PER_STEP} clips")
    return [*figures, ratio("clips a second, ours over stock", faster)]


def _child(side: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "bench.seq2seq", side], stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    model = row.pop("model")
    # Padded alone: on the speech the stock model loops, which takes long and is known.
    command = [
        "evaluate",
        model,
        "--manifest",
        str(SPLIT / "test.jsonl"),
        "--context",
        "padded",
        "--plain",  # the search itself is compared
        "--overwrite",
        "--json",
    ]
    scored = subprocess.run([sys.executable, "-m", "govor", *command], stdout=subprocess.PIPE, text=True, check=True)
    row["scores"] = {summary["context"]: summary for summary in json.loads(scored.stdout)}
    return row


def stock() -> tuple[str, float]:
    """The recipe most people copy, with its label bug mended: the start token once, the end token taught."""
    import torch
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, WhisperForConditionalGeneration

    from govor.corpus.manifests import Manifest
    from govor.corpus.samples import clip_samples
    from govor.examples.spec import ExampleSpec
    from govor.families.opening import find_model, trainable_folder
    from govor.families.whisper.features import log_mel
    from govor.families.whisper.labels import build_labels
    from govor.families.whisper.tokens import WhisperTokens

    base = trainable_folder(find_model(MODEL, print))
    model = WhisperForConditionalGeneration.from_pretrained(base)
    tokens = WhisperTokens.load(base)
    clips = Manifest(SPLIT / "train.jsonl")

    class Clips(torch.utils.data.Dataset[dict[str, Any]]):
        def __len__(self) -> int:
            return len(clips)

        def __getitem__(self, index: int) -> dict[str, Any]:
            clip = clips[index]
            labels = build_labels(ExampleSpec(clip, clip.language), tokens).tokens[1:]
            return {"input_features": log_mel(clip_samples(clip), 80), "labels": torch.tensor(labels)}

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        labels = torch.nn.utils.rnn.pad_sequence([row["labels"] for row in rows], True, -100)
        return {"input_features": torch.stack([row["input_features"] for row in rows]), "labels": labels}

    settings = Seq2SeqTrainingArguments(
        output_dir="bench-stock",
        max_steps=STEPS,
        per_device_train_batch_size=CLIPS_PER_STEP,
        learning_rate=LR,
        warmup_steps=STEPS // 10,
        weight_decay=0.01,
        adam_beta2=0.98,
        bf16=True,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        dataloader_num_workers=1,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Seq2SeqTrainer(model, settings, train_dataset=Clips(), data_collator=collate)
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    shutil.rmtree("bench-stock", ignore_errors=True)
    target = Path("models/whisper/bench-stock")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(base, target, ignore=shutil.ignore_patterns("*.safetensors"))
    model.save_pretrained(target)
    return str(target), seconds


def ours() -> tuple[str, float]:
    """`govor train`."""
    from govor.api import train

    settings = {
        "name": "bench-ours",
        "base_model": MODEL,
        "data.split": SPLIT,
        "finetune.max_steps": STEPS,
        "finetune.epochs": 99,
        "finetune.lr": LR,
        "finetune.precision": "bf16",
        "evaluation.evaluations": 1,
        "evaluation.metric": "loss",
        "evaluation.decode_clips": 0,
        "evaluation.loss_clips": 1,
    }
    changes = [f"{name}={value}" for name, value in settings.items()]
    finished = train("whisper", settings=changes, existing="overwrite", device="cpu")
    return str(finished.run.folder), finished.metrics["training_seconds"]


if __name__ == "__main__":
    model, seconds = {"stock": stock, "ours": ours}[sys.argv[1]]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"model": model, "clips_per_second": STEPS * CLIPS_PER_STEP / seconds, "peak_mb": peak}))
