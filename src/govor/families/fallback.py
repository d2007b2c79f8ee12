"""Decoding as engines serve it: what goes in circles or is unsure is drawn again at rising temperatures.

Radford et al. 2022, section 4.5. Scoring and `govor transcribe` both decode so. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from govor.audio import Samples
from govor.families.task import DecodeOptions
from govor.metrics.loops import COMPRESSION, compression_ratio, loop_at
from govor.silence import SILENCE_DBFS, peak_dbfs

if TYPE_CHECKING:
    from govor.families.base import Hypothesis, Recogniser

Flag = Literal["silence", "no_speech", "loop", "retried", "unsure", "cut"]
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)
# OpenAI's own limits: a clip is taken for empty when both hold, and drawn again where the second does alone.
NO_SPEECH = 0.6
UNSURE_LOGPROB = -1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a clip; `hypothesis` is None where nothing is audible, and nothing was asked.

    Flags: `silence` and `no_speech` (nothing was said, the text is empty), `loop` (it goes in circles whatever the
    temperature; what came before the circle is kept), `retried` (another draw stands in place of the first text), `unsure`
    (the model itself doubts it), `cut` (it hit the limit). A `plain` answer is what a single search found, taken as it is.
    """

    hypothesis: Hypothesis | None
    flags: tuple[Flag, ...] = ()
    temperature: float = 0.0
    plain: bool = False

    @classmethod
    def of(cls, hypothesis: Hypothesis) -> Answer:
        """The plain one."""
        return cls(hypothesis, plain_flags(hypothesis), plain=True)

    @property
    def text(self) -> str:
        """What is taken for said."""
        first = self.hypothesis
        if first is None or "no_speech" in self.flags:
            return ""
        return before_loop(first) if "loop" in self.flags and not self.plain else first.text


def loops(hypothesis: Hypothesis) -> bool:
    """Whether a text goes in circles: by its tokens, or by how well it compresses."""
    return loop_at(hypothesis.tokens) is not None or compression_ratio(hypothesis.text) > COMPRESSION


def before_loop(hypothesis: Hypothesis) -> str:
    """The words up to where the circles begin."""
    at = loop_at(hypothesis.tokens)
    words = hypothesis.text.split()
    if at is None or not words:
        return hypothesis.text
    return " ".join(words[: max(1, round(at / len(hypothesis.tokens) * len(words)))])


def plain_flags(hypothesis: Hypothesis) -> tuple[Flag, ...]:
    """What is to be said of a text as it was found first."""
    unsure, whole = hypothesis.mean_logprob < UNSURE_LOGPROB, hypothesis.complete
    seen: dict[Flag, bool] = {"loop": loops(hypothesis), "unsure": unsure, "cut": not whole}
    return tuple(flag for flag, there in seen.items() if there)


def transcribe_served(
    recogniser: Recogniser,
    clips: Sequence[Samples],
    languages: Sequence[str | None],
    options: DecodeOptions,
    on_done: Callable[[int], None] | None = None,
) -> list[Answer]:
    """What an engine would give for each clip: silent ones are not asked, doubtful ones drawn again (`drawn_again`)."""
    audible = [place for place, clip in enumerate(clips) if peak_dbfs(clip) >= SILENCE_DBFS]
    if on_done and len(audible) < len(clips):
        on_done(len(clips) - len(audible))
    asked, codes = [clips[place] for place in audible], [languages[place] for place in audible]
    firsts = recogniser.transcribe(asked, codes, options, on_done) if audible else []
    answers = dict(zip(audible, drawn_again(recogniser, asked, codes, firsts, options), strict=True))
    return [answers.get(place) or Answer(None, ("silence",)) for place in range(len(clips))]


def drawn_again(
    recogniser: Recogniser,
    clips: Sequence[Samples],
    languages: Sequence[str | None],
    firsts: Sequence[Hypothesis],
    options: DecodeOptions,
) -> list[Answer]:
    """Each clip's first text, or where it loops or is unsure the first draw that is whole and neither; those that need one
    are drawn together at each temperature, without the text before them, which may have led them there.

    Where no draw is, the likeliest text stands that does not loop.
    """
    empty = [no_speech(first) for first in firsts]
    draws: list[list[tuple[float, Hypothesis]]] = [[(0.0, first)] for first in firsts]
    left = [place for place, first in enumerate(firsts) if not empty[place] and _fails(first)]
    for temperature in TEMPERATURES:
        if not left:
            break
        drawing = replace(options, temperature=temperature)
        again = recogniser.transcribe([clips[place] for place in left], [languages[place] for place in left], drawing)
        for place, hypothesis in zip(left, again, strict=True):
            draws[place].append((temperature, hypothesis))
        left = [place for place in left if not _passes(draws[place][-1][1])]
    return [
        Answer(first, ("no_speech",)) if silent else _best(some)
        for first, silent, some in zip(firsts, empty, draws, strict=True)
    ]


def no_speech(hypothesis: Hypothesis) -> bool:
    """Whether the model itself says that nobody speaks."""
    said = hypothesis.no_speech
    return said is not None and said > NO_SPEECH and hypothesis.mean_logprob < UNSURE_LOGPROB


def _fails(hypothesis: Hypothesis) -> bool:
    return hypothesis.mean_logprob < UNSURE_LOGPROB or loops(hypothesis)


def _passes(hypothesis: Hypothesis) -> bool:
    return hypothesis.complete and not _fails(hypothesis)


def _best(draws: Sequence[tuple[float, Hypothesis]]) -> Answer:
    """The last one where it passes, or where it is the only one; else the likeliest whole one without a loop."""
    temperature, best = draws[-1]
    if len(draws) > 1 and not _passes(best):
        straight = [draw for draw in draws if not loops(draw[1])]
        whole = [draw for draw in straight if draw[1].complete]
        # Of equals the first: it was searched for and not drawn.
        temperature, best = max(whole or straight or draws[:1], key=lambda draw: draw[1].mean_logprob)
    flags: tuple[Flag, ...] = ("retried",) if temperature else ()
    return Answer(best, flags + plain_flags(best), temperature)
