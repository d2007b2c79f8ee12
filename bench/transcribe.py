"""Transcription: ours against faster-whisper on the same packaged model, with WER beside speed.

faster-whisper at its best for short clips: no timestamps, no VAD, one temperature, nothing suppressed that ours does
not; int8 and float32. It pads every clip to 30 s. Ours: the same CTranslate2 files, the encoder on the speech.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.results import Asked, Figure, ratio
from govor.audio import decode
from govor.corpus.manifests import Manifest
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.families.base import Recogniser
from govor.families.opening import open_model
from govor.families.task import DecodeOptions
from govor.families.whisper.ct2 import CTranslate2Whisper
from govor.jsons import read_json
from govor.metrics.wer import score, total

CLIPS = 96


def main(asked: Asked) -> list[Figure]:
    """Greedy and beam 5, int8 and float32, and our torch engine for reference."""
    from ctranslate2.converters import TransformersConverter

    package = Path(asked.model or "models/whisper/quickstart")
    if not (package / "package.json").exists():
        raise GovorError(f"{package} is no package; run `make quickstart` first, or name one with --model.")
    manifest = Manifest(read_json(package / "run_manifest.json")["recipe"]["data"]["split"] + "/test.jsonl")
    clips = [manifest[i * len(manifest) // CLIPS] for i in range(min(CLIPS, len(manifest)))]
    audio = [decode(clip.audio) for clip in clips]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "ct2"
        TransformersConverter(str(package), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(
            str(folder)
        )
        for beam in (1, 5):
            for kind in ("int8", "float32"):
                peer, rate = _faster_whisper(folder, kind, audio, clips, beam)
                mine, my_rate = _ours(CTranslate2Whisper.load(folder, compute_type=kind), audio, clips, beam)
                print(
                    f"beam {beam}, {kind:<8} ours {mine:6.1f} s WER {my_rate:.4f}   "
                    f"faster-whisper {peer:6.1f} s WER {rate:.4f}   ratio {peer / mine:.1f}   (goal 3)"
                )
                setting = f"beam {beam}, {kind}"
                figures += _figures(f"ours, {setting}", mine, my_rate)
                figures += _figures(f"faster-whisper, {setting}", peer, rate)
                figures.append(ratio(f"faster-whisper over ours, {setting}", peer / mine, 3.0))
    spent, rate = _ours(open_model(str(package)).recogniser, audio, clips, 1)
    seconds = sum(map(len, audio)) / 16_000
    print(f"beam 1, our torch engine in fp32: {spent:.1f} s ({spent / seconds:.3f} x real time) WER {rate:.4f}")
    figures += _figures("ours, torch in fp32, beam 1", spent, rate)
    peer, peer_rate = _pipeline(package, audio, clips)
    figures += _figures("transformers pipeline in fp32, beam 1", peer, peer_rate)
    print(
        f"beam 1, transformers pipeline in fp32, batches of 8: {peer:.1f} s ({peer / seconds:.3f} x real time) "
        f"WER {peer_rate:.4f}   ratio {peer / spent:.1f}"
    )
    return [*figures, ratio("transformers pipeline over ours, torch in fp32, beam 1", peer / spent)]


def _figures(side: str, seconds: float, rate: float) -> list[Figure]:
    return [Figure(f"{side}, time", seconds, "s", "lower"), Figure(f"{side}, WER", rate, "share", "lower")]


def _timed(transcribe: Callable[[], list[str]], clips: list[Clip]) -> tuple[float, float]:
    start = time.perf_counter()
    texts = transcribe()
    spent = time.perf_counter() - start
    rate = total(item.words for item in score([clip.transcript for clip in clips], texts)).rate
    return spent, rate or 0.0


def _ours(model: Recogniser, audio: list[Any], clips: list[Clip], beam: int) -> tuple[float, float]:
    languages = [clip.language for clip in clips]
    model.transcribe(audio[:1], languages[:1], DecodeOptions(beam_size=beam))
    return _timed(
        lambda: [found.text for found in model.transcribe(audio, languages, DecodeOptions(beam_size=beam))], clips
    )


def _pipeline(package: Path, audio: list[Any], clips: list[Clip]) -> tuple[float, float]:
    """The stock pipeline, which pads every clip to 30 s."""
    from transformers import pipeline

    recognise = pipeline(
        "automatic-speech-recognition", model=str(package), device="cpu", dtype="float32", batch_size=8
    )
    language = clips[0].language

    def all_of(some: list[Any]) -> list[str]:
        found = recognise(
            [{"raw": samples, "sampling_rate": 16_000} for samples in some],
            generate_kwargs={"language": language, "task": "transcribe", "num_beams": 1},
        )
        return [one["text"] for one in found]

    all_of(audio[:1])
    return _timed(lambda: all_of(audio), clips)


def _faster_whisper(folder: Path, kind: str, audio: list[Any], clips: list[Clip], beam: int) -> tuple[float, float]:
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type=kind)

    def one(samples: Any, language: str) -> str:
        segments, _ = model.transcribe(
            samples,
            language=language,
            beam_size=beam,
            without_timestamps=True,
            temperature=0.0,
            suppress_tokens=[],
            condition_on_previous_text=False,
            vad_filter=False,
        )
        return " ".join(segment.text for segment in segments)

    one(audio[0], clips[0].language)
    return _timed(lambda: [one(samples, clip.language) for samples, clip in zip(audio, clips, strict=True)], clips)
