"""Hebrew: vowel points off, maqaf apart, one way to write geresh and gershayim.

U+0591–U+05C7 holds marks (category Mn) and punctuation: deleting the range turns בית־ספר into one word. Only marks go.
"""

from __future__ import annotations

import re
import unicodedata

from govor.corpus.normalize.rules import Rule

_LETTER = "[\u05d0-\u05ea]"
_MARKS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\ufb1e\u034f]")
_SEPARATORS = re.compile("[\u05be\u05c0\u05c6]")
_SOF_PASUQ = re.compile("\u05c3")
_PRESENTATION = re.compile("[\ufb1d-\ufb4f]")
_SINGLE = "\u05f3\u2018\u2019\u201b\u02bc\u02bb\u02b9\u2032\u2035`\u00b4\uff07"
_GERSHAYIM = re.compile(
    f"(?<={_LETTER})(?:[\u05f4\u201c\u201d\u201e\u201f\u2033\u2036\u02ba\u02ee\uff02]|['{_SINGLE}]{{2}})(?={_LETTER})"
)
_GERESH = re.compile(f"(?<={_LETTER})[{_SINGLE}]")


def presentation_forms(text: str) -> str:
    """Letters with built-in points and wide letters as plain letters and marks."""
    return _PRESENTATION.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)


def niqqud(text: str) -> str:
    """Vowel points and cantillation: marks only."""
    return _MARKS.sub("", text)


def maqaf(text: str) -> str:
    """The Hebrew hyphen and the paseq part words."""
    return _SEPARATORS.sub(" ", text)


def sof_pasuq(text: str) -> str:
    """The end of a verse is a full stop."""
    return _SOF_PASUQ.sub(". ", text)


def gershayim(text: str) -> str:
    """Inside a word (צה״ל) every double mark is the ASCII quote."""
    return _GERSHAYIM.sub('"', text)


def geresh(text: str) -> str:
    """After a letter (ג׳) every single mark is the ASCII apostrophe; so is a lone U+05F3 or U+05F4 its ASCII form."""
    return _GERESH.sub("'", text).replace("\u05f3", "'").replace("\u05f4", '"')


RULES: tuple[Rule, ...] = (
    Rule("hebrew_presentation_forms", ("\ufb2aלום", "ש\u05c1לום"), presentation_forms),
    Rule("hebrew_niqqud", ("שָׁלוֹם", "שלום"), niqqud),
    Rule("hebrew_maqaf", ("בית־ספר", "בית ספר"), maqaf),
    Rule("hebrew_sof_pasuq", ("הארץ׃", "הארץ. "), sof_pasuq),
    Rule("hebrew_gershayim", ("צה״ל", 'צה"ל'), gershayim),
    Rule("hebrew_geresh", ("ג׳ירפה", "ג'ירפה"), geresh),
)
