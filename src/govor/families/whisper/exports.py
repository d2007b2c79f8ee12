"""What a Whisper is packaged in: the `transformers` layout, and CTranslate2's, which faster-whisper reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from govor.audio import SAMPLE_RATE
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import GovorError
from govor.examples.spec import ExampleSpec
from govor.families.base import ExportOptions
from govor.families.exporting import within_rounding
from govor.families.whisper.features import log_mel
from govor.families.whisper.forward import encode
from govor.families.whisper.tokens import token_code
from govor.runs import Json

if TYPE_CHECKING:
    from govor.families.whisper.model import Whisper

# Largest relative error of the encoder states. Measured for float32: 1e-6; float16 and int8 lose what they lose.
_TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "int8": 1e-1}


class Transformers:
    """The layout that `transformers` loads."""

    folder = "."

    def check_installed(self) -> None:
        """Nothing more is needed."""

    def write(self, family: Whisper, target: Path, options: ExportOptions) -> None:
        """See `Exporter.write`."""
        family.assume_language(options.language)
        family.save(target)

    def verify(self, family: Whisper, target: Path, clips: Sequence[Clip], _options: ExportOptions) -> Json:
        """The stock classes, loading `target`, give the trained model's logits on padded clips."""
        stock = WhisperForConditionalGeneration.from_pretrained(target, local_files_only=True, use_safetensors=True)
        stock.eval()
        processor = WhisperProcessor.from_pretrained(target, local_files_only=True)
        worst = 0.0
        for clip in clips:
            samples = clip_samples(clip)
            mel = processor.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
            spec = ExampleSpec(clip, clip.language, full_length=True)
            batch = family.renderer.collate([family.renderer.encode(spec, samples)])
            with torch.inference_mode():
                theirs = stock(input_features=mel, decoder_input_ids=batch["inputs"]).logits
                ours = family.logits(batch)
            worst = max(worst, float((theirs - ours).abs().max()))
        return within_rounding(worst, clips)

    def usage(self, folder: str, options: ExportOptions) -> list[str]:
        """A model of one language need not be told which."""
        language = None if options.language else token_code(options.languages[0])
        arguments = f', generate_kwargs={{"language": "{language}"}}' if language else ""
        return [
            "```python",
            "from transformers import pipeline",
            f'asr = pipeline("automatic-speech-recognition", "{folder}")',
            f'print(asr("clip.wav"{arguments})["text"])',
            "```",
        ]


class CTranslate2:
    """The layout of CTranslate2, made of the package's root."""

    folder = "ct2"

    def check_installed(self) -> None:
        """See `Exporter.check_installed`."""
        try:
            import ctranslate2  # noqa: F401
        except ImportError:
            raise GovorError("The ct2 format needs CTranslate2; install it with: pip install ctranslate2") from None

    def write(self, _family: Whisper, target: Path, options: ExportOptions) -> None:
        """See `Exporter.write`."""
        from ctranslate2.converters import TransformersConverter

        copies = ["tokenizer.json", "preprocessor_config.json"]
        converter = TransformersConverter(str(target.parent), copy_files=copies)
        try:
            converter.convert(str(target), quantization=options.quantization)
        except (RuntimeError, ValueError) as error:
            raise GovorError(
                f"CTranslate2 could not convert the model: {error}; nothing was packaged. Take --format hf, or another version of it."
            ) from None

    def verify(self, family: Whisper, target: Path, clips: Sequence[Clip], options: ExportOptions) -> Json:
        """The engine's encoder states lie within the format's tolerance of the trained model's; texts are compared."""
        import ctranslate2

        from govor.families.whisper.ct2 import CTranslate2Whisper

        quantization = options.quantization
        exported = CTranslate2Whisper.load(target, compute_type="float32" if quantization != "int8" else "int8")
        worst, same = 0.0, 0
        for clip in clips:
            samples = clip_samples(clip)
            mel = log_mel(samples, family.renderer.n_mels)
            states = np.array(exported.encode(ctranslate2.StorageView.from_array(mel[None].numpy())))
            with torch.inference_mode():
                trained = encode(family.module, [mel]).padded.numpy()
            worst = max(worst, float(np.linalg.norm(states - trained) / np.linalg.norm(trained)))
            theirs, ours = (model.transcribe([samples], [clip.language])[0].text for model in (exported, family))
            same += theirs == ours
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

    def usage(self, folder: str, options: ExportOptions) -> list[str]:
        """With faster-whisper, which asks for a language."""
        language = token_code(options.languages[0])
        return [
            "```python",
            "from faster_whisper import WhisperModel",
            f'segments, _ = WhisperModel("{folder}/ct2").transcribe("clip.wav", language="{language}")',
            'print(" ".join(segment.text.strip() for segment in segments))',
            "```",
        ]
