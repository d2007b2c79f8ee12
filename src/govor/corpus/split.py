"""Train, validation and test such that nothing a model could remember crosses, with a proof that counts it.

A manifest is read once, and only what dividing needs is kept: some numbers a row. The clips themselves are read again
when the parts are written.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from govor.config import Settings
from govor.corpus.groups import KINDS, LENGTH_EDGES_SECONDS, Codes, Table, groups_of
from govor.corpus.manifests import Manifest, rejected, row_writer
from govor.corpus.records import Clip, Row
from govor.corpus.samples import fits_window
from govor.errors import GovorError
from govor.files import atomic_folder, refuse_existing
from govor.jsons import write_json
from govor.runs import Workspace, check_name, plain_name

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
# An interval resampled over groups needs at least this many of them.
WANTED_GROUPS = 10
# How far the lengths and classes of a held-out part may be from those of the whole (total variation distance), at least;
# a small part may be as far as twice what chance alone does.
MAX_SKEW = 0.05
_DEALS = 40
_DROPPED = 3


class SplitSettings(Settings):
    """How a manifest is divided."""

    validation_share: float = Field(0.1, ge=0, lt=1, description="share of the hours held out to steer training")
    test_share: float = Field(0.1, gt=0, lt=1, description="share of the hours held out to judge")
    seed: int = Field(0, description="which of the possible divisions")
    allow_overlap: tuple[Literal["speaker", "source"], ...] = Field((), description="kinds of group that may cross")

    @model_validator(mode="after")
    def _leaves_training(self) -> SplitSettings:
        if self.validation_share + self.test_share >= 0.9:
            raise ValueError("validation and test together leave less than a tenth for training")
        return self


@dataclass
class Division:
    """Which part each row of the manifest is in, what was dropped from it and why, and the proof."""

    clips: Sequence[Clip]
    order: Codes
    part_of: npt.NDArray[np.uint8]
    reasons: dict[int, str]
    proof: Row = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[Clip, Part | None, str | None]]:
        """Every clip once more in the order of the ids, with its part, or with the rule that dropped it."""
        for number in map(int, self.order):
            clip = self.clips[number]
            code = int(self.part_of[number])
            if code == _DROPPED:
                yield clip, None, self.reasons[number]
            else:
                yield clip.replace(split=PARTS[code]), PARTS[code], None

    @cached_property
    def parts(self) -> dict[Part, list[Clip]]:
        """All clips by part, in the order of their ids: for small corpora."""
        parts: dict[Part, list[Clip]] = {part: [] for part in PARTS}
        for clip, part, _ in self.rows():
            if part is not None:
                parts[part].append(clip)
        return parts

    @property
    def dropped(self) -> list[tuple[Clip, str]]:
        """Clips that are in no part, with the rule."""
        return [(clip, reason) for clip, _, reason in self.rows() if reason is not None]

    @property
    def clean(self) -> bool:
        """Whether no kind of overlap was counted."""
        return not any(count for pair in self.proof["overlaps"].values() for count in pair.values())


def split_file(
    workspace: Workspace, source: Path, settings: SplitSettings, name: str | None = None, overwrite: bool = False
) -> tuple[Path, Division]:
    """Divide a manifest into `manifests/splits/NAME/`; returns the folder and what is in it.

    Raises:
        GovorError: the groups cannot be separated, or the split is there already.
    """
    target = workspace.manifests / "splits" / check_name(name or plain_name(source.stem))
    refuse_existing(target, overwrite, "--overwrite to replace it, or another --name")
    division = split(Manifest(source, workspace.root), settings)
    write_split(target, division)
    return target, division


def write_split(target: Path, division: Division, at_most: Mapping[str, int] | None = None) -> None:
    """The split's folder, whole or not at all; `at_most` limits the clips of a part."""
    message = "the sentence stands in a held-out part"
    with atomic_folder(target, "the split", replace=True) as folder:
        with ExitStack() as stack:
            writers = {part: stack.enter_context(row_writer(folder / f"{part}.jsonl")) for part in PARTS}
            drop = stack.enter_context(row_writer(folder / "dropped.jsonl"))
            for clip, part, rule in division.rows():
                if part is None:
                    drop(rejected(clip.to_row(), str(rule), clip.transcript, "unseen sentence", message))
                elif writers[part].count < (at_most or {}).get(part, 1 << 62):
                    writers[part].clip(clip)
        write_json(folder / "proof.json", division.proof)


def split(clips: Sequence[Clip], settings: SplitSettings) -> Division:
    """Divide clips into groups that share no speaker, source, near-duplicate or audio, and deal the groups out.

    Each language is dealt by itself; of several deals the first is taken whose held-out parts resemble the whole in
    lengths and classes. The order of the rows has no influence. Training rows whose sentence stands in validation or
    test are dropped.

    Args:
        clips: a `Manifest` or a list; it is read twice.

    Raises:
        GovorError: the groups cannot be separated (one speaker says everything), with the remedy.
    """
    table = Table()
    for clip in clips:
        table.add(clip)
    if not table.ids:
        raise GovorError("The manifest holds no clips, so there is nothing to split.")
    _refuse_repeated_ids(table)
    groups = groups_of(table, [kind for kind in KINDS if kind not in settings.allow_overlap])
    part_of, skew = _best_deal(table, groups, settings)
    _refuse_empty(part_of, groups, table, settings)
    reasons = _drop_held_out_sentences(table, part_of)
    _refuse_empty(part_of, groups, table, settings)
    order = np.array(sorted(range(len(table.ids)), key=table.ids.__getitem__), np.int64)
    division = Division(clips, order, part_of, reasons)
    division.proof = _proof(division, groups, table, settings, skew)
    return division


def _refuse_repeated_ids(table: Table) -> None:
    codes, first = np.unique(table.arrays["id"], return_index=True)
    if len(codes) < len(table.ids):
        repeated = np.setdiff1d(np.arange(len(table.ids)), first)[0]
        raise GovorError(f"The id '{table.ids[int(repeated)]}' stands twice in the manifest; ids must be unique.")


def _best_deal(
    table: Table, groups: dict[str, Codes], settings: SplitSettings
) -> tuple[npt.NDArray[np.uint8], dict[str, float]]:
    seconds = np.array(table.seconds)
    hours = {name: float(seconds[rows].sum()) for name, rows in groups.items()}
    by_language: dict[str, list[str]] = defaultdict(list)
    for name, rows in groups.items():
        by_language[_most_spoken(table, rows)].append(name)
    names, strata = np.unique(np.array(table.stratum), return_inverse=True)
    best: tuple[float, npt.NDArray[np.uint8], dict[str, float]] | None = None
    for deal in range(_DEALS):
        seed = f"{settings.seed}" if deal == 0 else f"{settings.seed}.{deal}"
        assigned: dict[str, Part] = {}
        for language in sorted(by_language):
            assigned |= _deal({name: hours[name] for name in by_language[language]}, settings, seed)
        if len(groups) >= len(PARTS):
            _fill_empty(assigned, hours, [p for p in PARTS[1:] if p == "test" or settings.validation_share], seed)
        part_of = np.zeros(len(table.ids), np.uint8)
        for name, part in assigned.items():
            part_of[groups[name]] = PARTS.index(part)
        skew, excess = _skew(part_of, strata, len(names))
        if best is None or excess < best[0]:
            best = excess, part_of, skew
        if excess <= 0 or len(groups) < 2 * len(PARTS):
            break
    assert best is not None
    return best[1], best[2]


def _most_spoken(table: Table, rows: Codes) -> str:
    counts: Counter[str] = Counter()
    for number in rows:
        counts[table.language[number]] += 1
    return min(counts, key=lambda language: (-counts[language], language))


def _skew(part_of: npt.NDArray[np.uint8], strata: npt.NDArray[np.int64], kinds: int) -> tuple[dict[str, float], float]:
    """Total variation distance between the strata of each held-out part and those of the whole, and by how much the
    worst exceeds what is allowed. Chance alone gives about 0.4 times the sum of the strata's standard deviations."""
    whole = np.bincount(strata, minlength=kinds) / len(strata)
    skew: dict[str, float] = {}
    excess = -1.0
    for code, part in enumerate(PARTS):
        inside = strata[part_of == code]
        if code and len(inside):
            shares = np.bincount(inside, minlength=kinds) / len(inside)
            skew[part] = round(float(np.abs(shares - whole).sum() / 2), 4)
            by_chance = 0.4 * float(np.sqrt(whole * (1 - whole) / len(inside)).sum())
            excess = max(excess, skew[part] - max(MAX_SKEW, 2 * by_chance))
    return skew, excess


def _shuffled(names: Iterable[str], seed: str) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode("utf-8", "backslashreplace")).digest())


def _deal(hours: dict[str, float], settings: SplitSettings, seed: str) -> dict[str, Part]:
    """Groups to parts in a seeded order; the held-out parts take many small groups rather than few large ones."""
    total = sum(hours.values())
    order = _shuffled(hours, seed)
    assigned: dict[str, Part] = {}
    shares: tuple[tuple[Part, float], ...] = (
        ("test", settings.test_share),
        ("validation", settings.validation_share),
    )
    for part, share in shares:
        target = share * total
        dealt = 0.0
        for largest in (target / WANTED_GROUPS, target / 3, target * 1.25):
            for name in order:
                fits = hours[name] <= largest and dealt + hours[name] <= target * 1.25
                if name not in assigned and fits and dealt < 0.95 * target:
                    assigned[name] = part
                    dealt += hours[name]
    return assigned


def _fill_empty(assigned: dict[str, Part], hours: dict[str, float], wanted: list[Part], seed: str) -> None:
    """With few groups none may fit a share: then the smallest that is left stands in."""
    order = _shuffled(hours, seed)
    for part in reversed(wanted):
        free = sorted((name for name in order if name not in assigned), key=lambda name: hours[name])
        if part not in assigned.values() and len(free) > 1:
            assigned[free[0]] = part


def _drop_held_out_sentences(table: Table, part_of: npt.NDArray[np.uint8]) -> dict[int, str]:
    """Training rows that say what a held-out row says are dropped, validation rows that say what a test row says."""
    sentences = table.arrays["sentence"]
    held_out, test = (np.setdiff1d(sentences[inside], [0]) for inside in (part_of > 0, part_of == 2))
    in_train = np.flatnonzero((part_of == 0) & np.isin(sentences, held_out))
    in_validation = np.flatnonzero((part_of == 1) & np.isin(sentences, test))
    part_of[in_train] = part_of[in_validation] = _DROPPED
    return {int(n): "sentence_in_held_out" for n in in_train} | {int(n): "sentence_in_test" for n in in_validation}


def _refuse_empty(
    part_of: npt.NDArray[np.uint8], groups: dict[str, Codes], table: Table, settings: SplitSettings
) -> None:
    wanted = [part for part in PARTS if part != "validation" or settings.validation_share]
    empty = [part for part in wanted if not (part_of == PARTS.index(part)).any()]
    if not empty:
        return
    largest = max(groups.values(), key=len)
    shared = {kind: _values(table, kind, np.isin(np.arange(len(table.ids)), largest)) for kind in KINDS}
    ties = [kind for kind in KINDS if 0 < len(shared[kind]) < len(largest) and kind not in settings.allow_overlap]
    said = f"{' and '.join(empty)} would be empty: "
    repeated = int((part_of == _DROPPED).sum())
    if repeated:
        raise GovorError(
            f"{said}{repeated} clips say what a clip of a held-out part says. Add recordings of other sentences."
        )
    said += f"the {len(table.ids)} clips form {len(groups)} separate group(s), the largest "
    if len(largest) == 1 or not ties:
        raise GovorError(f"{said}with {len(largest)} clip(s), and each needs one of its own. Add recordings.")
    tie = min(ties, key=lambda kind: len(shared[kind]))
    way = f", or go on knowingly with --allow-overlap {tie}" if tie in ("speaker", "source") else ""
    raise GovorError(f"{said}with {len(largest)} clips tied together by '{tie}'. Add recordings{way}.")


def _values(table: Table, kind: str, inside: npt.NDArray[np.bool_]) -> Codes:
    """The different values of a kind in some of the rows."""
    rows, codes = table.links[kind]
    return np.unique(codes[inside[rows]])


def _proof(
    division: Division, groups: dict[str, Codes], table: Table, settings: SplitSettings, skew: dict[str, float]
) -> Row:
    part_of = division.part_of

    def common(kind: str, first: Part, second: Part) -> int:
        here, there = (_values(table, kind, part_of == PARTS.index(part)) for part in (first, second))
        return len(np.intersect1d(here, there))

    pairs: tuple[tuple[Part, Part], ...] = (("train", "validation"), ("train", "test"), ("validation", "test"))
    kinds = (*KINDS, "sentence", "id")
    unknown = len(table.ids) - len(np.unique(table.links["speaker"][0]))
    return {
        "settings": settings.model_dump(mode="json"),
        "overlaps": {kind: {f"{a}/{b}": common(kind, a, b) for a, b in pairs} for kind in kinds},
        "allowed_overlaps": list(settings.allow_overlap),
        "groups": len(groups),
        "parts": {part: _part_summary(table, part_of == code) for code, part in enumerate(PARTS)},
        "skew": skew,
        "dropped": dict(Counter(division.reasons.values())),
        "rows": len(table.ids),
        "longer_than_30_s": sum(not fits_window(seconds) for seconds in table.seconds),
        "speakers_unknown": unknown,
        "speakers_guessed_from": "source" if unknown else None,
    }


def _part_summary(table: Table, inside: npt.NDArray[np.bool_]) -> Row:
    numbers = np.flatnonzero(inside)
    bands = Counter(table.stratum[number].partition("|")[0] for number in numbers)
    labels = Counter(table.stratum[number].partition("|")[2] for number in numbers)
    edges = ["0", *(f"{edge:g}" for edge in LENGTH_EDGES_SECONDS), ""]
    summary: Row = {
        "clips": len(numbers),
        "hours": round(float(np.array(table.seconds)[numbers].sum()) / 3600, 4),
        "speakers": len(_values(table, "speaker", inside)),
        "sources": len(set(table.arrays["source"][numbers].tolist()) - {0}),
        "languages": dict(Counter(table.language[number] for number in numbers)),
        "lengths_seconds": {f"{edges[int(b)]}-{edges[int(b) + 1]}": bands[b] for b in sorted(bands)},
    }
    if set(labels) - {""}:
        summary["classes"] = dict(labels.most_common())
    return summary
