"""Real Czech speech from Debian's packages: the spoken lines of the game Fish Fillets, 1.6 h with transcripts.

Two main speakers and some minor ones (the subtitle font tells them apart); every level is a scene of its own. GPL-2.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from govor.audio import probe
from govor.corpus.manifests import read_clips, write_clips
from govor.corpus.records import Clip
from govor.errors import AudioError, GovorError
from govor.files import atomic_folder, sha256_of, sha256_of_lines
from govor.hub import cache_folder, unpack_debian

PACKAGES = ("fillets-ng-data-cs", "fillets-ng-data")
LICENSE = "GPL-2.0-only"
CONTENT_SHA256 = "6aa52a6915431f51618fc9bc3a1ea746646412fe7224f786b2adc69c51f9aeb7"

_ENTRY = re.compile(
    r'dialogId\(\s*"(?P<id>[^"]+)"\s*,\s*"(?P<font>[^"]*)"[^)]*?\)\s*dialogStr\(\s*"(?P<text>(?:[^"\\]|\\.)*)"\s*\)',
    re.S,
)


def prepare(notify: Callable[[str], None]) -> Path:
    """Fetch the packages once, and write a manifest of the lines that were recorded; returns its path.

    Raises:
        UnreachableError: apt cannot fetch the packages.
        GovorError: their content is not the pinned one.
    """
    target = cache_folder() / "corpora" / "fillets-cs"
    manifest = target / "manifest.jsonl"
    if manifest.exists():
        return manifest
    notify("fetching the Czech speech (110 MB) with apt")
    with atomic_folder(target, "the Czech corpus", shared=True) as folder, tempfile.TemporaryDirectory() as scratch:
        unpack_debian(PACKAGES, Path(scratch), "the Czech speech")
        games = next(Path(scratch).rglob("fillets-ng/sound")).parent
        clips = list(_clips(games, folder, target))
        check_content(folder, ".ogg", clips, CONTENT_SHA256, "The Czech corpus")
        write_clips(folder / manifest.name, clips)
    return manifest


def clips() -> list[Clip]:
    """The fetched corpus."""
    return list(read_clips(cache_folder() / "corpora" / "fillets-cs" / "manifest.jsonl"))


def check_content(folder: Path, suffix: str, clips: Iterable[Clip], wanted: str, what: str) -> None:
    """Refuse fetched speech that is not the pinned one: a digest over ids, transcripts and audio bytes, whatever the packaging.

    Raises:
        GovorError: it is another edition.
    """
    files = ((clip, sha256_of(folder / "audio" / f"{clip.id}{suffix}")) for clip in clips)
    content = sha256_of_lines(f"{clip.id}\t{clip.transcript}\t{digest}" for clip, digest in files)
    if content != wanted:
        raise GovorError(f"{what} has content {content[:16]}…, wanted {wanted[:16]}…; it is another edition.")


def copied(audio: Path, target: Path) -> float:
    """Copy a recording, folders made as needed; returns its seconds, 0 where it cannot be read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(audio, target)
    try:
        return probe(target).duration_seconds
    except AudioError:
        return 0.0


def _clips(games: Path, folder: Path, target: Path) -> Iterator[Clip]:
    for script in sorted((games / "script").glob("*/dialogs_cs.lua")):
        level = script.parent.name
        seen: set[str] = set()
        for entry in _ENTRY.finditer(script.read_text(encoding="utf-8")):
            audio = games / "sound" / level / "cs" / f"{entry['id']}.ogg"
            text = re.sub(r"\\(.)", r"\1", entry["text"]).strip()
            if not audio.exists() or not text or entry["id"] in seen:
                continue
            seen.add(entry["id"])
            duration = copied(audio, folder / "audio" / level / audio.name)
            yield Clip(
                id=f"{level}/{entry['id']}",
                audio=str(target / "audio" / level / audio.name),
                transcript=text,
                duration=round(duration, 6),
                language="cs",
                speaker=entry["font"].removeprefix("font_") or None,
                source=level,
                license=LICENSE,
            )
