"""Exported equals trained, on fixed clips, or the export fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import GovorError
from govor.examples.dataset import load_batch
from govor.examples.spec import ExampleSpec

# Largest relative error of the encoder states. Measured for float32: 1e-6; float16 and int8 lose what they lose.
_TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "int8": 1e-1}


def verify_reload(folder: Path, family: Any, clips: list[Clip]) -> dict[str, Any]:
    """The family's own loader, reading `folder`, gives the trained model's logits.

    Raises:
        GovorError: they differ by more than rounding.
    """
    again = type(family).load(folder)
    worst = 0.0
    for clip in clips:
        batch = load_batch([ExampleSpec(clip, clip.language)], family.renderer)
        with torch.inference_mode():
            worst = max(worst, float((again.logits(batch) - family.logits(batch)).abs().max()))
    return _within_rounding(worst, clips)


def verify_hf(folder: Path, family: Any, clips: list[Clip]) -> dict[str, Any]:
    """The stock `transformers` classes, loading `folder`, give the trained model's logits (Whisper's on padded clips).

    Raises:
        GovorError: they differ by more than rounding.
    """
    if family.name != "whisper":
        return verify_reload(folder, family, clips)  # its loader is the stock class itself
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    stock = WhisperForConditionalGeneration.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
    worst = 0.0
    for clip in clips:
        samples = clip_samples(clip)
        mel = processor.feature_extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features
        spec = ExampleSpec(clip, clip.language, full_length=True)
        batch = family.renderer.collate([family.renderer.encode(spec, samples)])
        with torch.inference_mode():
            theirs = stock(input_features=mel, decoder_input_ids=batch["inputs"]).logits
            ours = family.logits(batch)
        worst = max(worst, float((theirs - ours).abs().max()))
    return _within_rounding(worst, clips)


def _within_rounding(worst: float, clips: list[Clip]) -> dict[str, Any]:
    if not worst <= 1e-2:
        raise GovorError(
            f"The exported model gives other logits than the trained one (difference {worst:.2g}); nothing was packaged."
        )
    return {"clips": len(clips), "max_logit_difference": worst}


def verify_ct2(folder: Path, family: Any, clips: list[Clip], quantization: str) -> dict[str, Any]:
    """CTranslate2's encoder states lie within the format's tolerance of the trained model's; texts are compared.

    Raises:
        GovorError: they lie outside.
    """
    import ctranslate2

    from govor.families.whisper.ct2 import CTranslate2Whisper
    from govor.families.whisper.features import log_mel
    from govor.families.whisper.forward import encode

    exported = CTranslate2Whisper.load(folder, compute_type="float32" if quantization != "int8" else "int8")
    worst, same = 0.0, 0
    for clip in clips:
        samples = clip_samples(clip)
        mel = log_mel(samples, family.renderer.n_mels)
        states = np.array(exported.encode(ctranslate2.StorageView.from_array(mel[None].numpy())))
        with torch.inference_mode():
            trained = encode(family.module, [mel]).padded.numpy()
        worst = max(worst, float(np.linalg.norm(states - trained) / np.linalg.norm(trained)))
        texts = [model.transcribe([samples], [clip.language])[0].text for model in (exported, family)]
        same += texts[0] == texts[1]
    if not worst <= _TOLERANCE[quantization]:
        raise GovorError(
            f"The CTranslate2 export differs from the trained model by {worst:.2g} (allowed for {quantization}: "
            f"{_TOLERANCE[quantization]:g}); it was not kept."
        )
    return {
        "clips": len(clips),
        "quantization": quantization,
        "encoder_relative_error": worst,
        "same_text": same,
    }
