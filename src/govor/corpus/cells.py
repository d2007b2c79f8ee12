"""Texts in cells of a table that a spreadsheet opens.

A cell that begins with `=`, `+`, `-` or `@` is run as a formula there, and control characters are obeyed by the terminal
that shows the file. Such a text gets an apostrophe before it, as spreadsheets mark plain text, and its control characters
are written out; `from_cell` gives the text back.
"""

from __future__ import annotations

import re

from govor.corpus.records import Row

_MARK = "'"
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", _MARK, "\t", "\r", "\n")
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0d\x0e-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_WRITTEN = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(\\))")


def to_cell(value: object) -> object:
    """A value as a cell; numbers stay numbers."""
    if not isinstance(value, str) or not (value.lstrip(" ").startswith(_FORMULA) or _CONTROL.search(value)):
        return value
    escaped = _CONTROL.sub(lambda match: _escaped(match[0]), value.replace("\\", "\\\\"))
    return f"{_MARK}{escaped}"


def from_cell(text: str) -> str:
    """The text that `to_cell` wrote."""
    if not text.startswith(_MARK):
        return text

    def letter(match: re.Match[str]) -> str:
        return match[3] or chr(int(match[1] or match[2], 16))

    return _WRITTEN.sub(letter, text[1:])


def from_cells(row: Row) -> Row:
    """The texts of a row that `to_cell` wrote."""
    return {key: from_cell(value) if isinstance(value, str) else value for key, value in row.items()}


def _escaped(letter: str) -> str:
    return f"\\x{ord(letter):02x}" if ord(letter) < 0x100 else f"\\u{ord(letter):04x}"
