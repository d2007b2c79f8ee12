"""What the decoder is taught to write.

    [<|startofprev|> previous] <|startoftranscript|><|he|><|transcribe|>[<|notimestamps|>] TEXT <|endoftext|>

In the loss: everything after <|startoftranscript|>, the end token included. The previous context and the start
token are given, not taught.
"""

from __future__ import annotations

from govor.corpus.records import Segment
from govor.corpus.transcripts import closed
from govor.errors import GovorError
from govor.examples.spec import ExampleSpec
from govor.families.base import Labels
from govor.families.whisper.tokens import WhisperTokens

MAX_TOKENS = 448
MAX_PREVIOUS_TOKENS = 223


def build_labels(spec: ExampleSpec, tokens: WhisperTokens, max_tokens: int = MAX_TOKENS) -> Labels:
    """The label ids of one example.

    Raises:
        GovorError: the transcript does not fit, the language is unknown, or times are asked of a row that has none.
    """
    clip = spec.clip
    language = spec.language
    if spec.with_timestamps:
        if not clip.segments:
            raise GovorError(f"Clip '{clip.id}' has no segments, so it cannot be taught with timestamps.")
        text = timed_ids(closed(clip.segments, clip.duration), tokens, language)
        mode: list[int] = []
    else:
        text = tokens.text_ids(clip.transcript, language)
        mode = [tokens.no_timestamps]
    taught = [tokens.language(language), tokens.transcribe, *mode, *text, tokens.end]
    previous = _previous_ids(spec, tokens, max_tokens - 1 - len(taught))
    if 1 + len(taught) > max_tokens:
        raise GovorError(
            f"Clip '{clip.id}' needs {1 + len(taught)} tokens and Whisper's decoder holds {max_tokens}; "
            "cut the clip into shorter ones or leave it out."
        )
    return Labels([*previous, tokens.start, *taught], len(previous) + 1)


def timed_ids(segments: tuple[Segment, ...], tokens: WhisperTokens, language: str) -> list[int]:
    """`<|0.00|> first<|4.20|><|4.40|> second` as ids; a last segment without an end stays open ("start only").

    Times never run back, as Whisper is bound to write them: where two speak at once, the second begins when the first ends.
    """
    ids: list[int] = []
    at = 0.0
    for segment in segments:
        at = max(at, segment.start)
        ids += [tokens.timestamp(at), *tokens.text_ids(segment.text, language)]
        if segment.end is not None:
            at = max(at, segment.end)
            ids.append(tokens.timestamp(at))
    return ids


def _previous_ids(spec: ExampleSpec, tokens: WhisperTokens, room: int) -> list[int]:
    clip = spec.clip
    if not spec.with_previous:
        return []
    # What stood before is read back as the decoder wrote it: with times where this one is written with times.
    if spec.with_timestamps and clip.prev_segments:
        ids = timed_ids(clip.prev_segments, tokens, spec.language)
    else:
        ids = tokens.text_ids(clip.prev_transcript or "", spec.language)
    # The tail is kept: the words just before the clip say the most about it.
    tail = ids[-min(MAX_PREVIOUS_TOKENS, max(room - 1, 0)) :] if room > 1 else []
    return [tokens.previous, *tail] if tail else []
