"""Readers of annotations in tiers: Praat's TextGrid, ELAN's EAF.

A tier per speaker is a transcript; a translation beside the words, or sounds in phonetic letters, is not. Tiers are told
apart by what they are named and by whether they lie beside each other or on top of each other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from govor.corpus.cues import BREATH_SECONDS, MAX_BREATH_SECONDS, Cue, Words, bad, spanned
from govor.corpus.ttml import attribute, name_of, xml_events

# The tier of lines whose speaker is not known, in the TextGrids that we write.
OF_NOBODY = "lines"
_WORDS = re.compile(r"(?:^|.*[\s_.:|/-])(?:words?|ort[-_]mau|kan[-_]mau|rijeci|reči|riječi)", re.IGNORECASE)
_SOUNDS = re.compile(
    r"(?:^|.*[\s_.:|/-])(?:phon(?:e|es|eme|emes|etic)?|mau|ipa|syll(?:able|ables)?|mas)", re.IGNORECASE
)
# What aligners write where nobody speaks.
_SILENCE = frozenset({"", "sil", "sp", "spn", "<eps>", "<p>", "<p:>", "<sil>", "#", "_"})
# More than this much of the shorter tier at the times of the other: both say the same speech.
_SAME_SPEECH_SHARE = 0.5


@dataclass(slots=True)
class Tier:
    """Intervals (start, end, text) in seconds, in order; `speaker` where the file states one."""

    name: str
    speaker: str | None = None
    intervals: list[tuple[float, float, str]] = field(default_factory=list)


def cues_of(tiers: Sequence[Tier]) -> list[Cue]:
    """What is said in the tiers.

    Raises:
        AudioError: two tiers write down the same stretches of time, so that everything would be said twice.
    """
    used = [tier for tier in tiers if any(said.strip() for *_, said in tier.intervals)]
    texts = [tier for tier in used if not _WORDS.fullmatch(tier.name) and not _SOUNDS.fullmatch(tier.name)]
    by_word = [tier for tier in used if _WORDS.fullmatch(tier.name)]
    if not texts and not by_word and used:
        raise bad(f"its tiers ({_names(used)}) hold sounds, not words.")
    spoken = texts or by_word
    _refuse_parallel(spoken)
    several = len({tier.speaker or tier.name for tier in spoken}) > 1
    cues: list[Cue] = []
    for tier in spoken:
        named = several and tier.name.strip() not in ("", OF_NOBODY)
        speaker = tier.speaker or (tier.name.strip() if named else None)
        if texts:
            words = [word for words in by_word if _belongs(words, tier, texts) for word in words.intervals]
            cues += _lines(tier, speaker, sorted(words))
        else:
            cues += _breaths(tier, re.sub(r"[\s_.:|/-]+words?$", "", speaker, flags=re.I) if speaker else None)
    return sorted(cues, key=lambda cue: cue.start)


def _belongs(words: Tier, tier: Tier, texts: Sequence[Tier]) -> bool:
    return (
        len(texts) == 1
        or words.name == "words"
        or (words.speaker or words.name).casefold().startswith(tier.name.casefold())
    )


def _lines(tier: Tier, speaker: str | None, words: Sequence[tuple[float, float, str]]) -> Iterator[Cue]:
    for start, end, said in tier.intervals:
        text = " ".join(said.split())
        if text:
            inside = (word for word in words if word[0] >= start - 1e-6 and word[1] <= end + 1e-6)
            yield Cue(start, end, (text,), speaker, _rows(inside))


def _breaths(tier: Tier, speaker: str | None) -> Iterator[Cue]:
    breath: list[tuple[float, float, str]] = []
    for word in tier.intervals:
        if word[2].strip().lower() in _SILENCE:
            continue
        if breath and (word[0] - breath[-1][1] > BREATH_SECONDS or word[1] - breath[0][0] > MAX_BREATH_SECONDS):
            yield _breath(breath, speaker)
            breath = []
        breath.append(word)
    if breath:
        yield _breath(breath, speaker)


def _breath(words: Sequence[tuple[float, float, str]], speaker: str | None) -> Cue:
    text = " ".join(" ".join(said.split()) for *_, said in words)
    return Cue(words[0][0], words[-1][1], (text,), speaker, _rows(words))


def _rows(words: Sequence[tuple[float, float, str]] | Iterator[tuple[float, float, str]]) -> Words:
    return tuple(
        {"word": " ".join(said.split()), "start": start, "end": end}
        for start, end, said in words
        if said.strip().lower() not in _SILENCE
    )


def _refuse_parallel(tiers: Sequence[Tier]) -> None:
    spans = [[(start, end) for start, end, said in tier.intervals if said.strip()] for tier in tiers]
    for place, one in enumerate(spans):
        for other in range(place + 1, len(spans)):
            shorter = min(sum(end - start for start, end in part) for part in (one, spans[other]))
            if shorter > 0 and _shared(one, spans[other]) > _SAME_SPEECH_SHARE * shorter:
                raise bad(
                    f"the tiers '{tiers[place].name}' and '{tiers[other].name}' write down the same speech twice "
                    "(a translation?); keep the one that is said."
                )


def _shared(one: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> float:
    """Seconds in which both lie; each is in order."""
    total, i, j = 0.0, 0, 0
    while i < len(one) and j < len(other):
        total += max(0.0, min(one[i][1], other[j][1]) - max(one[i][0], other[j][0]))
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return total


def _names(tiers: Sequence[Tier]) -> str:
    return ", ".join(tier.name for tier in tiers)[:80]


# Praat reads its text files as a stream of texts in quotes, flags and numbers that stand alone; the rest is for people.
_TOKEN = re.compile(
    r'"(?P<text>[^"]*(?:""[^"]*)*)"|(?<!\S)!.*|(?P<flag><\w+>)'
    r"|(?<!\S)(?P<number>[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d{1,3})?)(?!\S)|(?P<open>\")|\S"
)


def from_textgrid(text: str) -> list[Cue]:
    """Praat's TextGrid, long or short: its interval tiers (marks at points are no words)."""
    tokens: list[str | float] = []
    for token in _TOKEN.finditer(text):
        if token["open"]:
            raise bad("a text in quotes is not closed.")
        if token["text"] is not None:
            tokens.append(token["text"].replace('""', '"'))
        elif token["number"] is not None:
            tokens.append(float(token["number"]))
    stream = iter(tokens)
    if next(stream, None) != "ooTextFile" or next(stream, None) != "TextGrid":
        raise bad("no TextGrid: it should begin with the lines ooTextFile and TextGrid.")
    _number(stream), _number(stream)
    tiers = []
    if re.search(r"<absent>", text[:2000]) is None:
        for _ in range(_count(stream)):
            kind, name = _text(stream), _text(stream)
            if kind not in ("IntervalTier", "TextTier"):
                raise bad(f"the tier '{name[:40]}' is of the kind '{kind[:40]}'; IntervalTier or TextTier was wanted.")
            _number(stream), _number(stream)
            tier = Tier(name)
            for _ in range(_count(stream)):
                start = _number(stream)
                end = _number(stream) if kind == "IntervalTier" else start
                said = _text(stream)
                if kind == "IntervalTier" and said.strip():
                    first, last = spanned(start, end, f"an interval of the tier '{name[:40]}'")
                    tier.intervals.append((first, last or 0.0, said))
            tier.intervals.sort()
            tiers.append(tier)
    if next(stream, None) is not None:
        raise bad("more stands in it than the number of its tiers and intervals says.")
    return cues_of(tiers)


def _number(stream: Iterator[str | float]) -> float:
    number = next(stream, None)
    if not isinstance(number, float) or abs(number) > 1e7:
        raise bad(f"a number of seconds was wanted, found {str(number)[:40]!r}; is the TextGrid cut short?")
    return number


def _count(stream: Iterator[str | float]) -> int:
    return int(_number(stream))


def _text(stream: Iterator[str | float]) -> str:
    text = next(stream, None)
    if not isinstance(text, str):
        raise bad(f"a text in quotes was wanted, found {str(text)[:40]!r}; is the TextGrid cut short?")
    return text


def from_eaf(text: str) -> list[Cue]:
    """ELAN's EAF: the annotations on the time line of the tiers that depend on none, and of tiers of words."""
    slots: dict[str, float | None] = {}
    tiers: list[Tier] = []
    in_tier = False
    for event, element in xml_events(text):
        name = name_of(element)
        if event == "start" and name == "TIER":
            tier_id = attribute(element, "TIER_ID") or ""
            in_tier = attribute(element, "PARENT_REF") is None or _WORDS.fullmatch(tier_id) is not None
            if in_tier:
                tiers.append(Tier(tier_id, attribute(element, "PARTICIPANT") or None))
        elif event == "start" and name == "TIME_SLOT":
            value = attribute(element, "TIME_VALUE")
            if value is not None and not re.fullmatch(r"\d{1,12}", value):
                raise bad(f"the time '{value[:40]}' is not understood; milliseconds were wanted.")
            slots[attribute(element, "TIME_SLOT_ID") or ""] = None if value is None else int(value) / 1000
        elif event == "end" and name == "TIME_ORDER":
            slots = _interpolated(slots)
        elif event == "end" and name == "ALIGNABLE_ANNOTATION" and in_tier:
            said = next(("".join(c.itertext()) for c in element if name_of(c) == "ANNOTATION_VALUE"), "")
            ends = [slots.get(attribute(element, f"TIME_SLOT_REF{n}") or "") for n in (1, 2)]
            if said.strip():
                if ends[0] is None or ends[1] is None:
                    raise bad(f"the annotation {said.strip()[:40]!r} has no times.")
                start, end = spanned(ends[0], ends[1], f"the annotation {said.strip()[:40]!r}")
                tiers[-1].intervals.append((start, end or 0.0, said))
    for tier in tiers:
        tier.intervals.sort()
    return cues_of(tiers)


def _interpolated(slots: dict[str, float | None]) -> dict[str, float | None]:
    """ELAN leaves the times between chained annotations open; they lie evenly between the known ones."""
    names, known = list(slots), [n for n, value in enumerate(slots.values()) if value is not None]
    times = dict(slots)
    for left, right in itertools.pairwise(known):
        first, last = slots[names[left]], slots[names[right]]
        assert first is not None and last is not None
        for n in range(left + 1, right):
            times[names[n]] = round(first + (last - first) * (n - left) / (right - left), 3)
    return times
