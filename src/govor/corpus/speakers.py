"""`Name: words`: a name before a colon at the beginning of a cue or line says who speaks, and is not said itself.

The rule, `speaker_prefix`: a name is up to three words, each of which begins with a capital (or is written in letters
that have none) or with a digit. It is a speaker's where a sentence follows, begun with a capital, and none is open before
it, or where at least two lines of the file begin so and either the name comes again or half of the lines do. What was
taken for a name is counted. A name in a line of its own belongs to the words that follow.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from govor.corpus.cues import Cue

# Vowel signs, points and accents that are written apart are no `\w`; a name may have quotes inside (ד"ר).
_MARKS = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
_LETTER = rf"(?:[\w.'’״׳{_MARKS}-]|(?<=\w)\"(?=\w))"
_NAME = rf"(?P<dash>(?:[-–—]|>>)\s*)?[\[(]?(?P<name>[^\W\d_]{_LETTER}{{0,30}}(?: {_LETTER}{{1,30}}){{0,2}})[\])]?"
_PREFIX = re.compile(rf"{_NAME}(?: ?:\s+|\s?：\s*)(?P<said>\S.*)", re.DOTALL)
_ALONE = re.compile(rf"{_NAME} ?[:：]")
NO_PREFIX = "\u2060"  # a word joiner before the colon: the words before it are said
_SENTENCE_ENDS = tuple('.?!…"”»’)。！？」』؟۔।')
_OPENING = "\"'„“”»«‘’¿¡([–—-… \t"


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    said: str
    begun: bool  # no sentence is open before it
    sure: bool


def kept_together(text: str) -> str:
    """A text whose first words could be taken for a speaker's name, with a mark that nobody sees and that says they are not."""
    match = _PREFIX.fullmatch(text.strip())
    return text if match is None else re.sub(r"[:：]", rf"{NO_PREFIX}\g<0>", text, count=1)


def split_speakers(cues: Sequence[Cue], counts: Counter[str]) -> list[Cue]:
    """Cues with the speakers that prefixes name; where two speak in one cue, there is one for each, at the same time."""
    prefixes: dict[tuple[int, int], _Named] = {}
    cues = [replace(cue, lines=tuple(_joined(cue.lines))) for cue in cues]
    for number, cue in enumerate(cues):
        for place, line in enumerate(cue.lines if cue.speaker is None else ()):
            answers = (number, place - 1) in prefixes and cue.lines[place - 1].endswith(_SENTENCE_ENDS)
            named = _named(line, place == 0 or answers)
            if named is not None:
                prefixes[number, place] = named
    taken = _taken(prefixes, sum(1 for cue in cues for _ in cue.lines), len(cues))
    made: list[Cue] = []
    for number, cue in enumerate(cues):
        groups: list[tuple[str | None, list[str]]] = [(cue.speaker, [])]
        for place, line in enumerate(cue.lines):
            named = taken.get((number, place))
            if named is not None:
                counts[named.name] += 1
                groups.append((named.name, [named.said]))
            else:
                groups[-1][1].append(line)
        spoken = [group for group in groups if group[1]] or groups[:1]
        for speaker, lines in spoken:
            words = cue.words if len(spoken) == 1 and len(groups) == 1 else ()
            made.append(replace(cue, speaker=speaker, lines=tuple(lines), words=words))
    return made


def without_prefixes(lines: Sequence[str], counts: Counter[str]) -> list[str]:
    """Lines of a text without times, the names before their words left out."""
    joined = _joined([line.strip() for line in lines if line.strip()])
    prefixes = {
        (number, 0): named
        for number, line in enumerate(joined)
        if (named := _named(line, number == 0 or joined[number - 1].endswith(_SENTENCE_ENDS))) is not None
    }
    taken = _taken(prefixes, len(joined), len(joined))
    counts.update(named.name for named in taken.values())
    return [taken[number, 0].said if (number, 0) in taken else line for number, line in enumerate(joined)]


def _joined(lines: Sequence[str]) -> list[str]:
    """A name that has a line of its own stands in one with the words that follow."""
    made: list[str] = []
    for line in lines:
        alone = _ALONE.fullmatch(made[-1]) if made else None
        if alone and all(map(_begins_a_name, alone["name"].split())):
            made[-1] = f"{made[-1]} {line}"
        else:
            made.append(line)
    return made


def _named(line: str, first: bool) -> _Named | None:
    match = _PREFIX.fullmatch(line.strip())
    if match is None:
        return None
    name, said = " ".join(match["name"].split()), match["said"]
    if not all(_begins_a_name(word) for word in name.split()) or said[0].isdigit() or said.startswith("//"):
        return None
    begins = said.lstrip(_OPENING)[:1]
    cased = unicodedata.category(name[0]) in ("Lu", "Lt")
    begun = bool(first or match["dash"])
    return _Named(name, said, begun, begun and cased and unicodedata.category(begins or " ") in ("Lu", "Lt"))


def _begins_a_name(word: str) -> bool:
    return unicodedata.category(word[0]) in ("Lu", "Lt", "Lo", "Nd")


def _taken(prefixes: dict[tuple[int, int], _Named], lines: int, cues: int) -> dict[tuple[int, int], _Named]:
    names = Counter(named.name for named in prefixes.values())
    begun = sum(named.begun for named in prefixes.values())
    most = begun > 1 and 2 * begun >= cues
    many = len(prefixes) > 1 and 2 * len(prefixes) >= lines
    return {
        place: named
        for place, named in prefixes.items()
        if named.sure or many or (most and named.begun) or names[named.name] > 1
    }


_VOICE = r"(?:speaker|unknown|spk|govornik|govornica|sprecher|locuteur|interviewer|voice)"
_LABEL = re.compile(rf".*\d|.|{_VOICE}", re.IGNORECASE)
_DIARISED = re.compile(rf"{_VOICE}[ _-]*\d{{0,3}}", re.IGNORECASE)


def is_person(name: str) -> bool:
    """Whether a speaker's name tells people of different recordings apart; SPEAKER_00 stands for somebody else in each."""
    return _LABEL.fullmatch(name.strip()) is None


def is_diarised(name: str) -> bool:
    """Whether a name is what diarisation calls a voice, counted anew in each recording (SPEAKER_00, spk_1). Narrower than
    `is_person` is wide: a code such as `p225` or `F01` may well be one person everywhere."""
    return _DIARISED.fullmatch(name.strip()) is not None


def one_person(names: Iterator[str | None] | Sequence[str | None]) -> str | None:
    """The person who says everything, if it is one."""
    people = {*names}
    only = next(iter(people)) if len(people) == 1 else None
    return only if only is not None and is_person(only) else None
