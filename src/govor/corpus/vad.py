"""Where somebody speaks: the Silero detector where onnxruntime and its model can be had, else energy over the noise floor."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from govor.audio import SAMPLE_RATE, Samples
from govor.errors import GovorError
from govor.files import atomic_folder
from govor.hub import cache_folder, check_sha256, pip_download
from govor.silence import Sound, levels_db, stretches

FRAME = 512  # 32 ms, what Silero was trained on
_CONTEXT = 64
_PACKAGE = "silero-vad==6.2.3"
_MEMBER = "silero_vad/data/silero_vad.onnx"
_SHA256 = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"
_SPEECH_PROBABILITY = 0.5
_PAD_SECONDS = 0.1
_MIN_PAUSE_SECONDS = 0.1
# Energy that is speech: over the noise floor, and not too far below the loudest.
_SPEECH = Sound(under_peak_db=40.0, over_floor_db=9.0, floor_percentile=10, least_range_db=9.0)

Kind = Literal["auto", "silero", "energy"]
Spans = list[tuple[float, float]]


def open_vad(kind: Kind, notify: Callable[[str], None] = lambda _: None) -> Vad:
    """The detector asked for; `auto` takes Silero where it can be had, and says why where it cannot.

    Raises:
        GovorError: Silero was asked for by name and cannot be had.
    """
    if kind == "energy":
        return Vad("energy")
    try:
        _model_file(notify)
        import onnxruntime  # noqa: F401
    except (ImportError, GovorError) as error:
        reason = (
            "onnxruntime is not installed (pip install onnxruntime)" if isinstance(error, ImportError) else str(error)
        )
        if kind == "silero":
            raise GovorError(f"The Silero detector cannot be had: {reason}") from None
        notify(f"pauses are found by energy: {reason}")
        return Vad("energy")
    return Vad("silero")


class Vad:
    """Finds speech. Travels between processes by its name alone."""

    def __init__(self, name: Literal["silero", "energy"]) -> None:
        self.name = name

    def speech(self, samples: Samples) -> Spans:
        """Stretches of speech in seconds, each padded by 0.1 s, of samples [n] at 16 kHz."""
        padded = np.pad(samples, (0, -len(samples) % FRAME))
        if self.name == "silero":
            speaking = _silero(padded.reshape(-1, FRAME)) > _SPEECH_PROBABILITY
        else:
            speaking = _SPEECH.of(levels_db(padded, FRAME, least_power=1e-10))
        return _spans(speaking, len(samples) / SAMPLE_RATE)


def seconds_of_speech(spans: Spans, start: float, end: float) -> float:
    """How much of start…end the spans cover."""
    return sum(max(0.0, min(end, b) - max(start, a)) for a, b in spans)


def _spans(speaking: npt.NDArray[np.bool_], total_seconds: float) -> Spans:
    spans: Spans = []
    for start, end in stretches(speaking) * (FRAME / SAMPLE_RATE):
        begin, stop = max(0.0, start - _PAD_SECONDS), min(total_seconds, end + _PAD_SECONDS)
        if spans and begin - spans[-1][1] < _MIN_PAUSE_SECONDS:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((begin, stop))
    return [(float(start), float(end)) for start, end in spans]


def _silero(frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probability of speech [frames]; the model sees each frame after the last 64 samples of the one before."""
    session = _session()
    state = np.zeros((2, 1, 128), np.float32)
    context = np.zeros((1, _CONTEXT), np.float32)
    rate = np.array(SAMPLE_RATE, np.int64)
    probabilities = np.empty(len(frames), np.float32)
    for number, frame in enumerate(frames):
        with_context = np.concatenate([context, frame[None]], axis=1)
        output, state = session.run(None, {"input": with_context, "state": state, "sr": rate})
        probabilities[number] = output[0, 0]
        context = with_context[:, -_CONTEXT:]
    return probabilities


@cache
def _session() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(_model_file()), options, providers=["CPUExecutionProvider"])


def _model_file(notify: Callable[[str], None] = lambda _: None) -> Path:
    target = cache_folder() / "models" / _PACKAGE.replace("==", "-")
    file = target / Path(_MEMBER).name
    if not file.exists():
        notify("fetching the Silero speech detector (2 MB)")
        with (
            atomic_folder(target, "the Silero speech detector", shared=True) as folder,
            tempfile.TemporaryDirectory() as scratch,
        ):
            wheel = pip_download([_PACKAGE], Path(scratch))[0]
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(_MEMBER) as source,
                (folder / file.name).open("wb") as copy,
            ):
                shutil.copyfileobj(source, copy)
            check_sha256(folder / file.name, _SHA256)
    return file
