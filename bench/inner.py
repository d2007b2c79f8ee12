"""Words inside of a line, which the edges of clips do not prove: synthetic speech whose word events are known, and single
words of real speech laid edge to edge, so that no pause gives the borders away."""

from __future__ import annotations

import ctypes.util
from typing import Any

import numpy as np
import soxr

from bench.results import Asked, Figure
from govor.corpus import fillets, prompts
from govor.corpus.manifests import read_clips
from govor.corpus.records import Clip
from govor.families.opening import open_model
from govor.timing.align import AlignmentHeads, align
from govor.timing.any_length import in_taught_language
from govor.timing.heads import measure_heads
from govor.timing.splice import splices

MODEL = "openai/whisper-base"
SENTENCES = 20


def main(asked: Asked) -> list[Figure]:
    """How far inner words' beginnings are off, with the configuration's heads and with measured ones."""
    if not ctypes.util.find_library("espeak-ng"):
        raise SystemExit("espeak-ng is not installed; install it: apt-get install espeak-ng")
    opened = open_model(asked.model or MODEL)
    czech = [
        in_taught_language(opened, clip) for clip in read_clips(fillets.prepare(print)) if 1.0 < clip.duration < 6.0
    ]
    recogniser: Any = opened.recogniser
    measured = measure_heads(recogniser, czech[:120], opened.context)
    if measured is None:
        raise SystemExit("too few clips to choose the heads by")
    spanish = [clip for clip in read_clips(prompts.prepare("es", print)) if len(clip.transcript.split()) == 1]
    figures = []
    for name, heads in (("heads of the configuration", None), ("heads measured", measured.chosen)):
        for kind, off in (
            ("espeak-ng, Czech sentences", _synthetic(opened, czech[200:], heads)),
            ("single Spanish words edge to edge", _edge_to_edge(opened, spanish, heads)),
        ):
            mean, median = 1000 * float(np.mean(np.abs(off))), 1000 * float(np.median(np.abs(off)))
            print(f"{name:<27} {kind:<34} {len(off):>4} words, mean {mean:4.0f} ms, median {median:4.0f} ms")
            goal = 80.0 if name == "heads measured" else None
            figures += [
                Figure(f"mean offset, {kind}, {name}", mean, "ms", "lower", goal),
                Figure(f"median offset, {kind}, {name}", median, "ms", "lower"),
            ]
    return figures


def _synthetic(opened: Any, clips: list[Clip], heads: AlignmentHeads | None) -> list[float]:
    texts = [clip.transcript for clip in clips if 4 < len(clip.transcript.split()) < 14]
    # Where its events and the words are not one to one (numbers, dashes), nothing can be compared.
    spoken = ((text, *espeak(text, "cs")) for text in texts)
    kept = [found for found in spoken if len(found[2]) == len(found[0].split())][:SENTENCES]
    clip_texts, waves, starts = zip(*kept, strict=True)
    found = align(opened.recogniser, waves, clip_texts, ["cs"] * len(kept), opened.context, heads)
    return [
        word.start - start
        for one, known in zip(found, starts, strict=True)
        for word, start in list(zip(one.words, known, strict=True))[1:]
        if word.start is not None
    ]


def _edge_to_edge(opened: Any, clips: list[Clip], heads: AlignmentHeads | None) -> list[float]:
    made = list(splices(clips, 40, 0, (0.0, 0.0), most_lines=8))
    texts = [" ".join(line.text for line in splice.lines) for splice in made]
    languages = ["es"] * len(made)
    found = align(opened.recogniser, [s.samples for s in made], texts, languages, opened.context, heads)
    return [
        word.start - line.start
        for splice, one in zip(made, found, strict=True)
        for word, line in list(zip(one.words, splice.lines, strict=True))[1:]
        if word.start is not None
    ]


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


def espeak(text: str, voice: str) -> tuple[Any, list[float]]:
    """(samples at 16 kHz, when each word begins) of synthetic speech, from the word events of the espeak-ng library."""
    library = ctypes.CDLL("libespeak-ng.so.1")
    rate = library.espeak_Initialize(2, 0, None, 0)
    blocks: list[Any] = []
    starts: list[float] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
    def heard(samples: Any, count: int, events: Any) -> int:
        if count and samples:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        place = 0
        while events[place].type:
            if events[place].type == 1:
                starts.append(events[place].sample / rate)
            place += 1
        return 0

    library.espeak_SetSynthCallback(heard)
    library.espeak_SetVoiceByName(voice.encode())
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)
    wave = np.concatenate(blocks).astype(np.float32) / 32768
    return soxr.resample(wave, rate, 16_000).astype(np.float32), starts
