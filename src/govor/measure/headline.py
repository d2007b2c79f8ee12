"""`manifests/eval_<run>.json`: a run's before and after in one file, for the card and the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from govor.jsons import read_json, write_json
from govor.machine import now
from govor.measure.accept import OWN_TEST_SET
from govor.measure.evaluate import read_eval, refuse_unread
from govor.metrics.compare import compare


def add_to_headline(
    run: str,
    pairs: dict[str, tuple[Path, Path]],
    fresh: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compare (before, after) scorings per audio context and put them into the run's headline file.

    Other contexts already there stay, unless `fresh`. So does what `govor accept` has said, as long as the scores that it
    judged are the same; `say` is told where they are not.
    """
    file = Path("manifests") / f"eval_{run}.json"
    old = read_json(file) if file.exists() else {"contexts": {}}
    contexts: dict[str, Any] = {} if fresh else dict(old["contexts"])
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
    if "acceptance" in old:
        if _still_holds(old["acceptance"], old["contexts"], contexts):
            result |= {"accepted": old["accepted"], "acceptance": old["acceptance"]}
        else:
            told = "accepted" if old["accepted"] else "not accepted"
            say(
                f"the verdict of {old['acceptance'].get('judged')} ({told}) was of other scores and is taken out; judge again "
                f"with: govor accept {run}"
            )
    write_json(file, result)
    return result


def _still_holds(verdict: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a verdict is of scores that are the run's still: of a suite's set, or of the same clips with the same errors."""
    if verdict.get("measured_on") != OWN_TEST_SET:
        return True
    context = str(verdict.get("context"))
    before, after = (contexts.get(context, {}).get("after", {}) for contexts in (old, new))
    return all(before.get(name) == after.get(name) for name in ("manifest", "wer", "wer_interval", "cer"))
