"""Training text: cleaned so that a model learns words and not typing habits, nothing a reader would miss removed.

One file per language, one function per rule. Scoring has its own normaliser (`govor.metrics.text`): the two serve
different ends and are different objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from govor.corpus.normalize import bcs, generic, hebrew, malagasy
from govor.corpus.normalize.bcs import Script
from govor.corpus.normalize.rules import Normalizer, Rule
from govor.corpus.records import Clip
from govor.languages import is_bcs, language_key

__all__ = ["Normalizer", "Rule", "Script", "normalize_clips", "normalizer"]


@cache
def normalizer(language: str, script: Script = "latin") -> Normalizer:
    """The training normaliser of a language (`he`, `sr`, `mg`, …; `he-IL` is `he`); the generic one for any other.

    `script` is the run's script and matters for Bosnian, Croatian and Serbian alone.
    """
    base = language_key(language)
    if base == "he":
        return Normalizer("hebrew", generic.FIRST + hebrew.RULES + generic.LAST)
    if base == "mg":
        return Normalizer("malagasy", generic.FIRST + malagasy.RULES + generic.LAST)
    if is_bcs(base):
        return Normalizer(f"bcs-{script}", generic.FIRST + bcs.rules(script) + generic.LAST)
    return Normalizer("generic", generic.RULES)


def normalize_clips(clips: Iterable[Clip], counts: Counter[str], script: Script = "latin") -> Iterator[Clip]:
    """Each clip with normalised transcript, segments, words and previous transcript; the original stays in
    `transcript_raw`.

    The caller drops clips whose transcript has become empty.
    """
    for clip in clips:
        clean = normalizer(clip.language, script)
        transcript = clean(clip.transcript, counts)
        changes: dict[str, object] = {}
        if transcript != clip.transcript:
            changes = {"transcript": transcript, "transcript_raw": clip.transcript_raw or clip.transcript}
        for name, segments in (("segments", clip.segments), ("prev_segments", clip.prev_segments)):
            if segments:
                said = (replace(segment, text=clean(segment.text)) for segment in segments)
                changes[name] = tuple(segment for segment in said if segment.text or segment.end is None)
        if clip.words:
            changes["words"] = tuple(_word(word, clean) for word in clip.words)
        if clip.prev_transcript:
            changes["prev_transcript"] = clean(clip.prev_transcript)
        if clean.name.startswith("bcs"):
            changes["script"] = {"latin": "Latn", "cyrillic": "Cyrl", "keep": clip.script}[script]
        yield clip.replace(**changes) if changes else clip


def _word(word: Mapping[str, Any], clean: Normalizer) -> dict[str, Any]:
    return {
        key: clean(value) if key in ("word", "text") and isinstance(value, str) else value
        for key, value in word.items()
    }
