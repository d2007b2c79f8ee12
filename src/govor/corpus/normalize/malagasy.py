"""Malagasy: the apostrophe is part of the word (amin'ny, ho an'ny), and n̈ is a letter of its own."""

from __future__ import annotations

import re

from govor.corpus.normalize.rules import Rule

_SIGNS = "'\u2018\u2019\u201b\u02bc\u02bb\u02b9\u2032`\u00b4\uff07"
_APOSTROPHE = re.compile(rf"(?<=\w)[{_SIGNS}](?=\w)")
_ARTICLES = "ny|i|ilay|io|izany|ity|itony|ireo|izao|izay|izy"
# `an'` and `amin'` never stand alone; behind other words that end in n only an article tells the sign from a quote.
_SPACED_APOSTROPHE = re.compile(
    rf"(?<=n)\s*[{_SIGNS}]\s+(?=(?:{_ARTICLES})\b)|(?<=\ban)\s*[{_SIGNS}]\s+(?=[^\W\d_])|(?<=\bamin)\s*[{_SIGNS}]\s+(?=[^\W\d_])"
    rf"|(?<=\b[ah]n)\s+[{_SIGNS}](?=(?:{_ARTICLES})\b)|(?<=\bamin)\s+[{_SIGNS}](?=(?:{_ARTICLES})\b)",
    re.IGNORECASE,
)
_LOOSE_DIAERESIS = re.compile("(?<=[nN])\u00a8")


def apostrophes(text: str) -> str:
    """One sign for the apostrophe inside a word; it is never removed."""
    return _APOSTROPHE.sub("'", text)


def spaced_apostrophes(text: str) -> str:
    """`amin' ny` and `amin 'ny` are written amin'ny, whatever the sign."""
    return _SPACED_APOSTROPHE.sub("'", text)


def n_diaeresis(text: str) -> str:
    """`n¨`, typed with a free-standing diaeresis, is the letter n̈."""
    return _LOOSE_DIAERESIS.sub("\u0308", text)


RULES: tuple[Rule, ...] = (
    Rule("malagasy_apostrophes", ("amin’ny", "amin'ny"), apostrophes),
    Rule("malagasy_spaced_apostrophes", ("amin' ny", "amin'ny"), spaced_apostrophes),
    Rule("malagasy_n_diaeresis", ("an\u00a8ila", "an\u0308ila"), n_diaeresis),
)
