"""What is kept: every recording is decoded once, every rejected row is written with its reason.

Three passes, none of which holds the corpus in memory: decode and check; find duplicates among what is sound, by the
samples and by fingerprint, and let a priority decide which copy stays; write.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from govor import engine
from govor.audio import SAMPLE_RATE, CutShort, Samples, decode
from govor.audio.channels import Listener, Relation
from govor.config import Settings
from govor.corpus.diskmap import DiskMap
from govor.corpus.duplicates import Duplicates
from govor.corpus.fingerprint import Fingerprint, fingerprint
from govor.corpus.inventory import INVENTORY_ONLY, is_inventory_row
from govor.corpus.manifests import read_rows, rejected
from govor.corpus.outputs import outputs
from govor.corpus.records import Clip, Row, is_blank
from govor.corpus.samples import WINDOW_SECONDS, duration_tolerance, fits_window
from govor.corpus.tombstones import Tombstones
from govor.errors import AudioError, GovorError
from govor.files import refuse_existing
from govor.jsons import to_json, write_json
from govor.languages import language_code
from govor.progress import SILENT, Progress
from govor.runs import Workspace
from govor.silence import frame_powers, peak_dbfs

# Why a row does not pass: rule, measured value, limit, message.
Refusal = tuple[str, object, object, str]
_CONSTANT = 1e-3  # -60 dBFS
_CHANNEL_ADVICE = {
    "separate_channels": "hold one voice on the left channel and another on the right, by turns, and become one mixed clip; "
    "to keep them apart run govor preprocess with --channels split (or left, right)",
    "opposite_channels": "have channels that cancel each other when mixed; the louder one is taken",
}


class Limits(Settings):
    """What a recording must be to be kept."""

    min_seconds: float = Field(0.5, ge=0, description="shortest recording")
    max_seconds: float = Field(900.0, gt=0, description="longest recording; over 30 s preprocess slices it")
    min_peak_dbfs: float = Field(-60.0, description="a clip whose loudest sample lies below is silent")
    max_clipped_share: float = Field(0.05, ge=0, le=1, description="share of samples at full scale")
    max_characters_per_second: float = Field(45.0, gt=0, description="more text than anyone can say")
    near_duplicates: Literal["drop", "group", "off"] = Field(
        "drop", description="of recordings of one sound keep the best, keep all in one group, or do not look"
    )
    prefer: tuple[str, ...] = Field((), description="datasets whose copy stays, the best first")

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.min_seconds > self.max_seconds:
            raise ValueError(
                f"min_seconds is {self.min_seconds:g} and max_seconds {self.max_seconds:g}; nothing lies between"
            )
        return self


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row with what decoding it showed; `rejection` is the row of dropped.jsonl where it does not pass."""

    row: Row
    rejection: Row | None = None
    pcm_sha256: str = ""
    seconds: float = 0.0
    snr_db: float | None = None
    print: Fingerprint | None = None
    channels: Relation | None = None


@dataclass
class Report:
    """Counts for `validation_report.json`; kept + dropped == inventory."""

    inventory: int = 0
    kept: int = 0
    kept_seconds: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> Row:
        """The report as JSON."""
        return {
            "inventory_rows": self.inventory,
            "kept_rows": self.kept,
            "kept_hours": round(self.kept_seconds / 3600, 4),
            "dropped_rows": sum(self.dropped.values()),
            "dropped_by_rule": dict(self.dropped.most_common()),
            "warnings": {name: count for name, count in self.warnings.items() if count},
        }

    def advice(self) -> list[str]:
        """Sentences on kept recordings whose channels ask for a decision."""
        return [
            f"{self.warnings[name]} recordings {sentence} (`channels_hold` in their rows names them)."
            for name, sentence in _CHANNEL_ADVICE.items()
            if self.warnings[name]
        ]


@dataclass(frozen=True, slots=True)
class Checks:
    """What rows are held against: limits, the language that the user states for all of them, what must not come back."""

    limits: Limits
    language: str | None = None
    forgotten: Tombstones | None = None


@dataclass(frozen=True, slots=True)
class Validated:
    """The files that validation wrote, and what it counted."""

    kept: Path
    dropped: Path
    report_file: Path
    report: Report


def validate_files(
    workspace: Workspace,
    sources: list[Path],
    limits: Limits,
    out: Path | None = None,
    language: str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Validated:
    """Check the rows of inventories and manifests, together: `out` (`manifests/` by default) gets kept.jsonl, dropped.jsonl
    and validation_report.json.

    Raises:
        GovorError: no rows, none that can be used, or kept.jsonl is there already.
    """
    folder = out or workspace.manifests
    kept, dropped = folder / "kept.jsonl", folder / "dropped.jsonl"
    refuse_existing(kept, overwrite)
    total = sum(1 for source in sources for _ in read_rows(source))
    if not total:
        raise GovorError(f"{sources[0]} holds no rows, so there is nothing to validate.")
    rows = (row for source in sources for _, row in read_rows(source))
    checks = Checks(limits, language, Tombstones.of(workspace))
    with outputs(workspace, kept, dropped) as (keep, rejections), progress.bar("validate", total) as bar:
        for report in validate(workspace, rows, checks, keep.clip, rejections):
            bar.to(report.inventory, total)
    result = Validated(kept, dropped, folder / "validation_report.json", report)
    write_json(result.report_file, report.as_dict())
    if not report.kept:
        raise GovorError(f"None of the {total} rows can be used: {rejections.reasons()}. Each is listed in {dropped}.")
    return result


def validate(
    workspace: Workspace,
    rows: Iterable[Row],
    checks: Checks,
    keep: Callable[[Clip], None],
    drop: Callable[[Row], None],
    engine_name: engine.Engine = "processes",
) -> Iterator[Report]:
    """Check every row; kept clips go to `keep`, rejected rows with rule, value and limit to `drop`.

    Yields the running report after each row is decoded, so that a caller can show progress, and the final one.
    """
    report, limits = Report(), checks.limits
    check = partial(_check, limits=limits, language=checks.language, root=workspace.root)
    with ExitStack() as stack:
        seen_ids = stack.enter_context(DiskMap())
        duplicates = stack.enter_context(Duplicates(limits.near_duplicates != "off", limits.prefer))
        sound = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass"))
        for verdict in engine.map(rows, check, engine_name):
            report.inventory += 1
            rejection = verdict.rejection or _refused(verdict, seen_ids, checks.forgotten)
            if rejection:
                report.dropped[rejection["rule"]] += 1
                drop(rejection)
            else:
                clip = _clip(verdict, checks.language)
                duplicates.add(clip, verdict.print)
                sound.write(to_json(clip.to_row()) + "\n")
                report.kept += 1
            yield report
        duplicates.decide(limits.near_duplicates == "drop")
        sound.seek(0)
        _write(sound, duplicates, report, keep, drop)
        yield report


def _write(
    sound: Iterable[str],
    duplicates: Duplicates,
    report: Report,
    keep: Callable[[Clip], None],
    drop: Callable[[Row], None],
) -> None:
    for number, line in enumerate(sound):
        clip = Clip.from_row(json.loads(line), f"row {number}")
        lost = duplicates.lost(number)
        if lost:
            report.kept -= 1
            report.dropped[lost.rule] += 1
            report.warnings["copies_with_another_transcript"] += lost.conflict
            drop(rejected(clip.to_row(), lost.rule, lost.measured, lost.limit, lost.message))
            continue
        group = duplicates.group(number)
        report.kept_seconds += clip.duration
        report.warnings["license_unknown"] += clip.license is None
        report.warnings["speaker_unknown"] += clip.speaker is None
        report.warnings["in_near_duplicate_groups"] += group is not None
        report.warnings["longer_than_30_s"] += not fits_window(clip.duration)
        if clip.extra.get("channels_hold") in ("separate", "opposite"):
            report.warnings[f"{clip.extra['channels_hold']}_channels"] += 1
        keep(clip.replace(near_duplicate_group=group) if group else clip)


def _refused(verdict: Verdict, seen_ids: DiskMap, forgotten: Tombstones | None) -> Row | None:
    name = str(verdict.row["id"])
    if forgotten and forgotten.covers(verdict.row, verdict.pcm_sha256):
        return rejected(verdict.row, "forgotten", name, None, "its removal was asked for (manifests/tombstones.jsonl)")
    if name in seen_ids:
        return rejected(verdict.row, "duplicate_id", name, "ids are unique", f"the id '{name}' stands twice")
    seen_ids[name] = ""
    return None


def _clip(verdict: Verdict, language: str | None) -> Clip:
    """The manifest row of a kept inventory row; what only the inventory needs is left behind."""
    left_behind = INVENTORY_ONLY if is_inventory_row(verdict.row) else ()
    row = {key: value for key, value in verdict.row.items() if key not in left_behind and value is not None}
    row["duration"] = verdict.seconds
    row["language"] = language_code(language or row["language"])
    row["pcm_sha256"] = verdict.pcm_sha256
    row.setdefault("snr_db", verdict.snr_db)
    if verdict.channels is None:
        row.pop("channels_hold", None)
    else:
        row["channels_hold"] = verdict.channels
    return Clip.from_row(row, f"row '{row['id']}'")


def _check(row: Row, limits: Limits, language: str | None, root: Path) -> Verdict:
    def no(rule: str, measured: object, limit: object, message: str) -> Verdict:
        return Verdict(row, rejected(row, rule, measured, limit, message))

    present = {key: value for key, value in row.items() if value is not None}
    try:
        clip = Clip.from_row(
            {"transcript": "", "duration": 0.0, "language": language or "", **present}, "the row", root
        )
    except GovorError as error:
        return no("malformed_row", None, None, str(error))
    row["id"] = clip.id
    refusal = _text_refusal(row, clip, language)
    if refusal:
        return no(*refusal)
    try:
        listener = Listener()
        samples = decode(
            clip.file,
            clip.offset or 0.0,
            clip.duration if clip.offset is not None else None,
            max_seconds=max(4 * limits.max_seconds, 120.0),
            listener=listener,
            promised=True,
        )
    except CutShort as error:
        short = error.shortfall
        return no(short.rule, short.measured, short.promised, short.message)
    except AudioError as error:
        return no(error.rule, None, None, str(error))
    except (OSError, ValueError) as error:
        return no("unreadable", None, None, f"{clip.file} cannot be opened: {error}.")
    refusal = _sound_refusal(clip, samples, limits) or _longer_than_stated(row, clip, samples)
    if refusal:
        return no(*refusal)
    return Verdict(
        row,
        pcm_sha256=pcm_sha256(samples),
        seconds=round(len(samples) / SAMPLE_RATE, 7),
        snr_db=snr_db(samples),
        print=None if limits.near_duplicates == "off" else fingerprint(samples),
        channels=listener.relation(),
    )


def _text_refusal(row: Row, clip: Clip, language: str | None) -> Refusal | None:
    transcript = row.get("transcript")
    if row.get("error") and is_inventory_row(row):
        rule, _, message = str(row["error"]).partition(": ")
        return rule, None, None, message
    if not clip.labels and (not isinstance(transcript, str) or is_blank(transcript)):
        rule = "no_transcript" if transcript is None else "empty_transcript"
        return rule, transcript, "some text", "nothing to learn from"
    if any("\ud800" <= letter <= "\udfff" for letter in clip.transcript):
        shown = clip.transcript.encode("unicode_escape").decode()
        return "bad_transcript", shown, "Unicode text", "half a character"
    if not (clip.language or language):
        looks = row.get("language_guess") or "unknown"
        return "language_unknown", looks, "a language code", f"the text looks like '{looks}'; state it with --language"
    try:
        language_code(language or clip.language)
    except GovorError as error:
        return "language_unknown", clip.language, "a language code", str(error)
    return None


def _sound_refusal(clip: Clip, samples: Samples, limits: Limits) -> Refusal | None:
    seconds = len(samples) / SAMPLE_RATE
    promised = clip.duration
    if seconds < 0.9 * promised and promised - seconds > 0.1:
        message = "the file holds less audio than its header or manifest says"
        return "truncated", round(seconds, 3), promised, message
    if seconds < limits.min_seconds:
        return "too_short", round(seconds, 3), limits.min_seconds, "shorter than the limit"
    if seconds > limits.max_seconds and not (limits.max_seconds >= WINDOW_SECONDS and fits_window(seconds)):
        return "too_long", round(seconds, 3), limits.max_seconds, "longer than the limit"
    levels = np.abs(samples)
    peak = _silent_peak(samples, limits.min_peak_dbfs)
    if peak is not None:
        return "silent", round(peak, 1), limits.min_peak_dbfs, "no sound"
    clipped = np.count_nonzero(levels >= 0.999) / len(levels)
    if clipped > limits.max_clipped_share:
        return "clipped", round(clipped, 4), limits.max_clipped_share, "too many samples at full scale"
    late = next((s for s in clip.segments if s.start > seconds + 0.1 or (s.end or 0.0) > seconds + 0.5), None)
    if late is not None:
        message = "a segment lies beyond the end of the recording: the times are of another one, or it was cut short"
        return "times_beyond_end", late.start if late.end is None else late.end, round(seconds, 3), message
    rate = len(clip.transcript) / seconds
    if rate > limits.max_characters_per_second:
        message = "more text than the audio can hold"
        return "text_too_long", round(rate, 1), limits.max_characters_per_second, message
    return None


def _longer_than_stated(row: Row, clip: Clip, samples: Samples) -> Refusal | None:
    """A manifest that states less than the file holds and no `offset` means a part, whose words are not those of the whole.
    The duration in an inventory is what the header says, which may be a guess."""
    seconds, stated = len(samples) / SAMPLE_RATE, row.get("duration")
    if stated is None or clip.offset is not None or is_inventory_row(row):
        return None
    if seconds - clip.duration <= duration_tolerance(clip.duration):
        return None
    message = "the file is longer than its manifest says: state the offset of a part (0 too), or the true duration"
    return "duration_mismatch", round(seconds, 3), clip.duration, message


def _without_constant(samples: Samples) -> Samples:
    """What is heard: a constant that the sound stands on is taken off, frame by frame, since codecs let it drift; they and
    resamplers ring at both its ends, which are left out then."""
    if abs(float(np.median(samples))) < _CONSTANT:
        return samples
    inner, frames = _inner_frames(samples)
    if not len(frames):
        return inner - np.median(inner)
    sound: Samples = (frames - np.median(frames, axis=1, keepdims=True)).ravel()
    return sound


def _inner_frames(samples: Samples) -> tuple[Samples, Samples]:
    """The samples but for both ends, and the same in frames of 20 ms [frames, n]."""
    edge = min(SAMPLE_RATE // 10, len(samples) // 4)
    frame = SAMPLE_RATE // 50
    inner = samples[edge : len(samples) - edge]
    return inner, inner[: len(inner) // frame * frame].reshape(-1, frame)


def _silent_peak(samples: Samples, least_dbfs: float) -> float | None:
    """How loud the loudest sample is, where that is under the limit."""
    frames = _inner_frames(samples)[1]
    if len(frames):
        # Whatever constant is taken off a frame, half its span is left; to find that is quicker than to find medians.
        span = float((frames.max(axis=1) - frames.min(axis=1)).max())
        if 20 * np.log10(0.49 * span + 1e-9) > least_dbfs:
            return None
    peak = peak_dbfs(_without_constant(samples), 1e-9)
    return peak if peak < least_dbfs else None


def pcm_sha256(samples: Samples) -> str:
    """A hash of what is heard: samples [n] at 16 kHz, as 16-bit integers."""
    pcm = np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2").tobytes()
    return hashlib.sha256(pcm).hexdigest()


def noise_of(samples: Samples) -> float | None:
    """`snr_db`, or None where the recording is shorter than one of its frames."""
    return snr_db(samples) if len(samples) >= SAMPLE_RATE // 50 else None


def snr_db(samples: Samples) -> float:
    """Signal over noise in dB, estimated from the energies of 20 ms frames: the 95th percentile is taken for speech and
    noise, the 10th for noise alone. Good for sorting recordings by quality, not for publishing."""
    energies = frame_powers(samples, SAMPLE_RATE // 50) + 1e-10
    noise, both = np.percentile(energies, (10, 95))
    return round(float(np.clip(10 * np.log10(max(both - noise, 1e-10) / noise), -10.0, 80.0)), 1)
