r"""What the model is given and what it is taught to write.

    <|im_start|>system\n{context}<|im_end|>\n
    <|im_start|>user\n<|audio_start|><|audio_pad|>…<|audio_end|><|im_end|>\n
    <|im_start|>assistant\nlanguage Hebrew<asr_text>TEXT<|im_end|>

In the loss: `language Hebrew<asr_text>TEXT<|im_end|>` and nothing else. The mask follows from how the row is built; it
is never found by an id, since the padding id of the published configurations is <|im_end|>.
"""

from __future__ import annotations

from govor.errors import GovorError
from govor.examples.spec import ExampleSpec
from govor.families.base import Labels
from govor.families.qwen3_asr.languages import language_name
from govor.families.qwen3_asr.tokens import QwenTokens

# More than the words of two windows of speech; what was said earlier says little about the clip.
MAX_CONTEXT_TOKENS = 512


def build_labels(spec: ExampleSpec, tokens: QwenTokens, audio_tokens: int, max_tokens: int) -> Labels:
    """The token row of one example whose audio makes `audio_tokens` tokens.

    A row without words is taught as "language Hebrew<asr_text>" and the end: serving gives the language, so that the
    end is what the model must say next.

    Raises:
        GovorError: timestamps are asked for, the language is unknown, or the row exceeds `max_tokens`.
    """
    if spec.with_timestamps:
        raise GovorError(
            f"Clip '{spec.clip.id}' is asked for with timestamps, which are a Whisper feature; "
            "set examples.timestamps_share to 0 for Qwen3-ASR."
        )
    given = prompt_ids(tokens, audio_tokens, system_text(spec))
    text = tokens.text_ids(spec.clip.transcript.strip())
    row = [*given, *language_ids(tokens, spec.language), *text, tokens.end]
    if len(row) > max_tokens:
        raise GovorError(
            f"Clip '{spec.clip.id}' needs {len(row):,} tokens ({audio_tokens:,} of them audio) and the model holds "
            f"{max_tokens:,}; cut the clip into shorter ones or leave it out."
        )
    return Labels(row, len(given))


def system_text(spec: ExampleSpec) -> str:
    """What the system turn says: all that helps and is not in the audio. Empty, the turn is still there."""
    previous = spec.clip.prev_transcript if spec.with_previous else None
    return (previous or "").strip()


def prompt_ids(tokens: QwenTokens, audio_tokens: int, context: str = "", language: str | None = None) -> list[int]:
    """What stands before the answer; with a `language` (code or name) the answer's beginning too.

    Of a long context the tail is kept: the words just before the clip say the most about it.
    """
    system = tokens.text_ids("system\n") + tokens.text_ids(context)[-MAX_CONTEXT_TOKENS:]
    audio = [tokens.audio_start, *[tokens.audio_pad] * audio_tokens, tokens.audio_end]
    line_end = tokens.text_ids("\n")
    return [
        *(tokens.message_start, *system, tokens.end, *line_end),
        *(tokens.message_start, *tokens.text_ids("user\n"), *audio, tokens.end, *line_end),
        *(tokens.message_start, *tokens.text_ids("assistant\n")),
        *([] if language is None else language_ids(tokens, language)),
    ]


def language_ids(tokens: QwenTokens, language: str) -> list[int]:
    """`language Hebrew<asr_text>` as ids, for a code or an English name."""
    return [*tokens.text_ids(f"language {language_name(language)}"), tokens.asr_text]
