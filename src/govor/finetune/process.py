"""This process's part in a training run: its device, its lock, the signals it hears, and what it leaves when it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from accelerate import PartialState
from accelerate.state import AcceleratorState

from govor.device import Choice, pick_device
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
    state = PartialState(cpu=chosen.value == "cpu")
    main = state.is_main_process
    shown = progress if main else SILENT_RUN
    place = Place(run, shown)
    try:
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
    finally:
        AcceleratorState._reset_state()  # the next run of this process begins anew


def _interrupted(number: int, run: Run, begun: bool) -> Interrupted:
    last = run.last_checkpoint() if begun else None
    if last is None:
        return Interrupted(number, "nothing was trained yet that could be saved", resumable=False)
    return Interrupted(number, f"{run.folder} is saved after step {int(read_state(last)['step'])}", resumable=True)
