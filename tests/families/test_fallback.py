"""Decoding as engines serve it: what is drawn again, when, with whom, and which text stands."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from conftest import speech
from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.records import Clip
from govor.families.base import Hypothesis
from govor.families.fallback import TEMPERATURES, drawn_again, transcribe_served
from govor.families.recogniser import RECOGNITION
from govor.families.task import DecodeOptions
from govor.families.whisper.tiny import tiny

GOOD = Hypothesis("dobré ráno", [1, 2, 3], -0.3)
LOOP = Hypothesis("ne ne ne " * 8, [5, 6] * 12, -0.1)
UNSURE = Hypothesis("hm", [1], -1.4, no_speech=0.1)
NOTHING = Hypothesis("titulky", [1], -1.4, no_speech=0.9)
CUT = Hypothesis("a tak dále", [7, 8, 9], -0.5, complete=False)
# Not one token four times in a row, and yet the same again and again.
SQUEEZED = Hypothesis("to je to je to je " * 6, list(range(60)), -0.2)


class Scripted:
    """Says for each clip, known by its length, what stands in its script: by temperature, the last for all above."""

    name, longest_seconds = "scripted", 30.0

    def __init__(self, *scripts: Sequence[Hypothesis]) -> None:
        self.scripts = scripts
        self.asked: list[tuple[float, list[int]]] = []

    def check_language(self, language: str) -> None: ...

    def transcribe(
        self,
        clips: Sequence[Samples],
        languages: Sequence[str | None],
        options: DecodeOptions,
        on_done: Callable[[int], None] | None = None,
        previous: Sequence[str | None] | None = None,
    ) -> list[Hypothesis]:
        numbers = [len(clip) // SAMPLE_RATE - 1 for clip in clips]
        self.asked.append((options.temperature, numbers))
        at = [0.0, *TEMPERATURES].index(options.temperature)
        if on_done:
            on_done(len(clips))
        return [self.scripts[n][min(at, len(self.scripts[n]) - 1)] for n in numbers]

    def nbest(self, *_: object) -> list[Hypothesis]:
        raise AssertionError("drawing again asks for no N best")


def waves(count: int) -> list[Samples]:
    return [speech(["sol"], float(n + 1))[: (n + 1) * SAMPLE_RATE] for n in range(count)]


def served(*scripts: Sequence[Hypothesis]) -> tuple[Scripted, list[tuple[str, tuple[str, ...], float]]]:
    model = Scripted(*scripts)
    answers = transcribe_served(model, waves(len(scripts)), ["cs"] * len(scripts), DecodeOptions())
    return model, [(answer.text, answer.flags, answer.temperature) for answer in answers]


def test_what_fails_is_drawn_again_together_and_what_is_good_is_not() -> None:
    model, answers = served([GOOD], [LOOP, LOOP, GOOD], [UNSURE, GOOD], [CUT])
    assert model.asked == [(0.0, [0, 1, 2, 3]), (0.2, [1, 2]), (0.4, [1])]
    assert answers == [
        ("dobré ráno", (), 0.0),
        ("dobré ráno", ("retried",), 0.4),
        ("dobré ráno", ("retried",), 0.2),
        ("a tak dále", ("cut",), 0.0),
    ]


def test_a_loop_is_seen_by_how_well_its_text_compresses() -> None:
    _, answers = served([SQUEEZED, GOOD])
    assert answers == [("dobré ráno", ("retried",), 0.2)]


def test_where_no_draw_is_good_the_likeliest_stands_that_does_not_loop() -> None:
    likelier = Hypothesis("hm ano", [1, 2], -1.2, no_speech=0.1)
    _, answers = served(
        [UNSURE, Hypothesis("co", [3], -2.0)],
        [UNSURE, LOOP, likelier],
        [LOOP, UNSURE],
        [LOOP],
        [LOOP, CUT, UNSURE],
    )
    assert answers == [
        ("hm", ("unsure",), 0.0),
        ("hm ano", ("retried", "unsure"), 0.4),
        ("hm", ("retried", "unsure"), 0.2),
        ("ne ne", ("loop",), 0.0),
        ("hm", ("retried", "unsure"), 0.4),
    ], "a loop that stays is cut where it begins, and a whole text comes before one that was cut"


def test_nothing_said_is_neither_asked_nor_drawn_again() -> None:
    model, heard = Scripted([GOOD], [NOTHING]), []
    silent = np.zeros(SAMPLE_RATE, np.float32)
    answers = transcribe_served(model, [silent, waves(2)[1]], ["cs"] * 2, DecodeOptions(), heard.append)
    assert model.asked == [(0.0, [1])] and sum(heard) == 2
    assert [(answer.text, answer.flags) for answer in answers] == [("", ("silence",)), ("", ("no_speech",))]
    assert drawn_again(model, [], [], [], DecodeOptions()) == []


def test_a_row_says_what_became_of_its_clip_and_a_plain_one_is_the_search_as_it_is(tmp_path: Path) -> None:
    clips = []
    for number, wave in enumerate(waves(3)):
        soundfile.write(tmp_path / f"{number}.wav", wave, SAMPLE_RATE)
        clips.append(Clip(str(number), str(tmp_path / f"{number}.wav"), "x", float(number + 1), "cs"))
    model = Scripted([LOOP, GOOD], [LOOP], [CUT])
    (rows,) = RECOGNITION.answers(model, clips, DecodeOptions(served=True))
    kept = [(row["hypothesis"], row["flags"], row.get("temperature"), row["complete"]) for row in rows]
    assert kept == [
        ("dobré ráno", ["retried"], 0.2, True),
        ("ne ne", ["loop"], None, True),
        ("a tak dále", ["cut"], None, False),
    ]
    model.asked.clear()
    (rows,) = RECOGNITION.answers(model, clips, DecodeOptions())
    assert [(row["hypothesis"], row["flags"]) for row in rows] == [
        (LOOP.text, ["loop"]), (LOOP.text, ["loop"]), (CUT.text, ["cut"])
    ]  # fmt: skip
    assert [temperature for temperature, _ in model.asked] == [0.0]


@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_how_clips_are_batched_changes_no_draw(temperature: float) -> None:
    whisper = tiny(seed=5)
    with torch.no_grad():
        whisper.model.model.decoder.embed_tokens.weight.mul_(12)
    clips = [speech(["sol", "mar"], seconds, seed) for seed, seconds in enumerate((1.0, 1.2, 1.1, 2.5))]
    options = DecodeOptions(temperature=temperature)
    together = whisper.transcribe(clips, ["cs"] * 4, options)
    for clip, drawn in zip(clips, together, strict=True):
        assert whisper.transcribe([clip], ["cs"], options)[0].tokens == drawn.tokens
