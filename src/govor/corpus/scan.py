"""Taking an inventory: rows written as they come, an interrupted run taken up again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from govor.corpus.diskmap import DiskMap
from govor.corpus.inventory import CsvTable, Statement, find_recordings, inventory, notes_on, passed_over
from govor.corpus.manifests import read_rows, row_writer
from govor.corpus.outputs import counted_words
from govor.corpus.records import Row
from govor.errors import GovorError
from govor.files import atomic_file, refuse_existing
from govor.jsons import to_json
from govor.progress import SILENT, Progress, counted
from govor.runs import Workspace

# So many transcripts that were passed over, and so many unreadable recordings, are named while the scan runs.
_NAMED_AT_MOST = 10


@dataclass
class InventoryReport:
    """What an inventory counted, and the files that it wrote: one row a recording, as JSONL and for a spreadsheet."""

    rows_file: Path
    csv_file: Path
    recordings: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    language_guesses: Counter[str] = field(default_factory=Counter)
    speaker_prefixes: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def unreadable(self) -> int:
        """How many recordings cannot be used."""
        return self.counts["unreadable"]

    @property
    def likely_language(self) -> str | None:
        """The most frequent guess where nothing is stated."""
        guesses = [code for code, _ in self.language_guesses.most_common() if code != "unknown"]
        return guesses[0] if guesses and not self.counts["language_stated"] else None

    def as_dict(self) -> Row:
        """For people and machines."""
        names = ("with_transcript", "duplicates", "unreadable", "license_unknown", "language_stated")
        return {
            "recordings": self.recordings,
            "hours": round(self.seconds / 3600, 3),
            **{name: self.counts[name] for name in names},
            **({"of_other_folders": self.counts["of_other_folders"]} if self.counts["of_other_folders"] else {}),
            "language_guesses": dict(self.language_guesses.most_common()),
            **({"speaker_prefixes": self.speaker_prefixes.total()} if self.speaker_prefixes else {}),
            **({"transcripts_passed_over": n} if (n := self.counts["transcripts_passed_over"]) else {}),
            **({"passed_over": dict(self.passed_over.most_common())} if self.passed_over else {}),
        }

    def see(self, row: Row, progress: Progress) -> None:
        """Count the next row."""
        self.counts["with_transcript"] += row["transcript_present"]
        self.counts["duplicates"] += bool(row["duplicate"])
        self.counts["license_unknown"] += row["license"] is None
        self.counts["language_stated"] += row["language"] is not None
        if row["language_guess"]:
            self.language_guesses[row["language_guess"]] += 1
        self.seconds += row["duration"] or 0
        if row["speaker_prefixes"]:
            self.speaker_prefixes.update(row["speaker_prefixes"])
        for name, text, said in (
            ("transcripts_passed_over", row["transcript_note"], "passed over"),
            ("unreadable", row["error"], "unreadable"),
        ):
            if text:
                self.counts[name] += 1
                if self.counts[name] <= _NAMED_AT_MOST:
                    progress.note(f"{said}  {text}")


def take_inventory(
    workspace: Workspace,
    folders: list[Path],
    statement: Statement,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> InventoryReport:
    """List every recording below some folders as CSV and JSONL (`manifests/dataset_inventory.jsonl` by default).

    What an interrupted run had found is kept beside the target; with `resume` it is used, and so is an earlier inventory,
    whose rows of other folders stay.

    Raises:
        GovorError: no recordings, the inventory is there already, or its name does not end in .jsonl.
    """
    target = out or workspace.manifests / "dataset_inventory.jsonl"
    if target.suffix != ".jsonl":
        raise GovorError(f"{target} must end in .jsonl; the spreadsheet is written beside it as .csv.")
    report = InventoryReport(target, target.with_suffix(".csv"))
    for file in (report.rows_file, report.csv_file):
        refuse_existing(
            file, overwrite or resume, "--resume to bring it up to date, --overwrite to begin anew, or --out"
        )
    report.recordings = sum(1 for folder in folders for _ in find_recordings(folder))
    report.passed_over = sum(map(passed_over, folders), Counter())
    if not report.recordings:
        raise GovorError(_nothing_found(folders, report.passed_over))
    partial = target.with_name(f".{target.name}.partial")
    with ExitStack() as stack:
        known = stack.enter_context(DiskMap())
        if resume:
            _remember(known, (target, partial))
        target.parent.mkdir(parents=True, exist_ok=True)
        write = stack.enter_context(row_writer(target))
        table = CsvTable(stack.enter_context(atomic_file(report.csv_file)))
        finished = stack.enter_context(partial.open("w", encoding="utf-8", errors="backslashreplace"))
        for row in _of_other_folders(workspace, target, folders) if resume else ():
            write(row)
            table(row)
            report.counts["of_other_folders"] += 1
        rows = inventory(workspace, folders, statement, known=known if resume else None)
        for number, row in enumerate(counted(rows, progress, "inventory", report.recordings)):
            write(row)
            table(row)
            finished.write(to_json(row) + "\n")
            if number % 200 == 0:
                finished.flush()
            report.see(row, progress)
    partial.unlink(missing_ok=True)
    for note in notes_on(report.speaker_prefixes, report.passed_over):
        progress.note(note)
    return report


def _nothing_found(folders: list[Path], there: Counter[str]) -> str:
    counts = {suffix or "no suffix": count for suffix, count in there.most_common(5)}
    other = f" (what lies there: {counted_words(counts)})" if counts else ""
    return (
        f"No recordings were found below {', '.join(map(str, folders))}{other}; wav, flac, mp3, ogg, opus, m4a, webm, mp4 and "
        "what PyAV reads besides are looked for."
    )


def _of_other_folders(workspace: Workspace, target: Path, folders: list[Path]) -> Iterator[Row]:
    """Rows of an earlier inventory whose recordings lie outside the folders that are looked through now."""
    if not target.exists():
        return
    roots = [folder.resolve() for folder in folders]
    for _, row in read_rows(target):
        path = workspace.path(str(row.get("audio"))).resolve()
        if not any(path.is_relative_to(root) for root in roots):
            yield row


def _remember(known: DiskMap, files: tuple[Path, ...]) -> None:
    """Rows of earlier runs by their audio; a last line that a crash cut short is passed over."""
    for file in files:
        if not file.exists():
            continue
        with file.open(encoding="utf-8", errors="replace") as handle:
            for line in handle:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict) and isinstance(row.get("audio"), str):
                    known[row["audio"]] = line
