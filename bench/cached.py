"""An untouched Whisper on clips under 5 s: stock `transformers`, faster-whisper and ours, in one run.

Peers pad every clip to 30 s. Ours is asked in all its audio contexts, and through CTranslate2. Everything is greedy, without
timestamps and without the temperature fallback, but for faster-whisper once more at its defaults (beam 5 and fallback). All
are told the language, and leave out the tokens that the model's own configuration suppresses.

Every side has one thread, and its CPU seconds are counted: other processes change them little. `encoder` is the encoder
alone, over the same batches; `whole` is from samples to texts. An answer is stuck when it ends at the side's limit of
tokens, or compresses better than 2.4 to 1, which is where engines take it for a loop.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.results import Asked, Figure, ratio
from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.manifests import Manifest
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import GovorError
from govor.families.opening import open_model
from govor.families.task import ContextMode, DecodeOptions
from govor.families.whisper.batches import PROMPT_TOKENS, batches_by_length
from govor.families.whisper.ct2 import CTranslate2Whisper
from govor.families.whisper.features import FULL_FRAMES, LEVELS, bucket_frames, log_mel
from govor.families.whisper.forward import encode
from govor.families.whisper.model import Whisper
from govor.families.whisper.silences import Silences
from govor.families.whisper.tokens import token_code
from govor.metrics.loops import COMPRESSION, compression_ratio
from govor.metrics.wer import score, total

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

MODEL = "openai/whisper-base"
CLIPS = 96
SHORTER_THAN_SECONDS = 5.0
STOCK_BATCH = 8
GOAL = 4.0
PRECISIONS = ("int8", "float32")


@dataclass(frozen=True, slots=True)
class Audio:
    """The clips of the measurement."""

    clips: list[Clip]
    samples: list[Samples]
    languages: list[str]

    def some(self, rows: Sequence[int]) -> tuple[list[Samples], list[str]]:
        """Samples and languages of some clips."""
        return [self.samples[row] for row in rows], [self.languages[row] for row in rows]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a side wrote for a clip, and whether it was cut by the side's limit."""

    text: str
    cut: bool

    @property
    def stuck(self) -> bool:
        """Whether it was cut, or says the same over and over."""
        return self.cut or compression_ratio(self.text) > COMPRESSION


@dataclass(frozen=True, slots=True)
class Side:
    """One way to transcribe. `transcribe` takes samples and languages; `encode` runs the encoder over all clips."""

    name: str
    transcribe: Callable[[list[Samples], list[str]], list[Answer]]
    encode: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Measured:
    """A side's answers, and its CPU seconds."""

    answers: list[Answer]
    encoder: float
    whole: float

    @property
    def stuck(self) -> list[bool]:
        """Which clips it got stuck in."""
        return [answer.stuck for answer in self.answers]

    def wer(self, clips: Sequence[Clip], rows: Sequence[int] | None = None) -> float:
        """Of some of the clips, or of all; of none it is no number."""
        chosen = range(len(clips)) if rows is None else rows
        said = [clips[row].transcript for row in chosen]
        scores = score(said, [self.answers[row].text for row in chosen], [clips[row].language for row in chosen])
        rate = total(item.words for item in scores).rate
        return math.nan if rate is None else rate


def main(asked: Asked) -> list[Figure]:
    """Errors, clips stuck, encoder and whole seconds of every side."""
    audio = _audio(asked)
    seconds = sum(map(len, audio.samples)) / SAMPLE_RATE
    print(
        f"{len(audio.clips)} clips under {SHORTER_THAN_SECONDS:g} s, {seconds:.0f} s in all; CPU seconds of one thread"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        opened = open_model(asked.model or MODEL, notify=print)
        if not isinstance(opened.model, Whisper):
            raise GovorError(f"{opened.name} is no Whisper; name one with --model.")
        making = _making_silence(opened.model)
        with tempfile.TemporaryDirectory() as scratch:
            measured = {
                side.name: _measure(side, audio)
                for side in _sides(opened.model, opened.folder, Path(scratch) / "ct2", audio)
            }
    finally:
        torch.set_num_threads(threads)
    print(f"the silence of a model is made once: {making:.1f} s for {len(LEVELS)} levels, in none of the figures below")
    return [Figure("making the silence, once", making, "CPU s", "lower"), *_told(measured, audio.clips)]


def _audio(asked: Asked) -> Audio:
    wanted = CLIPS if asked.clips is None else asked.clips
    if wanted < 1:
        raise GovorError(f"--clips {wanted}: at least one clip is needed.")
    named = asked.split or "quickstart"
    folder = Path(named) if Path(named).is_dir() else Path("manifests/splits") / named
    if not (folder / "test.jsonl").exists():
        raise GovorError(f"{folder} is no split; run `make quickstart` first, or name one with --split.")
    short = [
        clip for clip in Manifest(folder / "test.jsonl") if clip.duration < SHORTER_THAN_SECONDS and clip.transcript
    ]
    count = min(wanted, len(short))
    if not count:
        raise GovorError(f"{folder}/test.jsonl has no clip under {SHORTER_THAN_SECONDS:g} s; name another --split.")
    clips = [short[place * len(short) // count] for place in range(count)]
    return Audio(clips, [clip_samples(clip) for clip in clips], [token_code(clip.language or "") for clip in clips])


def _making_silence(whisper: Whisper) -> float:
    start = time.process_time()
    Silences(whisper.model).of(LEVELS)
    spent = time.process_time() - start
    whisper.silences.of(LEVELS)
    return spent


def _measure(side: Side, audio: Audio) -> Measured:
    side.transcribe(*audio.some([0]))
    start = time.process_time()
    side.encode()
    encoder = time.process_time() - start
    start = time.process_time()
    answers = side.transcribe(audio.samples, audio.languages)
    return Measured(answers, encoder, time.process_time() - start)


def _sides(whisper: Whisper, folder: Path, converted: Path, audio: Audio) -> Iterator[Side]:
    """Each is made when its turn comes, so that few models are in memory at once."""
    from ctranslate2.converters import TransformersConverter

    bands = whisper.renderer.n_mels
    yield _stock(folder, audio)
    for context in whisper.contexts:
        yield Side(f"ours, {context}, float32", _ours(whisper, context), _encoder(whisper, context, audio, bands))
    TransformersConverter(str(folder), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(
        str(converted)
    )
    for precision in PRECISIONS:
        engine = CTranslate2Whisper.load(converted, compute_type=precision, threads=1)
        for context in engine.contexts:
            if context != "speech":  # known to loop, and told above
                yield Side(
                    f"ours, ct2 {context}, {precision}", _ours(engine, context), _encoder(engine, context, audio, bands)
                )
    for precision in PRECISIONS:
        yield _faster_whisper(converted, precision, audio, defaults=False)
    yield _faster_whisper(converted, "float32", audio, defaults=True)


def _ours(
    model: Whisper | CTranslate2Whisper, context: ContextMode
) -> Callable[[list[Samples], list[str]], list[Answer]]:
    def transcribe(samples: list[Samples], languages: list[str]) -> list[Answer]:
        found = model.transcribe(samples, languages, DecodeOptions(context))
        return [Answer(one.text, not one.complete) for one in found]

    return transcribe


def _encoder(model: Whisper | CTranslate2Whisper, context: ContextMode, audio: Audio, bands: int) -> Callable[[], None]:
    """The encoder over the batches that `transcribe` makes."""
    seconds = [len(samples) / SAMPLE_RATE for samples in audio.samples]
    batches = []
    for rows in batches_by_length(seconds, context):
        frames = FULL_FRAMES if context == "padded" else bucket_frames(max(seconds[row] for row in rows))
        batches.append([log_mel(audio.samples[row], bands, frames) for row in rows])

    def run() -> None:
        if isinstance(model, Whisper):
            with torch.inference_mode():
                for mels in batches:
                    encode(model.model, mels, model.silences_behind(mels, context))
        else:
            import ctranslate2

            for mels in batches:
                model.encode(ctranslate2.StorageView.from_array(torch.stack(mels).numpy()))

    return run


def _stock(folder: Path, audio: Audio) -> Side:
    """`generate` of the stock class in batches, every clip padded to 30 s."""
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    processor = WhisperProcessor.from_pretrained(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    limit = model.config.max_target_positions - PROMPT_TOKENS
    end = processor.tokenizer.eos_token_id

    def features(samples: list[Samples]) -> torch.Tensor:
        return processor.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features

    batches = [
        audio.some(range(i, min(i + STOCK_BATCH, len(audio.clips)))) for i in range(0, len(audio.clips), STOCK_BATCH)
    ]
    mels = [features(samples) for samples, _ in batches]

    def transcribe(samples: list[Samples], languages: list[str]) -> list[Answer]:
        answers = []
        for i in range(0, len(samples), STOCK_BATCH):
            some, codes = samples[i : i + STOCK_BATCH], languages[i : i + STOCK_BATCH]
            found = model.generate(features(some), language=codes, task="transcribe", num_beams=1)
            texts = processor.batch_decode(found, skip_special_tokens=True)
            written = (found < end).sum(dim=1).tolist()
            answers += [Answer(text, count >= limit - 1) for text, count in zip(texts, written, strict=True)]
        return answers

    @torch.inference_mode()
    def encoder() -> None:
        for batch in mels:
            model.model.encoder(batch)

    return Side("transformers, padded, float32", transcribe, encoder)


def _faster_whisper(folder: Path, precision: str, audio: Audio, defaults: bool) -> Side:
    """It takes one clip at a time. Its list of suppressed tokens is left as it is: this is an untouched model."""
    import ctranslate2
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type=precision, cpu_threads=1)
    bare = {} if defaults else {
        "beam_size": 1, "without_timestamps": True, "temperature": 0.0, "condition_on_previous_text": False
    }  # fmt: skip
    limit = model.max_length // 2  # the engine's own bound
    end = model.hf_tokenizer.token_to_id("<|endoftext|>")

    def one(samples: Samples, language: str) -> Answer:
        segments = list(model.transcribe(samples, language=language, vad_filter=False, **bare)[0])
        written = sum(token < end for segment in segments for token in segment.tokens)
        return Answer(" ".join(segment.text for segment in segments), written >= limit - 1)

    def transcribe(samples: list[Samples], languages: list[str]) -> list[Answer]:
        ctranslate2.set_random_seed(0)
        return [one(*pair) for pair in zip(samples, languages, strict=True)]

    mels = [_padded(model, samples) for samples in audio.samples]
    name = "faster-whisper, defaults" if defaults else "faster-whisper"
    return Side(f"{name}, {precision}", transcribe, lambda: [model.encode(mel) for mel in mels])


def _padded(model: WhisperModel, samples: Samples) -> np.ndarray:
    features = model.feature_extractor(samples)[:, :FULL_FRAMES]
    return np.pad(features, ((0, 0), (0, FULL_FRAMES - features.shape[1])))


def _told(measured: dict[str, Measured], clips: list[Clip]) -> list[Figure]:
    """Print the table and the ratios; the figures."""
    # Bare speech is what an untouched model gets stuck in: it would leave few clips to compare.
    judged = [found.stuck for name, found in measured.items() if "speech" not in name]
    sound = [row for row in range(len(clips)) if not any(stuck[row] for stuck in judged)]
    print(f"{'side':<34}{'WER':>7}{'WER of ' + str(len(sound)):>12}{'stuck':>7}{'encoder s':>11}{'whole s':>9}")
    figures = []
    for name, found in measured.items():
        rate, rate_sound = found.wer(clips), found.wer(clips, sound)
        print(f"{name:<34}{rate:7.3f}{rate_sound:12.3f}{sum(found.stuck):7d}{found.encoder:11.2f}{found.whole:9.2f}")
        if sound:
            figures.append(Figure(f"{name}, WER where no side is stuck", rate_sound, "share", "lower"))
        figures += [
            Figure(f"{name}, WER", rate, "share", "lower"),
            Figure(f"{name}, stuck", sum(found.stuck), "clips", "lower"),
            Figure(f"{name}, encoder", found.encoder, "CPU s", "lower"),
            Figure(f"{name}, whole", found.whole, "CPU s", "lower"),
        ]
    ratios = _ratios(measured, clips)
    print(
        f"stuck: cut by the limit or a loop; 'WER of {len(sound)}': the clips that no side but the bare speech is stuck in"
    )
    for figure in ratios:
        goal = "" if figure.goal is None else f"   (goal {'≥' if figure.better == 'higher' else '≤'} {figure.goal:g})"
        print(f"{figure.name}: {figure.value:.2f}{goal}")
    return [*figures, *ratios]


def _ratios(measured: dict[str, Measured], clips: list[Clip]) -> list[Figure]:
    """Ours against faster-whisper at the same precision: seconds, and words wrong; in float32 against all others too."""
    figures = []
    for precision in PRECISIONS:
        ours = next(
            name
            for name in (
                f"ours, cached, {precision}",
                f"ours, ct2 cached, {precision}",
                f"ours, ct2 padded, {precision}",
            )
            if name in measured
        )
        mine, peer = measured[ours], measured[f"faster-whisper, {precision}"]
        figures += [
            ratio(f"faster-whisper over {ours}, whole seconds", peer.whole / mine.whole, GOAL),
            ratio(f"faster-whisper over {ours}, encoder seconds", peer.encoder / mine.encoder),
            ratio(f"{ours} over faster-whisper, WER", _share(mine.wer(clips), peer.wer(clips)), 1.0, "lower"),
        ]
    mine = measured["ours, cached, float32"]
    for other in ("transformers, padded, float32", "faster-whisper, defaults, float32", "ours, padded, float32"):
        peer = measured[other]
        figures += [
            ratio(f"{other} over cached, whole seconds", peer.whole / mine.whole),
            ratio(f"cached over {other}, WER", _share(mine.wer(clips), peer.wer(clips)), better="lower"),
        ]
    return figures


def _share(ours: float, theirs: float) -> float:
    """One error rate over another; of a peer without errors, 1 where ours has none either, and 100 otherwise."""
    return ours / theirs if theirs else 1.0 if not ours else 100.0
