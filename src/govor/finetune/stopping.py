"""Being asked to end: the step is finished and a checkpoint saved first; who asks again is obeyed at once."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from accelerate import Accelerator

from govor.errors import GovorError

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# A launcher sends on what the terminal has sent to all its processes already.
_SAME_SECONDS = 2.0


class Interrupted(GovorError):
    """A signal ended the run. The exit code is the shell's, 128 + the signal's number."""

    def __init__(self, number: int, what: str, resumable: bool) -> None:
        super().__init__(f"{signal.Signals(number).name}: {what}.")
        self.exit_code = 128 + number
        self.resumable = resumable

    def with_remedy(self, remedy: str) -> Interrupted:
        """The same, with what to do in place of the full stop."""
        self.args = (f"{str(self).rstrip('.')}; {remedy}",)
        return self


class StopNow(BaseException):
    """Raised where nothing need be finished first. Not an Exception: nothing may take it for a failure of its own."""


class Stop:
    """Hears SIGINT, SIGTERM and SIGHUP while it is entered; a signal that is ignored already stays so (nohup)."""

    def __init__(self, processes: int = 1) -> None:
        self.number: int | None = None
        self.agreed = False
        self._processes = processes
        self._at_once = True
        self._heard = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def finishing_steps(self) -> Iterator[None]:
        """While the block runs, what is begun is finished before the end."""
        self._at_once = False
        try:
            yield
        finally:
            self._at_once = True

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """While the block runs, nothing need be finished. Several processes measure together, and end together after it."""
        if self.number is not None and self._processes == 1:
            raise StopNow
        self._at_once = self._processes == 1
        try:
            yield
        finally:
            self._at_once = False

    def asked(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked to end; all get the same answer."""
        if not self.agreed:
            mine = float(self.number or 0)
            if accelerator.num_processes > 1:
                mine = float(accelerator.reduce(torch.tensor(mine, device=accelerator.device), "sum"))
            self.agreed = mine > 0
        return self.agreed

    def _hear(self, number: int, _: Any) -> None:
        if number == getattr(signal, "SIGHUP", None):
            _leave_terminal()
        if self.number is not None:
            if self._processes > 1 and time.monotonic() - self._heard < _SAME_SECONDS:
                return
            _tell("ended at once; the last checkpoint is whole", cursor=True)
            os._exit(128 + number)
        self.number, self._heard = number, time.monotonic()
        if self._at_once:
            raise StopNow
        if os.environ.get("RANK", "0") == "0":
            name = signal.Signals(number).name
            _tell(f"{name}: finishing the step and saving a checkpoint; a second signal ends at once")


def _tell(text: str, cursor: bool = False) -> None:
    """To standard error past everything that may be in the middle of writing there."""
    with suppress(OSError):
        shown = "\x1b[?25h" if cursor and os.isatty(2) else ""
        os.write(2, f"{shown}\ngovor: {text}\n".encode())


def _leave_terminal() -> None:
    """The terminal is gone: writing to it would fail in the middle of saving."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, descriptor)
                os.close(nothing)
