"""Where a recording comes from and what may be done with it, stated once for a folder or for one item.

`provenance.yaml` in a folder holds for everything below it; `x.provenance.json`, which harvesting writes beside `x.wav`,
holds for one recording and wins.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from govor.config import Settings, parse, read_yaml
from govor.jsons import read_json

FOLDER_FILE = "provenance.yaml"
ITEM_SUFFIX = ".provenance.json"


class Provenance(Settings):
    """What is known of the origin of recordings."""

    license: str | None = None
    extra_terms: str | None = None
    source_url: str | None = None
    language: str | None = None
    speaker: str | None = None
    dataset: str | None = None
    date: str | None = None
    title: str | None = None
    fetched_at: str | None = None
    fetched_by: str | None = None
    sha256: str | None = None

    def over(self, other: Provenance) -> Provenance:
        """This one's statements, and where it is silent the other's."""
        mine = self.model_dump(exclude_none=True)
        return Provenance.model_validate({**other.model_dump(exclude_none=True), **mine})


@lru_cache(maxsize=4096)
def of_folder(folder: Path, root: Path) -> Provenance:
    """What the `provenance.yaml` files from `root` down to `folder` state; the nearest wins."""
    above = of_folder(folder.parent, root) if folder != root and root in folder.parents else Provenance()
    file = folder / FOLDER_FILE
    if not there(file):
        return above
    values = {key: str(value) for key, value in read_yaml(file).items() if value is not None}
    return parse(Provenance, values, str(file)).over(above)


def of_recording(audio: Path, root: Path) -> Provenance:
    """What is stated for one recording.

    Raises:
        GovorError: a malformed statement, with its file.
    """
    folder = of_folder(audio.parent, root)
    file = item_file(audio)
    if not there(file):
        return folder
    return read_item(file).over(folder)


def read_item(file: Path) -> Provenance:
    """What one `x.provenance.json` states; what we do not know in it is left out.

    Raises:
        GovorError: a malformed statement, with its file.
    """
    known = {key: value for key, value in read_json(file).items() if key in Provenance.model_fields}
    return parse(Provenance, known, str(file))


def there(file: Path) -> bool:
    """Whether the file exists; a name that the file system finds too long does not."""
    try:
        return file.is_file()
    except OSError:
        return False


def item_file(audio: Path) -> Path:
    """Where the provenance of one recording stands."""
    return audio.with_name(audio.name + ITEM_SUFFIX)
