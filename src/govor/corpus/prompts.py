"""Studio prompts of a telephone exchange from Debian's packages: some 500 lines each of English, Spanish, French, Italian
and Russian at 8 kHz, with transcripts. CC BY-SA 3.0."""

from __future__ import annotations

import gzip
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from govor.corpus.fillets import check_content, copied
from govor.corpus.manifests import write_clips
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.files import atomic_folder
from govor.hub import cache_folder, unpack_debian

LICENSE = "CC-BY-SA-3.0"
CONTENT_SHA256 = {
    "en": "1a9f98e1ca01c148e4afd8c25963aa6e99e8a70505c0dd800614c28cde81b0f9",
    "es": "8ec2a1dd5a15e0f582814f4013f85ced9f37e9381a5088b2deb42abccd2c1794",
    "fr": "4127002a5727e5ddc757403866c06d382c6174bb2c6d1f11d6e2249769faf051",
    "it": "81166d92272868e6a35dbdc8f4107abc731b175fd39a1d91f8c20cb82fd8ebb2",
    "ru": "daa5c1831b55697766588b7add6b8b8db94bdea0af96bccc0053ba7b0292f67f",
}
_LINE = re.compile(r"(?P<name>[^:;\s][^:]*):\s*(?P<text>.+)")


def prepare(language: str, notify: Callable[[str], None]) -> Path:
    """Fetch the prompts of one language once; returns the path of their manifest.

    Raises:
        UnreachableError: apt cannot fetch the packages.
        GovorError: their content is not the pinned one.
    """
    target = cache_folder() / "corpora" / f"asterisk-{language}"
    manifest = target / "manifest.jsonl"
    if manifest.exists():
        return manifest
    packages = (f"asterisk-core-sounds-{language}", f"asterisk-core-sounds-{language}-wav")
    notify(f"fetching {', '.join(packages)} with apt")
    with atomic_folder(target, "the prompts", shared=True) as folder, tempfile.TemporaryDirectory() as scratch:
        tree = unpack_debian(packages, Path(scratch), "the prompts")
        texts = next(tree.rglob(f"core-sounds-{language}.txt*"), None)
        if texts is None:
            raise GovorError(f"The package asterisk-core-sounds-{language} lacks its list of texts.")
        sounds = next(tree.glob("usr/share/asterisk/sounds/*/"))
        clips = list(_clips(texts, sounds, folder, target, language))
        check_content(folder, ".wav", clips, CONTENT_SHA256[language], f"The package {packages[1]}")
        write_clips(folder / manifest.name, clips)
    return manifest


def _clips(texts: Path, sounds: Path, folder: Path, target: Path, language: str) -> Iterator[Clip]:
    opened = gzip.open if texts.suffix == ".gz" else Path.open
    with opened(texts, "rt", encoding="utf-8", errors="replace") as handle:
        lines = handle.read().splitlines()
    seen: set[str] = set()
    for line in lines:
        match = _LINE.fullmatch(line.strip())
        if match is None or match["name"] in seen or match["text"].startswith(("[", "(")):
            continue
        name = match["name"].strip()
        audio = sounds / f"{name}.wav"
        if not audio.is_file():
            continue
        seen.add(name)
        seconds = copied(audio, folder / "audio" / f"{name}.wav")
        yield Clip(
            id=name,
            audio=str(target / "audio" / f"{name}.wav"),
            transcript=match["text"].strip(),
            duration=round(seconds, 6),
            language=language,
            speaker=sounds.name,
            source=f"asterisk-{language}/{name}",
            license=LICENSE,
        )
