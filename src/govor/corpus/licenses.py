"""Which licences a set of clips carries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from govor.corpus.records import Clip

UNKNOWN = "unknown"


def licenses(clips: Iterable[Clip]) -> dict[str, int]:
    """Clips per stated licence, the unknown ones under "unknown"."""
    return dict(Counter(clip.license or UNKNOWN for clip in clips).most_common())
