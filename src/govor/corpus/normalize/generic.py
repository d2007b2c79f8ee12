"""Rules that are right for every language. Each is idempotent, joins no words and deletes no letter or mark."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from govor.corpus.records import Clip


@dataclass(frozen=True, slots=True)
class Rule:
    """A named change of text with an example (before, after)."""

    name: str
    example: tuple[str, str]
    apply: Callable[[str], str]


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


_DIRECTION_MARKS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\u00ad]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_ANNOTATION = re.compile(r"\[[^\[\]]*\]|<\|[^<>|]*\|>|[♪♫♬]+")
_REPEATED = re.compile(r"([!?,;:。、؟،])\1+|(?<!\.)(\.)\.(?!\.)|(\.{4,})")
_SPACES = re.compile(r"[\s\u200b\u00a0\u2028\u2029]+")
_SPACE_BEFORE = re.compile(r"\s+([,.!?;:…])(?=\s|$)")


def _repeated(match: re.Match[str]) -> str:
    return match[1] or match[2] or "..."


RULES: tuple[Rule, ...] = (
    Rule("unicode_nfc", ("s\u030c", "š"), _nfc),
    Rule("direction_marks", ("שלום\u200f", "שלום"), lambda text: _DIRECTION_MARKS.sub("", text)),
    Rule("control_characters", ("a\x07b", "a b"), lambda text: _CONTROLS.sub(" ", text)),
    Rule("annotations", ("a [music] b", "a   b"), lambda text: _ANNOTATION.sub(" ", text)),
    Rule("repeated_punctuation", ("what??", "what?"), lambda text: _REPEATED.sub(_repeated, text)),
    Rule("spaces", ("a \u00a0 b", "a b"), lambda text: _SPACES.sub(" ", text).strip()),
    Rule("space_before_punctuation", ("yes .", "yes."), lambda text: _SPACE_BEFORE.sub(r"\1", text)),
)


def normalize_text(text: str, counts: Counter[str] | None = None) -> str:
    """`text` through every rule; `counts` learns which rules changed it."""
    while True:  # one rule may make work for an earlier one; each shortens or settles the text, so this ends
        before = text
        for rule in RULES:
            changed = rule.apply(text)
            if counts is not None and changed != text:
                counts[rule.name] += 1
            text = changed
        if text == before:
            return text


def normalize_clips(clips: Iterable[Clip], counts: Counter[str]) -> Iterator[Clip]:
    """Each clip with normalised transcript, segments and previous transcript; the original stays in `transcript_raw`.

    The caller drops clips whose transcript has become empty.
    """
    for clip in clips:
        transcript = normalize_text(clip.transcript, counts)
        changes: dict[str, object] = {}
        if transcript != clip.transcript:
            changes = {"transcript": transcript, "transcript_raw": clip.transcript_raw or clip.transcript}
        if clip.segments:
            changes["segments"] = tuple(replace(s, text=normalize_text(s.text)) for s in clip.segments)
        if clip.prev_transcript:
            changes["prev_transcript"] = normalize_text(clip.prev_transcript)
        yield clip.replace(**changes) if changes else clip
