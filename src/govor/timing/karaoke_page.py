"""One page that plays a recording and lights up each word as it is said. It holds everything: text, times, audio."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined

from govor.audio import SAMPLE_RATE, decode
from govor.corpus.normalize.bcs import script_of, to_cyrillic, to_latin
from govor.errors import GovorError
from govor.files import write_text
from govor.jsons import script_json
from govor.languages import is_bcs
from govor.timing.subtitles import right_to_left
from govor.timing.words import Line

# What browsers play as it is; anything else is put into the page as FLAC.
_TYPES = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp4": "audio/mp4",
    ".webm": "audio/webm",
}
MAX_PAGE_BYTES = 200_000_000


def write_page(
    target: Path, audio: Path, lines: Sequence[Line], title: str, language: str | None, approximate: bool
) -> None:
    """Write the page.

    Raises:
        GovorError: no word has a time, or the audio is too large for one page.
    """
    if not any(line.start is not None for line in lines):
        raise GovorError(f"No word of {title} has a time, so there is nothing to light up.")
    environment = Environment(
        loader=PackageLoader("govor.timing", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("karaoke.html").render(
        title=title,
        language=language or "und",
        direction="rtl" if right_to_left(" ".join(line.text for line in lines)) else "ltr",
        audio=_embedded(audio),
        lines=script_json([_row(line, language) for line in lines]),
        scripts=_scripts(lines) if is_bcs(language) else [],
        approximate=approximate,
    )
    write_text(target, page)


def _row(line: Line, language: str | None) -> list[list[object]]:
    """[text, start, end, space before, the text in the other script] of each word, times in milliseconds."""
    rows = []
    for word in line.words:
        start = None if word.start is None else round(word.start * 1000)
        end = None if word.end is None else round(word.end * 1000)
        row: list[object] = [word.text, start, end, int(word.space)]
        if is_bcs(language):
            row += [to_latin(word.text), to_cyrillic(word.text)]
        rows.append(row)
    return rows


def _scripts(lines: Sequence[Line]) -> list[str]:
    """Both scripts, the one that the text is written in first."""
    latin_first = script_of(" ".join(line.text for line in lines)) != "cyrillic"
    return ["latin", "cyrillic"] if latin_first else ["cyrillic", "latin"]


def _embedded(audio: Path) -> str:
    kind = _TYPES.get(audio.suffix.lower())
    if kind is not None:
        content = audio.read_bytes()
    else:
        import io

        buffer, kind = io.BytesIO(), "audio/flac"
        soundfile.write(buffer, decode(audio), SAMPLE_RATE, format="FLAC")
        content = buffer.getvalue()
    if len(content) > MAX_PAGE_BYTES:
        raise GovorError(
            f"{audio} has {len(content) / 1e6:,.0f} MB and a page holds {MAX_PAGE_BYTES / 1e6:,.0f} MB; convert it to mp3 or opus."
        )
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
