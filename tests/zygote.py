"""Runs govor commands in processes of their own without importing torch anew for each: this one imports it once and forks.

A child is what a user's process would be (its own arguments, environment, folder, files for what it prints, exit status);
only the third-party imports are done already. Jobs come as JSON lines on stdin, exit statuses go out on stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback

PRELOADED = (
    "torch",
    "transformers.models.whisper.modeling_whisper",
    "tokenizers",
    "safetensors.torch",
    "soundfile",
    "soxr",
    "jiwer",
    "pydantic",
    "typer",
    "yaml",
    "rich.progress",
)
LONGEST_SECONDS = 600


def run(job: dict[str, object]) -> int:
    """The exit status of one command, negative where a signal ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _become(job)
            from govor.cli import main

            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:  # what Python would print of any other process
            traceback.print_exc()
        finally:
            _end(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _become(job: dict[str, object]) -> None:
    signal.alarm(LONGEST_SECONDS)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(str(job[name]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(dict(job["environment"]))  # type: ignore[call-overload]
    os.chdir(str(job["folder"]))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.argv = ["govor", *map(str, job["arguments"])]  # type: ignore[call-overload]


def _end(status: int) -> None:
    import atexit
    import threading

    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def main() -> None:
    """Serve until stdin closes."""
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        print(run(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
