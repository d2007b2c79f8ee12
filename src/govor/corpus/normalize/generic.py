"""Rules that are right for every language. Each is idempotent, joins no words and deletes no letter or mark that was said."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from govor.corpus.alike import normal_form
from govor.corpus.normalize.rules import Rule

# What transcribers write in round brackets for sounds that are not words. Anything else in brackets was said.
_SOUNDS = (
    "laughs?|laughter|laughing|chuckles?|giggles?|music|applause|clapping|cheers?|cheering|noises?|background noise|inaudible|"
    "unintelligible|indistinct|coughs?|coughing|sighs?|sniffs?|sneezes?|breath|breathing|inhales?|exhales?|silence|pause|"
    "crosstalk|static|beep|cries|crying|sobs?|whispers?|whispering|singing|clears throat|phone rings|"
    "smijeh|smeh|smije se|smeje se|muzika|glazba|aplauz|pljesak|nerazumljivo|nejasno|buka|šum|kašalj|kašlje|uzdah|uzdiše|tišina|pauza|"
    "смех|смеје се|музика|аплауз|неразумљиво|нејасно|бука|шум|кашаљ|уздах|тишина|пауза|"
    "צחוק|צוחק|צוחקת|צוחקים|מוזיקה|מחיאות כפיים|לא ברור|לא נשמע|רעש|שיעול|משתעל|אנחה|שתיקה|הפסקה|"
    "mihomehy|hehy|mozika|tehaka|tsy mazava|tabataba|mikohaka|fahanginana|"
    "smích|hudba|potlesk|nesrozumitelné|rires?|musique|applaudissements|risas?|música|aplausos|lachen|musik|applaus"
)
_DIRECTION_MARKS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\u00ad]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_BRACKETS = re.compile(r"[\[\]]")
_TAGS = re.compile(r"</?[a-zA-Z_]+/?>|[♪♫♬♩]+")
_NOTE_SIGNS = re.compile(r"<\||\|>|[<>|]")
_ROUND_SIGNS = re.compile(r"[(*)]")
_ONLY_SOUNDS = re.compile(rf"\s*(?:{_SOUNDS})(?:\s*[,;/]\s*(?:{_SOUNDS}))*\s*(?:[.…!]+\s*)?", re.IGNORECASE)
_REPEATED = re.compile(r"([!?,;:。、؟،])\1+|(?<!\.)(\.)\.(?!\.)|(\.{4,})")
_SPACES = re.compile(r"[\s\u200b\u00a0\u2028\u2029]+")
_SPACE_BEFORE = re.compile(r"(?<!\s)\s+([,.!?;:…])(?=\s|$)")


def unicode_nfc(text: str) -> str:
    """Composed letters; what has no composed form (Malagasy n̈) keeps its mark."""
    return normal_form("NFC", text)


def direction_marks(text: str) -> str:
    """Invisible marks of writing direction, byte-order marks and soft hyphens, which stand inside words."""
    return _DIRECTION_MARKS.sub("", text)


def control_characters(text: str) -> str:
    """Control characters; a space stands in, since they may part words."""
    return _CONTROLS.sub(" ", text)


def remarks(text: str) -> str:
    """Square brackets, tags and notes always; round brackets only around a sound that is known not to be speech.

    What stands inside of what goes too. Each sign is looked at once: a hundred thousand brackets are no reason to wait.
    """
    text = _without_enclosed(text, _BRACKETS, "[", "]", lambda inner: True)
    text = _without_enclosed(_TAGS.sub(" ", text), _NOTE_SIGNS, ("<|",), ("|>",), lambda inner: True)
    return _without_enclosed(text, _ROUND_SIGNS, "(*", "*)", lambda inner: _ONLY_SOUNDS.fullmatch(inner) is not None)


def _without_enclosed(
    text: str, signs: re.Pattern[str], opening: Collection[str], closing: Collection[str], goes: Callable[[str], bool]
) -> str:
    """A space for every innermost pair of signs whose inside `goes`, and again for what is innermost then.

    A sign that stays makes all that stands around it stay.
    """
    pieces: list[str] = []
    opened: list[int] = []
    at = 0
    for match in signs.finditer(text):
        pieces.append(text[at : match.start()])
        at = match.end()
        sign = match[0]
        if sign in closing and opened and goes("".join(pieces[opened[-1] + 1 :])):
            del pieces[opened.pop() :]
            pieces.append(" ")
            continue
        if sign in opening:
            opened.append(len(pieces))
        else:
            opened.clear()
        pieces.append(sign)
    return "".join([*pieces, text[at:]])


def repeated_punctuation(text: str) -> str:
    """`!!` is one mark; two dots are one, four and more are three."""
    return _REPEATED.sub(lambda match: match[1] or match[2] or "...", text)


def spaces(text: str) -> str:
    """One plain space between words, none around."""
    return _SPACES.sub(" ", text).strip()


def space_before_punctuation(text: str) -> str:
    """No space before a mark that closes."""
    return _SPACE_BEFORE.sub(r"\1", text)


FIRST: tuple[Rule, ...] = (
    Rule("unicode_nfc", ("s\u030c", "š"), unicode_nfc),
    Rule("direction_marks", ("שלום\u200f", "שלום"), direction_marks),
    Rule("control_characters", ("a\x07b", "a b"), control_characters),
    Rule("annotations", ("a [music] b (laughs)", "a   b  "), remarks),
)
LAST: tuple[Rule, ...] = (
    Rule("repeated_punctuation", ("what??", "what?"), repeated_punctuation),
    Rule("spaces", ("a \u00a0 b", "a b"), spaces),
    Rule("space_before_punctuation", ("yes .", "yes."), space_before_punctuation),
)
RULES: tuple[Rule, ...] = FIRST + LAST
