"""The language guess on sentences it has not seen: messages of desktop programs, translated by people, from Debian.

Messages of 20 letters and more, without mark-up and place-holders, from several programs. The thresholds of
`govor.corpus.language` are set on the messages of one half of the programs; the table is of the other half.
"""

from __future__ import annotations

import gettext
import re
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from bench.results import Asked, Figure
from govor.corpus import language
from govor.hub import unpack_debian

PACKAGES = (
    "libglib2.0-data",
    "file-roller",
    "evince-common",
    "nautilus-data",
    "gedit-common",
    "totem-common",
    "libgtk-3-common",
)
JUDGED = frozenset({"evince", "nautilus", "totem", "gtk30"})
FOLDERS = {"he": "he", "sr": "sr", "sr@latin": "sr", "hr": "bs/hr", "bs": "bs/hr", "mg": "mg"}
OTHERS = (
    "cs",
    "sk",
    "sl",
    "mk",
    "bg",
    "ru",
    "uk",
    "pl",
    "en_GB",
    "fr",
    "de",
    "it",
    "es",
    "pt",
    "nl",
    "hu",
    "ro",
    "tr",
    "ar",
    "fa",
    "el",
    "id",
    "sv",
    "fi",
    "vi",
)
MOST = 400
BCS = ("sr", "bs/hr")
_NOISE = re.compile(r"<[^>]*>|%[-\w.$]*|\{[^}]*\}|&\w+;|[_~]|https?:\S+|\S+\.\S+\.\S+")


def sentences(file: Path) -> list[str]:
    """Translated messages of one catalogue that are sentences."""
    with file.open("rb") as handle:
        catalogue = gettext.GNUTranslations(handle)
    found = []
    for original, text in catalogue._catalog.items():  # type: ignore[attr-defined]
        if not isinstance(original, str) or not original or text == original or "\n" in text or _NOISE.search(text):
            continue
        letters = sum(letter.isalpha() for letter in text)
        if letters >= 20 and " " in text.strip():
            found.append(text)
    return sorted(set(found))


def collect(tree: Path) -> dict[bool, dict[str, list[str]]]:
    """Sentences by half (True is judged) and true language; at most MOST of each."""
    generator = np.random.default_rng(0)
    halves: dict[bool, dict[str, list[str]]] = {True: defaultdict(list), False: defaultdict(list)}
    for folder in (*FOLDERS, *OTHERS):
        for judged in (False, True):
            texts = [
                text
                for file in sorted(tree.glob(f"usr/share/locale/{folder}/LC_MESSAGES/*.mo"))
                if (file.stem in JUDGED) is judged
                for text in sentences(file)
            ]
            chosen = generator.permutation(len(texts))[:MOST]
            name = f"{FOLDERS.get(folder, folder.split('_')[0])}" + (" (Latin)" if folder == "sr@latin" else "")
            halves[judged][name] += [texts[i] for i in chosen]
    return halves


def table(texts: dict[str, list[str]]) -> dict[str, Counter[str]]:
    """What each language's sentences were taken for."""
    return {name: Counter(language.guess(text) for text in group) for name, group in texts.items()}


def main(_: Asked) -> list[Figure]:
    """The curve of the first half and the table of the second."""
    with tempfile.TemporaryDirectory() as scratch:
        halves = collect(unpack_debian(PACKAGES, Path(scratch), "translated messages"))
    shipped = language.MIN_PROBABILITY
    for least in (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        language.MIN_PROBABILITY = least
        right, wrong, unknown = totals(table(halves[False]))
        print(f"first half, probability >= {least:.2f}: right {right:.3f}  wrong {wrong:.3f}  unknown {unknown:.3f}")
    language.MIN_PROBABILITY = shipped
    judged = table(halves[True])
    right, wrong, unknown = totals(judged)
    print(f"\nsecond half, as shipped ({shipped}): right {right:.3f}  wrong {wrong:.3f}  unknown {unknown:.3f}\n")
    figures = [
        Figure("right, second half as shipped", right, "share"),
        Figure("wrong, second half as shipped", wrong, "share", "lower"),
        Figure("unknown, second half as shipped", unknown, "share", "lower"),
    ]
    print("| written in | sentences | right | bs/hr/sr | unknown | wrong, as |\n|---|---|---|---|---|---|")
    for name, counts in judged.items():
        total = sum(counts.values())
        if not total:
            continue
        truth = name.split()[0]
        figures.append(Figure(f"right, {name}", counts[truth] / total, "share"))
        open_ended = ("unknown", language.ANY_BCS) if truth in BCS else ("unknown",)
        mistakes = {k: v for k, v in counts.most_common() if k not in (truth, *open_ended)}
        shown = ", ".join(f"{k} {v}" for k, v in list(mistakes.items())[:4])
        print(
            f"| {name} | {total} | {counts[truth] / total:.1%} | {counts[language.ANY_BCS] / total:.1%} | {counts['unknown'] / total:.1%} | {sum(mistakes.values()) / total:.1%} {shown} |"
        )
    return figures


def totals(judged: dict[str, Counter[str]]) -> tuple[float, float, float]:
    """Shares right, wrong and unknown over all sentences."""
    total = sum(sum(counts.values()) for counts in judged.values())
    right = sum(counts[name.split()[0]] for name, counts in judged.items())
    right += sum(counts[language.ANY_BCS] for name, counts in judged.items() if name.split()[0] in BCS)
    unknown = sum(counts["unknown"] for counts in judged.values())
    return right / total, (total - right - unknown) / total, unknown / total
