"""`manifests/eval_<run>.json`: a run's before and after in one file, for the card and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from govor.files import read_json, write_json
from govor.measure.compare import compare
from govor.measure.evaluate import read_eval, refuse_unread
from govor.runs import now


def add_to_headline(run: str, pairs: dict[str, tuple[Path, Path]], fresh: bool = False) -> dict[str, Any]:
    """Compare (before, after) scorings per audio context and put them into the run's headline file.

    Other contexts already there stay, unless `fresh`.
    """
    file = Path("manifests") / f"eval_{run}.json"
    contexts: dict[str, Any] = {} if fresh or not file.exists() else dict(read_json(file)["contexts"])
    for context, (before_file, after_file) in pairs.items():
        (before, before_rows), (after, after_rows) = read_eval(before_file), read_eval(after_file)
        refuse_unread(before_file, before)
        refuse_unread(after_file, after)
        contexts[context] = {
            "before": before,
            "after": after,
            "comparison": compare(before_rows, after_rows, str(before["model"]), str(after["model"])),
            "files": {"before": before_file.as_posix(), "after": after_file.as_posix()},
        }
    result = {"run": run, "created": now(), "contexts": contexts}
    write_json(file, result)
    return result
