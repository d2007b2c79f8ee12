"""Licences of a manifest's rows: counted, written into a document, stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from govor.corpus.licenses import UNKNOWN, canonical, document, license_stated, summary
from govor.corpus.manifests import Manifest, read_rows, row_writer
from govor.corpus.records import Row
from govor.corpus.wishes import same_source
from govor.errors import GovorError
from govor.files import refuse_existing, write_text
from govor.runs import Workspace


@dataclass(frozen=True, slots=True)
class Licenses:
    """Clips, hours and what is allowed by licence, and the document that says so."""

    document: Path
    by_name: dict[str, Row]

    @property
    def refused(self) -> bool:
        """Whether some rows may not be trained on."""
        return not all(row["train"] for row in self.by_name.values())


def list_licenses(workspace: Workspace, source: Path, out: Path | None = None, overwrite: bool = False) -> Licenses:
    """Count the licences of a manifest and write `DATA_LICENSES.md`, which is always brought up to date, or `out`."""
    clips = Manifest(source, workspace.root)
    values = summary(clips)
    target = out or workspace.root / "DATA_LICENSES.md"
    refuse_existing(target, overwrite or out is None)
    write_text(target, document(clips))
    return Licenses(target, values)


def state_license(source: Path, stated: str, chosen: Sequence[str] = ()) -> tuple[str, int]:
    """State the licence of rows: of those that have no known one, or of those of the `chosen` sources and datasets. Returns its
    identifier and how many rows are under it now.

    Raises:
        GovorError: no such licence, or no row is of those sources.
    """
    name = license_stated(stated)
    if name == UNKNOWN:
        raise GovorError("State a licence: own for your own recordings, an SPDX identifier, or custom:NAME.")
    count = 0
    with row_writer(source) as write:
        for _, row in read_rows(source):
            if any(same_source(row, one) for one in chosen) if chosen else canonical(row.get("license")) is None:
                row["license"] = name
                count += 1
            write(row)
    if chosen and not count:
        raise GovorError(
            f"No row of {source} is of the source or dataset {' or '.join(map(repr, chosen))}; nothing was stated."
        )
    return name, count
