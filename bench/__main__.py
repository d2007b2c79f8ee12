"""`make bench`, or `python -m bench decode corpus near language stream train seq2seq transcribe scoring align inner evidence contexts`."""

from __future__ import annotations

import argparse
import os
import platform
from datetime import date

from bench import (
    align,
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

MEASUREMENTS = {
    "decode": decode.main,
    "corpus": corpus.main,
    "near": near.main,
    "language": language.main,
    "stream": stream.main,
    "train": train_step.main,
    "seq2seq": seq2seq.main,
    "transcribe": transcribe.main,
    "scoring": scoring.main,
    "align": align.main,
    "inner": inner.main,
    "evidence": evidence.main,
    "contexts": contexts.main,
}


def main() -> None:
    """Run the measurements asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "which", nargs="*", choices=[[], *MEASUREMENTS], help="all but evidence and contexts by default"
    )
    parser.add_argument(
        "--model",
        help="a packaged run, for transcribe (models/whisper/quickstart by default) and inner (untouched base)",
    )
    asked = parser.parse_args()
    print(f"{date.today()}, {_processor()}, {os.cpu_count()} cores, {platform.platform()}\n")
    for name in asked.which or [name for name in MEASUREMENTS if name not in ("evidence", "contexts")]:
        print(f"## {name}")
        MEASUREMENTS[name](asked.model)
        print()


def _processor() -> str:
    from govor.machine import environment

    return str(environment()["processor"])


if __name__ == "__main__":
    main()
