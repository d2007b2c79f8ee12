"""Runs govor commands in processes of their own without importing torch anew for each: this one imports it once and forks.

A child is what a user's process would be (its own arguments, environment, folder, files for what it prints, exit status);
only the third-party imports are done already. Jobs come as JSON lines on stdin; an answer is one number on stdout: the exit
status of a command that was waited for, the process id of one that was only started, and for a process id its exit status,
or nothing while it runs.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from typing import Any

# Nothing of it reads the variables of the Hub.
LIGHT = (
    "soundfile",
    "soxr",
    "jiwer",
    "httpx",
    "pyarrow.parquet",
    "pydantic",
    "sqlite3",
    "typer",
    "yaml",
    "rich.progress",
)
HEAVY = (
    "torch",
    "transformers.models.whisper.modeling_whisper",
    "transformers.models.qwen2.modeling_qwen2",
    "peft",
    "tokenizers",
    "safetensors.torch",
)
LONGEST_SECONDS = 600
# A command whose environment has it does not wait between attempts.
NO_WAITING = "NO_WAITING"


def run(job: dict[str, Any]) -> int:
    """The process id of a job that was started."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _become(job)
            if job.get("code"):
                exec(compile(job["code"], "<test>", "exec"), {"__name__": "__main__"})
            else:
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
    return child


def ended(child: int, wait: bool) -> int | None:
    """The exit status of a process, negative where a signal ended it; None while it runs."""
    child, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if child else None


def _become(job: dict[str, Any]) -> None:
    if not job["wait"]:
        os.setsid()  # a signal to its group is heard by its workers, and by nobody else
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it and passes that on
    signal.alarm(LONGEST_SECONDS)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.argv = ["govor", *job["arguments"]]
    if os.environ.get(NO_WAITING):
        time.sleep = lambda seconds: None


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


def _fork_workers_too() -> None:
    """Workers of a command would import again what it has imported; forked from it they start at once."""
    plain = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: plain("fork" if method == "forkserver" else method)  # type: ignore[assignment]


def main() -> None:
    """Serve until stdin closes."""
    for name in LIGHT if "light" in sys.argv else (*LIGHT, *HEAVY):
        importlib.import_module(name)
    _fork_workers_too()
    gc.freeze()  # a collection in a child would walk over, and so copy, all that was imported
    for line in sys.stdin:
        job = json.loads(line)
        answer = ended(job["of"], wait=False) if "of" in job else run(job)
        if job.get("wait"):  # nothing else is served meanwhile
            answer = ended(answer, wait=True)  # type: ignore[arg-type]
        print("" if answer is None else answer, flush=True)


if __name__ == "__main__":
    main()
