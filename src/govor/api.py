"""govor from Python: load a model, transcribe, align, score, train.

These are the use cases behind the commands, with the workspace said outright and typed results; see docs/python.md. Paths
that are not absolute are relative to the workspace. What needs torch imports it when it is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from govor.audio import probe
from govor.corpus.records import Clip
from govor.corpus.vad import Kind as Detector
from govor.corpus.vad import open_vad
from govor.errors import AudioError, GovorError
from govor.families.task import ContextMode
from govor.measure import evaluate as scoring
from govor.measure.evaluate import EvalOptions
from govor.measure.scoring import ClipSet, Filed
from govor.progress import SILENT, Progress
from govor.runs import Workspace

if TYPE_CHECKING:
    from govor.families.opening import Opened
    from govor.finetune.callbacks import Callback
    from govor.finetune.reporting import RunProgress
    from govor.finetune.request import Resume
    from govor.finetune.train import Finished
    from govor.timing.align import Aligned
    from govor.timing.transcribe import Transcript

__all__ = ["AudioError", "EvalOptions", "GovorError", "Model", "Workspace", "evaluate", "load", "train"]

ExistingRun = Literal["refuse", "resume", "resume-changed", "overwrite"]
_HERE = Workspace()


class Model:
    """A speech recogniser, ready for use; `load` makes one.

    `opened` is what the other stages of govor take.
    """

    def __init__(self, opened: Opened, workspace: Workspace = _HERE) -> None:
        self.opened, self.workspace = opened, workspace

    @property
    def name(self) -> str:
        """The name that its scores are filed under."""
        return self.opened.name

    @property
    def language(self) -> str | None:
        """The one language that it was trained for."""
        return self.opened.language

    @property
    def context(self) -> ContextMode:
        """The audio context that it was trained for."""
        return self.opened.context

    def transcribe(
        self,
        audio: str | Path,
        language: str | None = None,
        words: bool = False,
        beam_size: int = 1,
        vad: Detector | Literal["off"] = "auto",
        progress: Progress = SILENT,
    ) -> Transcript:
        """What is said in a recording of any length.

        Args:
            language: its code; the model's own, or a detected one, if None.
            words: give every word its time; the language must be known then.
            vad: how windows without speech are found.

        Raises:
            AudioError: the recording cannot be read.
        """
        from govor.timing.transcribe import options_for, transcribe_files

        detector = None if vad == "off" else open_vad(vad, progress.note)
        options = options_for(self.opened, language, beam_size=beam_size, vad=detector)
        files = [self.workspace.path(audio)]
        (transcript,) = transcribe_files(self.workspace, self.opened, files, options, words, progress)
        if isinstance(transcript, AudioError):
            raise transcript
        return transcript

    def align(self, audio: str | Path, text: str, language: str | None = None, progress: Progress = SILENT) -> Aligned:
        """The words of a known text with their times in a recording of any length.

        Raises:
            AudioError: the recording cannot be read.
            GovorError: the language is not known.
        """
        from govor.timing.any_length import align_any, alignment_heads

        spoken = language or self.language
        if spoken is None:
            raise GovorError(f"{self.name} was not trained for one language; say which one is spoken.")
        file = self.workspace.path(audio)
        clip = Clip(file.stem, str(file), text, probe(file).duration_seconds, spoken)
        heads = alignment_heads(self.workspace, self.opened, [clip], self.context, progress=progress)
        aligned, _ = align_any(self.opened.recogniser, clip, self.context, heads, check=False)
        return aligned


def load(
    model: str | Path,
    workspace: Workspace = _HERE,
    device: str = "auto",
    precision: scoring.PrecisionName = "auto",
    engine: str = "torch",
    progress: Progress = SILENT,
) -> Model:
    """Open a model for use.

    Args:
        model: a package, a run (its best checkpoint), a checkpoint, a ggml file, or a name on the Hugging Face Hub.
        engine: torch, or ct2 for the CTranslate2 files of a package.

    Raises:
        GovorError: there is no such model, or it is damaged.
    """
    options = EvalOptions(engine=engine, precision=precision, device=device)
    opened, _ = scoring.open_model(workspace, str(model), options, progress)
    return Model(opened, workspace)


def evaluate(
    model: str | Path,
    manifest: str | Path,
    workspace: Workspace = _HERE,
    options: EvalOptions = EvalOptions(),
    max_clips: int | None = None,
    progress: Progress = SILENT,
) -> list[Filed]:
    """Score a model on the clips of a manifest, once for each audio context. Each result is filed in `manifests/evals/`.

    Args:
        max_clips: at most so many clips, the same sample for every model.

    Raises:
        GovorError: clips or model cannot be used, or a result is there already; see `EvalOptions.existing`.
    """
    clips = ClipSet.read(workspace, workspace.path(manifest), max_clips)
    return scoring.evaluate(workspace, str(model), clips, options, progress)


def train(
    recipe: str | Path,
    workspace: Workspace = _HERE,
    settings: Sequence[str] = (),
    existing: ExistingRun = "refuse",
    device: str = "auto",
    progress: RunProgress | None = None,
    callbacks: Sequence[Callback] = (),
) -> Finished:
    """Train as a recipe says.

    Args:
        recipe: the name of a shipped recipe, a .yaml file, or the run_manifest.json of a run to repeat.
        settings: changes to it, each as NAME=VALUE.
        existing: what becomes of a run of that name that is there already: it is refused; gone on with; gone on with by another
            recipe or with other data, which its record then says; or gives way.
        callbacks: called at every moment of the run; one of them can end it.

    Raises:
        GovorError: there is no such recipe, its data cannot be used, or the run exists.
        Pruned: a callback gave the run up; it can be gone on with.
    """
    from govor.finetune.request import ask

    resume: Resume = "changed" if existing == "resume-changed" else existing == "resume"
    request = ask(workspace, str(recipe), settings, resume, existing == "overwrite", device)
    from govor.finetune.reporting import SILENT_RUN
    from govor.finetune.train import train_as_asked  # only now: it imports torch

    return train_as_asked(workspace, request, progress or SILENT_RUN, callbacks)
