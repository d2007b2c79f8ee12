"""`make bench`, or `python -m bench decode corpus near language stream train seq2seq transcribe cached scoring align inner evidence contexts`.

What was measured is kept in bench/results/<name>.json. At the end stands one table of all ratios against their goals:
those of this run, and for the other benches those that are kept, with their dates.
"""

from __future__ import annotations

import argparse
import os
import platform
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path

from bench import (
    align,
    cached,
    contexts,
    corpus,
    decode,
    evidence,
    inner,
    language,
    near,
    scoring,
    seq2seq,
    stream,
    train_step,
    transcribe,
)
from bench.results import FOLDER, Asked, Figure, Result, measured, table
from govor.errors import GovorError

MEASUREMENTS: dict[str, Callable[[Asked], list[Figure]]] = {
    "decode": decode.main,
    "corpus": corpus.main,
    "near": near.main,
    "language": language.main,
    "stream": stream.main,
    "train": train_step.main,
    "seq2seq": seq2seq.main,
    "transcribe": transcribe.main,
    "cached": cached.main,
    "scoring": scoring.main,
    "align": align.main,
    "inner": inner.main,
    "evidence": evidence.main,
    "contexts": contexts.main,
}


# They train for hours, and are run by name alone.
AFTERNOONS = ("evidence", "contexts")
# Which options a bench heeds.
HEEDED = {"transcribe": ("model",), "inner": ("model",), "cached": ("model", "clips", "split")}


def main() -> int:
    """Run the measurements asked for, all by default; 1 if one of them could not be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "which", nargs="*", choices=[[], *MEASUREMENTS], help="all but evidence and contexts by default"
    )
    parser.add_argument(
        "--model",
        help="for transcribe a packaged run (models/whisper/quickstart by default), for inner any, for cached an untouched "
        "Whisper (openai/whisper-base by default for both)",
    )
    parser.add_argument("--clips", type=int, help="how many clips, for cached (96 by default)")
    parser.add_argument("--split", help="whose test part, for cached (quickstart by default): its name or its folder")
    given = parser.parse_args()
    asked = Asked(given.model, given.clips, given.split)
    print(f"{date.today()}, {_processor()}, {os.cpu_count()} cores, {platform.platform()}\n")
    results, failed = run(given.which or [name for name in MEASUREMENTS if name not in AFTERNOONS], asked)
    print(f"## ratios against goals\n{table(results, list(MEASUREMENTS))}")
    for name, reason in failed.items():
        print(f"not measured: {name}: {reason}")
    return 1 if failed else 0


def run(names: list[str], asked: Asked, folder: Path = FOLDER) -> tuple[dict[str, Result], dict[str, str]]:
    """Measure and keep; the results, and why others could not be measured. One that fails does not cost the others."""
    results, failed = {}, {}
    for name in names:
        print(f"## {name}")
        try:
            heeded = Asked(**{option: getattr(asked, option) for option in HEEDED.get(name, ())})
            results[name] = measured(name, MEASUREMENTS[name](heeded), heeded)
        except (Exception, SystemExit) as error:
            failed[name] = str(error)
            print(f"not measured: {error}")
            if not isinstance(error, GovorError | SystemExit):
                traceback.print_exc()
        else:
            results[name].write(folder)
        print(flush=True)
    return results, failed


def _processor() -> str:
    from govor.machine import environment

    return str(environment()["processor"])


if __name__ == "__main__":
    raise SystemExit(main())
