"""Train, validation and test such that nothing a model could remember crosses, with a proof that counts it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator

from govor.config import Settings
from govor.corpus.records import Clip
from govor.errors import GovorError

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
KINDS = ("speaker", "source", "near_duplicate_group")
# An interval resampled over groups needs at least this many of them.
WANTED_GROUPS = 10


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
    """Clips by part, clips dropped from training with their reason, and the proof."""

    parts: dict[Part, list[Clip]]
    dropped: list[tuple[Clip, str]]
    proof: dict[str, Any] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether no kind of overlap was counted."""
        return not any(count for pair in self.proof["overlaps"].values() for count in pair.values())


def split(clips: Iterable[Clip], settings: SplitSettings) -> Division:
    """Divide clips into groups that share no speaker, source or near-duplicate, and deal the groups out.

    The order of the rows has no influence. Training rows whose sentence stands in validation or test are dropped.

    Raises:
        GovorError: the groups cannot be separated (one speaker says everything), with the remedy.
    """
    rows = sorted(clips, key=lambda clip: clip.id)
    if not rows:
        raise GovorError("The manifest holds no clips, so there is nothing to split.")
    groups = _groups(rows, [kind for kind in KINDS if kind not in settings.allow_overlap])
    assigned = _deal(groups, settings)
    parts: dict[Part, list[Clip]] = {part: [] for part in PARTS}
    for name, members in groups.items():
        parts[assigned[name]] += [clip.replace(split=assigned[name]) for clip in members]
    _refuse_empty(parts, groups, rows, settings)
    held_out = {sentence_key(clip.transcript) for part in PARTS[1:] for clip in parts[part]}
    dropped = [(c, "sentence_in_held_out") for c in parts["train"] if sentence_key(c.transcript) in held_out]
    in_test = {sentence_key(clip.transcript) for clip in parts["test"]}
    dropped += [(c, "sentence_in_test") for c in parts["validation"] if sentence_key(c.transcript) in in_test]
    gone = {clip.id for clip, _ in dropped}
    parts = {part: [clip for clip in members if clip.id not in gone] for part, members in parts.items()}
    _refuse_empty(parts, groups, rows, settings)
    division = Division(parts, dropped)
    division.proof = _proof(division, groups, rows, settings)
    return division


def sentence_key(text: str) -> str:
    """What makes two transcripts the same sentence: letters and digits, case folded."""
    return "".join(letter for letter in text.casefold() if letter.isalnum()) or text


def _groups(rows: list[Clip], kinds: list[str]) -> dict[str, list[Clip]]:
    """Connected components of clips that share a value of any kind (union-find)."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for clip in rows:
        keys = [f"{kind}:{getattr(clip, kind)}" for kind in kinds if getattr(clip, kind)]
        if "source" in kinds and not clip.source:
            keys.append(f"source:{clip.audio.rsplit('#', 1)[0] if clip.offset else clip.id}")
        for key in keys:
            first, second = sorted((root(f"clip:{clip.id}"), root(key)))
            parent[second] = first
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in rows:
        groups[root(f"clip:{clip.id}")].append(clip)
    # A group is named by its first clip, so that the name depends on its members alone.
    return {members[0].id: members for members in groups.values()}


def _deal(groups: dict[str, list[Clip]], settings: SplitSettings) -> dict[str, Part]:
    """Groups to parts in a seeded order; the held-out parts take many small groups rather than few large ones."""
    hours = {name: sum(clip.duration for clip in members) for name, members in groups.items()}
    total = sum(hours.values())
    order = sorted(
        groups, key=lambda name: hashlib.sha256(f"{settings.seed}:{name}".encode("utf-8", "backslashreplace")).digest()
    )
    assigned: dict[str, Part] = {}
    shares: tuple[tuple[Part, float], ...] = (
        ("test", settings.test_share),
        ("validation", settings.validation_share),
    )
    for part, share in shares:
        target = share * total
        for largest in (target / WANTED_GROUPS, target / 3, target * 1.25):
            held = sum(hours[name] for name, given in assigned.items() if given == part)
            for name in order:
                fits = hours[name] <= largest and held + hours[name] <= target * 1.25
                if name not in assigned and fits and held < 0.95 * target:
                    assigned[name] = part
                    held += hours[name]
    if len(groups) >= len(PARTS):
        _fill_empty(assigned, order, hours, [part for part, share in shares if share])
    return {name: assigned.get(name, "train") for name in groups}


def _fill_empty(assigned: dict[str, Part], order: list[str], hours: dict[str, float], wanted: list[Part]) -> None:
    """With few groups none may fit a share: then the smallest that is left stands in."""
    for part in wanted:
        free = sorted((name for name in order if name not in assigned), key=lambda name: hours[name])
        if part not in assigned.values() and len(free) > 1:
            assigned[free[0]] = part


def _refuse_empty(
    parts: dict[Part, list[Clip]], groups: dict[str, list[Clip]], rows: list[Clip], settings: SplitSettings
) -> None:
    wanted = [part for part in PARTS if part != "validation" or settings.validation_share]
    empty = [part for part in wanted if not parts[part]]
    if not empty:
        return
    largest = max(groups.values(), key=len)
    shared = {kind: len({getattr(c, kind) for c in largest if getattr(c, kind)}) for kind in KINDS[:2]}
    tie = min((kind for kind in shared if shared[kind]), key=lambda kind: shared[kind], default="source")
    raise GovorError(
        f"{' and '.join(empty)} would be empty: the {len(rows)} clips form {len(groups)} separate group(s), the largest "
        f"with {len(largest)} clips tied together by '{tie}'. Add recordings, or go on knowingly with --allow-overlap {tie}."
    )


def _proof(
    division: Division, groups: dict[str, list[Clip]], rows: list[Clip], settings: SplitSettings
) -> dict[str, Any]:
    def values(part: Part, kind: str) -> set[str]:
        return {_value(clip, kind) for clip in division.parts[part]} - {""}

    pairs = (("train", "validation"), ("train", "test"), ("validation", "test"))
    kinds = (*KINDS, "sentence", "pcm_sha256", "id")
    overlaps = {
        kind: {f"{a}/{b}": len(values(a, kind) & values(b, kind)) for a, b in pairs}  # type: ignore[arg-type]
        for kind in kinds
    }
    unknown = sum(clip.speaker is None for clip in rows)
    return {
        "settings": settings.model_dump(mode="json"),
        "overlaps": overlaps,
        "allowed_overlaps": list(settings.allow_overlap),
        "groups": len(groups),
        "parts": {
            part: {
                "clips": len(clips),
                "hours": round(sum(clip.duration for clip in clips) / 3600, 4),
                "speakers": len({clip.speaker for clip in clips if clip.speaker}),
                "sources": len({clip.source for clip in clips if clip.source}),
                "languages": dict(Counter(clip.language for clip in clips)),
            }
            for part, clips in division.parts.items()
        },
        "dropped": dict(Counter(reason for _, reason in division.dropped)),
        "rows": len(rows),
        "speakers_unknown": unknown,
        "speakers_guessed_from": "source" if unknown else None,
    }


def _value(clip: Clip, kind: str) -> str:
    if kind == "sentence":
        return sentence_key(clip.transcript)
    return str(getattr(clip, kind) or "")
