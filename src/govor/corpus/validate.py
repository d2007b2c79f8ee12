"""What is kept: every recording is decoded once, every rejected row is written with its reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from govor import engine
from govor.audio import SAMPLE_RATE, decode
from govor.config import Settings
from govor.corpus.records import Clip
from govor.errors import AudioError, GovorError


class Limits(Settings):
    """What a clip must be to be kept."""

    min_seconds: float = Field(0.5, ge=0, description="shortest clip")
    max_seconds: float = Field(30.0, gt=0, description="longest clip; a Whisper window holds 30 s")
    min_peak_dbfs: float = Field(-60.0, description="a clip whose loudest sample lies below is silent")
    max_clipped_share: float = Field(0.05, ge=0, le=1, description="share of samples at full scale")
    max_characters_per_second: float = Field(45.0, gt=0, description="more text than anyone can say")

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.min_seconds > self.max_seconds:
            raise ValueError(
                f"min_seconds is {self.min_seconds:g} and max_seconds {self.max_seconds:g}; nothing lies between"
            )
        return self


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row with what decoding it showed; `rule` is None where it passes."""

    row: dict[str, Any]
    rule: str | None = None
    measured: Any = None
    limit: Any = None
    message: str | None = None
    pcm_sha256: str | None = None
    seconds: float | None = None


@dataclass
class Report:
    """Counts for `validation_report.json`; kept + dropped == inventory."""

    inventory: int = 0
    kept: int = 0
    kept_seconds: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "inventory_rows": self.inventory,
            "kept_rows": self.kept,
            "kept_hours": round(self.kept_seconds / 3600, 4),
            "dropped_rows": sum(self.dropped.values()),
            "dropped_by_rule": dict(self.dropped.most_common()),
            "warnings": dict(self.warnings),
        }


def validate(
    rows: Iterable[dict[str, Any]],
    limits: Limits,
    keep: Callable[[Clip], None],
    drop: Callable[[dict[str, Any]], None],
    language: str | None = None,
    engine_name: engine.Engine = "processes",
) -> Iterator[Report]:
    """Check every row; kept clips go to `keep`, rejected rows with rule, value and limit to `drop`.

    Yields the running report after each row, so that a caller can show progress.
    """
    report = Report()
    seen_pcm: dict[str, str] = {}
    seen_ids: set[str] = set()
    for verdict in engine.map(rows, partial(_check, limits=limits, language=language), engine_name):
        report.inventory += 1
        verdict = _unique(verdict, seen_ids, seen_pcm)
        if verdict.rule:
            report.dropped[verdict.rule] += 1
            reason = {
                "rule": verdict.rule,
                "measured": verdict.measured,
                "limit": verdict.limit,
                "message": verdict.message,
            }
            drop({"row": verdict.row, **reason})
        else:
            clip = _clip(verdict, language)
            report.kept += 1
            report.kept_seconds += clip.duration
            report.warnings["license_unknown"] += clip.license is None
            report.warnings["speaker_unknown"] += clip.speaker is None
            keep(clip)
        yield report


def _unique(verdict: Verdict, seen_ids: set[str], seen_pcm: dict[str, str]) -> Verdict:
    if verdict.rule:
        return verdict
    name, digest = str(verdict.row["id"]), verdict.pcm_sha256 or ""
    if name in seen_ids:
        return Verdict(verdict.row, "duplicate_id", name, "ids are unique", f"the id '{name}' stands twice")
    if digest in seen_pcm:
        twin = seen_pcm[digest]
        return Verdict(verdict.row, "duplicate_audio", twin, "once", f"the same samples as '{twin}'")
    seen_ids.add(name)
    seen_pcm[digest] = name
    return verdict


def _clip(verdict: Verdict, language: str | None) -> Clip:
    """The manifest row of a kept inventory row; what only the inventory needs is left behind."""
    unwanted = ("filename", "transcript_present", "duplicate", "duplicate_of", "error", "size_bytes")
    row = {key: value for key, value in verdict.row.items() if key not in unwanted and value is not None}
    row["duration"] = verdict.seconds
    row["language"] = row.get("language") or language
    row["pcm_sha256"] = verdict.pcm_sha256
    return Clip.from_row(row, f"row '{row['id']}'")


def _check(row: dict[str, Any], limits: Limits, language: str | None) -> Verdict:
    def no(rule: str, measured: Any, limit: Any, message: str) -> Verdict:
        return Verdict(row, rule, measured, limit, message)

    present = {key: value for key, value in row.items() if value is not None}
    try:
        clip = Clip.from_row({"transcript": "", "duration": 0.0, "language": language or "", **present}, "the row")
    except GovorError as error:
        return no("malformed_row", None, None, str(error))
    row["id"] = clip.id
    transcript = row.get("transcript")
    if row.get("error"):
        rule, _, message = str(row["error"]).partition(": ")
        return no(rule, None, None, message)
    if not isinstance(transcript, str) or not transcript.strip():
        missing = transcript is None
        return no(
            "no_transcript" if missing else "empty_transcript",
            transcript,
            "some text",
            "nothing to learn from",
        )
    if any("\ud800" <= letter <= "\udfff" for letter in transcript):
        return no("bad_transcript", transcript.encode("unicode_escape").decode(), "Unicode text", "half a character")
    if not clip.language:
        return no("language_unknown", None, "a language code", "state it with --language")
    try:
        length = clip.duration if clip.offset is not None else None
        samples = decode(clip.audio, clip.offset or 0.0, length, max_seconds=max(4 * limits.max_seconds, 120.0))
    except AudioError as error:
        return no(error.rule, None, None, str(error))
    seconds = len(samples) / SAMPLE_RATE
    promised = clip.duration
    if seconds < 0.9 * promised and promised - seconds > 0.1:
        return no(
            "truncated",
            round(seconds, 3),
            promised,
            "the file holds less audio than its header or manifest says",
        )
    if not limits.min_seconds <= seconds:
        return no("too_short", round(seconds, 3), limits.min_seconds, "shorter than the limit")
    if seconds > limits.max_seconds:
        return no("too_long", round(seconds, 3), limits.max_seconds, "longer than the limit")
    peak = float(np.abs(samples).max())
    peak_dbfs = 20 * np.log10(max(peak, 1e-9))
    if peak_dbfs < limits.min_peak_dbfs:
        return no("silent", round(float(peak_dbfs), 1), limits.min_peak_dbfs, "no sound")
    clipped = float((np.abs(samples) >= 0.999).mean())
    if clipped > limits.max_clipped_share:
        return no("clipped", round(clipped, 4), limits.max_clipped_share, "too many samples at full scale")
    rate = len(transcript) / seconds
    if rate > limits.max_characters_per_second:
        return no(
            "text_too_long",
            round(rate, 1),
            limits.max_characters_per_second,
            "more text than the audio can hold",
        )
    pcm = np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2").tobytes()
    return Verdict(row, pcm_sha256=hashlib.sha256(pcm).hexdigest(), seconds=round(seconds, 6))
