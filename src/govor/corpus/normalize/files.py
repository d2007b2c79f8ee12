"""Normalising a manifest: the transcripts cleaned, the originals kept, a report of every rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from govor.corpus.manifests import Manifest, read_clips, rejected
from govor.corpus.normalize import Script, normalize_clips, normalizer
from govor.corpus.outputs import outputs
from govor.corpus.records import Clip, Row
from govor.errors import GovorError
from govor.files import refuse_existing, write_text
from govor.jsons import write_json
from govor.languages import language_code
from govor.progress import SILENT, Progress, counted
from govor.runs import Workspace


@dataclass
class Normalized:
    """What was written, and what was changed by which rule."""

    target: Path
    clips: int = 0
    changed: int = 0
    norm_txt_files: int = 0
    normalizers: Counter[str] = field(default_factory=Counter)
    changes_by_rule: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> Row:
        """For people and machines."""
        return {
            "clips": self.clips,
            "changed": self.changed,
            "cleaned_share": round(self.clips / (self.clips + sum(self.dropped.values())), 4),
            "normalizers": dict(self.normalizers.most_common()),
            "changes_by_rule": dict(self.changes_by_rule.most_common()),
            "norm_txt_files": self.norm_txt_files,
            "dropped": self.dropped,
        }


def normalize_file(
    workspace: Workspace,
    source: Path,
    out: Path | None = None,
    script: Script = "latin",
    norm_txt: bool = True,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Normalized:
    """Clean the transcripts of a manifest for training; NAME_report.json says which rule changed how much.

    Args:
        out: `manifests/normalized.jsonl` by default.
        norm_txt: write x.norm.txt beside each x.txt, for people to compare.

    Raises:
        GovorError: no clip can be used, or the result is there already.
    """
    result = Normalized(out or workspace.manifests / "normalized.jsonl")
    target = result.target
    refuse_existing(target, overwrite)
    clips = normalize_clips(read_clips(source, workspace.root), result.changes_by_rule, script)
    with outputs(workspace, target) as (keep, rejections):
        for clip in counted(clips, progress, "normalize", len(Manifest(source))):
            try:
                language_code(clip.language)
            except GovorError as error:  # nobody can say whose rules its text wants
                rejections(rejected(clip.to_row(), "language_unknown", clip.language, "a language code", str(error)))
                continue
            result.normalizers[normalizer(clip.language, script).name] += 1
            if not clip.transcript and not clip.labels:
                message = "nothing is left of the transcript after cleaning"
                rejections(rejected(clip.to_row(), "empty_transcript", "", "some text", message))
                continue
            result.clips += 1
            result.changed += clip.transcript_raw is not None
            result.norm_txt_files += norm_txt and _write_beside(clip)
            keep.clip(clip)
    if not result.clips:
        raise GovorError(f"No clip of {source} can be used: {rejections.reasons()}.")
    result.dropped = rejections.by_rule()
    rules = {name: _examples(name, script) for name in result.normalizers}
    write_json(target.with_name(target.stem + "_report.json"), {**result.as_dict(), "rules": rules})
    return result


def _examples(name: str, script: Script) -> list[Row]:
    code = {"hebrew": "he", "malagasy": "mg", "generic": "und"}.get(name, "sr")
    rules = normalizer(code, script).rules
    return [{"rule": rule.name, "before": rule.example[0], "after": rule.example[1]} for rule in rules]


def _write_beside(clip: Clip) -> bool:
    """`x.norm.txt` where `x.txt` stands; it is never read back."""
    if "#" in clip.audio or not Path(clip.audio).name or not clip.transcript:
        return False
    file = Path(clip.file).with_suffix(".txt")
    if not file.is_file():
        return False
    write_text(file.with_suffix(".norm.txt"), clip.transcript + "\n")
    return True
