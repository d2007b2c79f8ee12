"""This process's part in a training run: its device, its lock, the signals it hears, and what it leaves when it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from accelerate import PartialState
from accelerate.state import AcceleratorState

from govor.device import Choice, pick_device
from govor.errors import GovorError
from govor.finetune.folder import Place, recover
from govor.finetune.reporting import SILENT_RUN, RunProgress
from govor.finetune.stopping import Interrupted, Stop, StopNow
from govor.runs import Run, read_state


@dataclass(frozen=True, slots=True)
class Process:
    """One of the processes that train a run together. Only the main one has a progress that anybody hears of."""

    run: Run
    state: PartialState
    device: Choice
    place: Place
    stop: Stop
    progress: RunProgress

    @property
    def main(self) -> bool:
        """Whether it is the one that writes files."""
        return bool(self.state.is_main_process)


@contextmanager
def taking_part(run: Run, device: str, progress: RunProgress, resuming: bool) -> Iterator[Process]:
    """Take part in a run while the block runs. Where it ends before the run has begun, an old run stands as before.

    Raises:
        GovorError: another process is at the run, or there is no such device.
        Interrupted: a signal came; what was trained is saved.
    """
    chosen = pick_device(device)
    with _accelerated(chosen) as state:
        yield from _part_in(run, chosen, state, progress, resuming)


@contextmanager
def _accelerated(device: Choice) -> Iterator[PartialState]:
    """Accelerate's state, which is one for all runs of this process: it goes when the last of them ends, so that the next
    begins anew.

    Raises:
        GovorError: another run of this process is on another device.
    """
    with _CHANGING:
        others = [other for other in _DEVICES if other != device.value]
        if others:
            raise GovorError(
                f"This process is training on {others[0]} and was asked to on {device.value}; take one of them."
            )
        _DEVICES.append(device.value)
        state = PartialState(cpu=device.value == "cpu")
    try:
        yield state
    finally:
        with _CHANGING:
            _DEVICES.remove(device.value)
            if not _DEVICES:
                AcceleratorState._reset_state()


def not_alone() -> bool:
    """Whether another run is being trained in this process, with which torch's generator is shared."""
    return len(_DEVICES) > 1


_CHANGING = threading.Lock()
_DEVICES: list[str] = []  # of every run of this process


def _part_in(run: Run, chosen: Choice, state: PartialState, progress: RunProgress, resuming: bool) -> Iterator[Process]:
    main = state.is_main_process
    shown = progress if main else SILENT_RUN
    place = Place(run, shown)
    with ExitStack() as stack:
        stop = stack.enter_context(Stop(state.num_processes))
        if main:
            stack.enter_context(run.held("trained"))
            recover(run)
        try:
            yield Process(run, state, chosen, place, stop, shown)
        except BaseException as error:
            if main:
                place.bring_back()
            if isinstance(error, StopNow):
                number = stop.number or signal.SIGTERM  # which another process was sent
                raise _interrupted(number, run, begun=place.begun or resuming) from None
            raise


def _interrupted(number: int, run: Run, begun: bool) -> Interrupted:
    last = run.last_checkpoint() if begun else None
    if last is None:
        return Interrupted(number, "nothing was trained yet that could be saved", resumable=False)
    return Interrupted(number, f"{run.folder} is saved after step {int(read_state(last)['step'])}", resumable=True)
