"""Taking an inventory, for the commands that do: rows written as they come, an interrupted run taken up again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from govor.cli import console


def take_inventory(folders: list[Path], statement: Any, target: Path, total: int, resume: bool) -> dict[str, Any]:
    """Scan and write; what an interrupted run had found is kept beside the target and used by the next."""
    from govor.corpus.inventory import CsvTable, notes_on, passed_over
    from govor.corpus.inventory import inventory as scan
    from govor.corpus.manifests import row_writer
    from govor.corpus.ondisk import DiskMap
    from govor.files import atomic_file
    from govor.jsons import to_json

    partial = target.with_name(f".{target.name}.partial")
    counts: Counter[str] = Counter()
    guesses: Counter[str] = Counter()
    prefixes: Counter[str] = Counter()
    seconds, shown = 0.0, 0
    with ExitStack() as stack:
        known = stack.enter_context(DiskMap())
        if resume:
            _remember(known, (target, partial))
        target.parent.mkdir(parents=True, exist_ok=True)
        write = stack.enter_context(row_writer(target))
        table = CsvTable(stack.enter_context(atomic_file(target.with_suffix(".csv"))))
        progress = stack.enter_context(partial.open("w", encoding="utf-8", errors="backslashreplace"))
        earlier = _others(target, folders) if resume else ()
        for row in earlier:
            write(row)
            table(row)
            counts["of_other_folders"] += 1
        rows = scan(folders, statement, known=known if resume else None)
        for number, row in enumerate(console.counted(rows, "inventory", total)):
            write(row)
            table(row)
            progress.write(to_json(row) + "\n")
            if number % 200 == 0:
                progress.flush()
            counts["with_transcript"] += row["transcript_present"]
            counts["duplicates"] += bool(row["duplicate"])
            counts["license_unknown"] += row["license"] is None
            counts["language_stated"] += row["language"] is not None
            if row["language_guess"]:
                guesses[row["language_guess"]] += 1
            seconds += row["duration"] or 0
            if row["speaker_prefixes"]:
                prefixes.update(row["speaker_prefixes"])
            if row["transcript_note"]:
                counts["transcripts_passed_over"] += 1
                if counts["transcripts_passed_over"] <= 10:
                    console.note(f"passed over  {row['transcript_note']}")
            if row["error"]:
                counts["unreadable"] += 1
                shown += 1
                if shown <= 10:
                    console.note(f"unreadable  {row['error']}")
    partial.unlink(missing_ok=True)
    others_there: Counter[str] = sum(map(passed_over, folders), Counter())
    for note in notes_on(prefixes, others_there):
        console.note(note)
    names = ("with_transcript", "duplicates", "unreadable", "license_unknown", "language_stated")
    return {
        "recordings": total,
        "hours": round(seconds / 3600, 3),
        **{name: counts[name] for name in names},
        **({"of_other_folders": counts["of_other_folders"]} if counts["of_other_folders"] else {}),
        "language_guesses": dict(guesses.most_common()),
        **({"speaker_prefixes": prefixes.total()} if prefixes else {}),
        **({"transcripts_passed_over": n} if (n := counts["transcripts_passed_over"]) else {}),
        **({"passed_over": dict(others_there.most_common())} if others_there else {}),
    }


def _others(target: Path, folders: list[Path]) -> Iterator[dict[str, Any]]:
    """Rows of an earlier inventory whose recordings lie outside the folders that are looked through now."""
    from govor.corpus.manifests import read_rows

    if not target.exists():
        return
    roots = [folder.resolve() for folder in folders]
    for _, row in read_rows(target):
        path = Path(str(row.get("audio"))).resolve()
        if not any(path.is_relative_to(root) for root in roots):
            yield row


def _remember(known: Any, files: tuple[Path, ...]) -> None:
    """Rows of earlier runs by their audio; a last line that a crash cut short is passed over."""
    import json

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
