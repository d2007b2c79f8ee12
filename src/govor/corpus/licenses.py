"""What may be done with which recordings: the licences we know, a gate before training and publishing, and the list of
who must be named.

A licence is an identifier of `licenses.yaml` (however it is spelled), or `custom:NAME` for one that a team knows to allow
what it does. Anything else is unknown, and unknown recordings are neither trained on nor published.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal

from govor.config import Settings, parse, parse_yaml
from govor.corpus.records import Clip
from govor.errors import GovorError, nearest

UNKNOWN = "unknown"
CUSTOM = "custom:"
Purpose = Literal["train", "publish"]


class License(Settings):
    """What a licence allows here."""

    name: str
    train: bool
    publish: bool
    redistribute: bool
    terms: str = ""


@cache
def known() -> dict[str, License]:
    """The licences we know, by identifier."""
    text = (resources.files("govor.corpus") / "licenses.yaml").read_text(encoding="utf-8")
    known = parse_yaml(text, "licenses.yaml")
    return {name: parse(License, values, f"licenses.yaml: {name}") for name, values in known.items()}


def canonical(stated: str | None) -> str | None:
    """The identifier of a licence however it is spelled (`cc by 4.0`, its URL); `custom:NAME` as it is; None if unknown."""
    if not stated or not stated.strip() or stated.strip().lower() in ("unknown", "none", "n/a", "?"):
        return None
    text = stated.strip()
    if text.lower().startswith(CUSTOM) and len(text) > len(CUSTOM):
        return CUSTOM + text[len(CUSTOM) :].strip()
    return _spellings().get(_folded(text))


def licenses(clips: Iterable[Clip]) -> dict[str, int]:
    """Clips per stated licence, the unknown ones under "unknown"."""
    return dict(Counter(clip.license or UNKNOWN for clip in clips).most_common())


@dataclass
class Gate:
    """Collects licences row by row, then says whether a purpose is allowed."""

    purpose: Purpose
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def see(self, stated: str | None, clip_id: str, count: int = 1) -> None:
        """The next row, or `count` rows under one licence."""
        name = canonical(stated)
        allowed = name is not None and (name.startswith(CUSTOM) or bool(getattr(known()[name], self.purpose)))
        if not allowed:
            key = stated or UNKNOWN
            self.refused[key] += count
            self.examples.setdefault(key, clip_id)

    def check(self, where: str) -> None:
        """Raise where rows are refused, naming how many, one of them, and the way out."""
        if not self.refused:
            return
        reasons = "; ".join(self._reason(name, count) for name, count in self.refused.most_common(3))
        verb = {"train": "trained on", "publish": "published"}[self.purpose]
        raise GovorError(
            f"{sum(self.refused.values())} clips of {where} may not be {verb}: {reasons}. State a licence with "
            f"govor licenses MANIFEST --state LICENSE (own for your own recordings, custom:NAME for one you know to allow "
            "it), or leave them out."
        )

    def _reason(self, name: str, count: int) -> str:
        example = f"for example '{self.examples[name]}'"
        if name == UNKNOWN:
            return f"{count} have no licence ({example})"
        if canonical(name) is None:
            return f"{count} have the unknown licence '{name}' ({example}; {nearest(name, known())})"
        return f"{count} are under {name}, which forbids it ({example})"


def gate(clips: Iterable[Clip], purpose: Purpose, where: str) -> None:
    """Refuse clips whose licence is unknown or forbids `purpose`.

    Raises:
        GovorError: some are refused; names them and how to state a licence.
    """
    checked = Gate(purpose)
    for clip in clips:
        checked.see(clip.license, clip.id)
    checked.check(where)


def gate_counts(counts: dict[str, int], purpose: Purpose, where: str) -> None:
    """The same from counts per licence, which is what a run records."""
    checked = Gate(purpose)
    for stated, count in counts.items():
        checked.see(None if stated == UNKNOWN else stated, where, count)
    checked.check(where)


def document(clips: Iterable[Clip]) -> str:
    """`DATA_LICENSES.md`: what each dataset is under, how much of it there is, and what that asks for."""
    sums: dict[tuple[str, str, str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    for clip in clips:
        dataset = str(clip.extra.get("dataset") or "(not stated)")
        url = str(clip.extra.get("source_url") or "")
        site = "/".join(url.split("/")[:3])
        entry = sums[(clip.license or UNKNOWN, dataset, site, clip.extra_terms or "")]
        entry[0] += 1
        entry[1] += clip.duration / 3600
    lines = [
        "# Licences of the recordings",
        "",
        "| licence | dataset | from | clips | hours | asks for |",
        "|---|---|---|---|---|---|",
    ]
    for (stated, dataset, site, extra), (count, hours) in sorted(sums.items()):
        entry_terms = "; ".join(part for part in (_terms(stated), extra) if part)
        cells = (stated, dataset, site, f"{count:.0f}", f"{hours:.2f}", entry_terms)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    quarantined = sum(int(count) for (stated, *_), (count, _) in sums.items() if canonical(stated) is None)
    if quarantined:
        lines += [
            "",
            f"**{quarantined} clips are quarantined**: without a known licence they are neither trained on nor published.",
        ]
    return "\n".join(lines) + "\n"


def summary(clips: Iterable[Clip]) -> dict[str, dict[str, Any]]:
    """Clips and hours per licence, with what it allows."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for clip in clips:
        counts[clip.license or UNKNOWN][0] += 1
        counts[clip.license or UNKNOWN][1] += clip.duration / 3600
    result: dict[str, dict[str, Any]] = {}
    for stated, (count, hours) in sorted(counts.items(), key=lambda item: -item[1][0]):
        name = canonical(stated)
        allowed = {"train": False, "publish": False} if name is None else {"train": True, "publish": True}
        if name in known():
            allowed = {"train": known()[name].train, "publish": known()[name].publish}
        result[stated] = {"clips": int(count), "hours": round(hours, 3), **allowed}
    return result


def _terms(stated: str) -> str:
    name = canonical(stated)
    if name is None:
        return "unknown: state it"
    return known()[name].terms if name in known() else "as agreed by the team"


@cache
def _spellings() -> dict[str, str]:
    spellings = {_folded(name): name for name in known()}
    for name in known():
        if name.startswith("CC-BY"):
            kind, version = name[3:].lower().rsplit("-", 1)
            for scheme in ("https", "http"):
                for tail in ("", "/", "/legalcode", "/deed.en"):
                    spellings[_folded(f"{scheme}://creativecommons.org/licenses/{kind}/{version}{tail}")] = name
    spellings |= {
        _folded(text): name
        for text, name in (
            ("cc0", "CC0-1.0"),
            ("cc-zero", "CC0-1.0"),
            ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
            ("pd", "public-domain"),
            ("gpl-2", "GPL-2.0-only"),
            ("gpl-2.0", "GPL-2.0-only"),
            ("gpl-3.0", "GPL-3.0-only"),
            ("apache 2", "Apache-2.0"),
            ("ivrit", "ivrit.ai"),
            ("ivrit.ai license", "ivrit.ai"),
            ("mine", "own"),
        )
    }
    return spellings


def _folded(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
