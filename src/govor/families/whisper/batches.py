"""Which clips are transcribed together, and how much each may yield; the same for every engine that runs a Whisper."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from govor.audio import SAMPLE_RATE, Samples
from govor.corpus.samples import WINDOW_SECONDS
from govor.errors import GovorError
from govor.families.base import Hypothesis
from govor.families.decoding import BATCH_AUDIO_SECONDS, MAX_TOKENS_PER_SECOND
from govor.families.task import ContextMode
from govor.families.whisper.features import FULL_FRAMES, bucket_frames
from govor.mel import FRAMES_PER_SECOND

PROMPT_TOKENS = 4


def max_new_tokens(seconds: float, positions: int) -> int:
    """How many tokens a clip may yield: bounded by its length, and by the decoder's positions less the prompt."""
    speech = bucket_frames(min(seconds, WINDOW_SECONDS)) / FRAMES_PER_SECOND
    return int(min(positions - PROMPT_TOKENS, 20 + MAX_TOKENS_PER_SECOND * speech))


Search = Callable[[list[Samples], list[str | None], list[str | None]], list[Hypothesis]]


def transcribe_in_batches(
    search: Search,
    clips: Sequence[Samples],
    languages: Sequence[str | None],
    context: ContextMode,
    on_done: Callable[[int], None] | None,
    previous: Sequence[str | None] | None = None,
    mixed: bool = False,
) -> list[Hypothesis]:
    """Run `search` over batches of one context length, or of like ones where they may be `mixed`.

    Results are in the order of `clips`. Clips with a text before them go one by one: their prompts differ in length.
    """
    results: dict[int, Hypothesis] = {}
    before = list(previous) if previous is not None else [None] * len(clips)
    batches = batches_by_length([len(clip) / SAMPLE_RATE for clip in clips], context, mixed=mixed)
    for rows in [[row] for batch in batches for row in batch] if any(before) else batches:
        hypotheses = search([clips[i] for i in rows], [languages[i] for i in rows], [before[i] for i in rows])
        results.update(zip(rows, hypotheses, strict=True))
        if on_done:
            on_done(len(rows))
    return [results[i] for i in range(len(clips))]


def batches_by_length(
    seconds: Sequence[float],
    context: ContextMode,
    budget_seconds: float = BATCH_AUDIO_SECONDS,
    most: int = 32,
    mixed: bool = False,
) -> list[list[int]]:
    """Indices of clips in batches of one context bucket each, or of neighbouring ones where they may be `mixed`.

    The budget counts the longest bucket of a batch.
    """
    for index, length in enumerate(seconds):
        if length > WINDOW_SECONDS:
            raise GovorError(f"Clip {index} is {length:.1f} s long; at most {WINDOW_SECONDS:g} s fit a Whisper window.")
    order = sorted(range(len(seconds)), key=lambda i: seconds[i])
    batches: list[list[int]] = []
    last = 0
    for index in order:
        bucket = bucket_frames(seconds[index])
        frames = FULL_FRAMES if context == "padded" else bucket
        full = batches and (
            len(batches[-1]) >= most or (len(batches[-1]) + 1) * frames / FRAMES_PER_SECOND > budget_seconds
        )
        if not batches or full or (bucket != last and not mixed):
            batches.append([])
        batches[-1].append(index)
        last = bucket
    return batches
