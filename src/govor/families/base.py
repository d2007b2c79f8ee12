"""What a model family must be able to do: the seam between the training loop and a model.

A `Family` renders examples, computes a loss, saves and exports itself. A `Recogniser` transcribes. What recognises speech
is both, a classifier a Family alone, an exported CTranslate2 model a Recogniser alone. Training, evaluation and serving all
go through these methods, so they cannot drift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import nn

from govor.audio import Samples
from govor.corpus.records import Clip
from govor.examples.settings import Examples
from govor.examples.spec import ExampleSpec
from govor.families.task import ContextMode, DecodeOptions, Task
from govor.languages import language_of_all
from govor.runs import Json

GREEDY = DecodeOptions()
# A target that is not in the loss.
IGNORED = -100
# Every value has one entry per example: a tensor whose first dimension is the batch, or a list of tensors.
Batch = Json


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One transcription of one clip.

    `mean_logprob` is the natural-log probability per generated token; `complete` is False where the model was stopped
    by its limit before it said that it had finished; `no_speech` is the probability that it gave to there being none, of
    models that say so.
    """

    text: str
    tokens: list[int]
    mean_logprob: float
    complete: bool = True
    no_speech: float | None = None


@dataclass(frozen=True, slots=True)
class Labels:
    """`tokens` as the model sees them; the first `given` of them are not in the loss."""

    tokens: list[int]
    given: int


Head = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Attention:
    """Where a model listened while it was made to write a given text.

    `weights` [heads, tokens, positions] sum to about 1 over the positions; a position lasts `position_seconds`; `owner`
    says to which piece of the text each token belongs; `logprobs` [tokens] are natural logarithms; `heads` are the
    (layer, head) of the first axis.
    """

    weights: npt.NDArray[np.float32]
    position_seconds: float
    owner: tuple[int, ...]
    logprobs: npt.NDArray[np.float32]
    heads: tuple[Head, ...]


class Renderer(Protocol):
    """The part of a family that data-loading workers need: no weights in it, so it is cheap to send to them.

    `longest_seconds` is the longest clip that the model takes at once; `features` are the names of the example features
    (see `govor.examples.features`) that it can render.
    """

    longest_seconds: float
    features: tuple[str, ...]

    def cost_frames(self, spec: ExampleSpec) -> int:
        """What an example costs in memory, in frames of 10 ms; it depends on the example alone."""
        ...

    def encode(self, spec: ExampleSpec, samples: Samples) -> object:
        """Features (as `mel` [bands, frames]) and labels of one example, a dataclass that nobody else looks into."""
        ...

    def collate(self, examples: Sequence[object]) -> Batch:
        """Examples that it encoded as one batch; see `all_of`."""
        ...

    def check(self, spec: ExampleSpec) -> None:
        """Raise GovorError when this row cannot become an example (too long, unknown language)."""
        ...

    def spelled(self, spec: ExampleSpec) -> list[tuple[str, int, bool]]:
        """What the model is taught for an example, as a person reads it: (text, number of tokens, whether it is in the loss)."""
        ...


Encoded = TypeVar("Encoded")


def all_of(kind: type[Encoded], examples: Sequence[object]) -> list[Encoded]:
    """Examples as what a renderer made of them.

    Raises:
        TypeError: another one made them.
    """
    own = [example for example in examples if isinstance(example, kind)]
    if len(own) < len(examples):
        raise TypeError(f"examples of another renderer; {kind.__name__} was wanted")
    return own


def spelled(tokenizer: Tokenizer, labels: Labels) -> list[tuple[str, int, bool]]:
    """See `Renderer.spelled`: each steering token by itself, runs of text together; hundreds of one token are one piece."""
    given, taught = labels.tokens[: labels.given], labels.tokens[labels.given :]
    return [
        (text, count, counts)
        for ids, counts in ((given, False), (taught, True))
        for text, count in _pieces(tokenizer, ids)
    ]


def _pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[tuple[str, int]]:
    added = tokenizer.get_added_tokens_decoder()
    pieces: list[tuple[str, int]] = []
    run: list[int] = []
    for index in [*ids, None]:
        # Hundreds of audio tokens in a row are one piece.
        if pieces and not run and index is not None and index in added and pieces[-1][0] == added[index].content:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + 1)
            continue
        if index is not None and index not in added and tokenizer.id_to_token(index) is not None:
            run.append(index)
            continue
        if run:
            pieces.append((tokenizer.decode(run, skip_special_tokens=False), len(run)))
            run = []
        if index is not None:
            pieces.append((added[index].content if index in added else f"<|{index}|>", 1))
    return pieces


class Inference:
    """Base of every recogniser that runs a model here: nothing is learned where it writes or listens.

    Its `transcribe`, `nbest` and `attend` build no graph, whatever the caller's mode is. It is the base class that sees
    to it, since a decorator in each family is easily lost, and nothing but memory and time would tell.

    `contexts` are the audio contexts that the model can be given, the one for a model that nobody adapted first.
    """

    contexts: ClassVar[tuple[ContextMode, ...]] = ("padded", "speech")

    def opened_for_use(self, cache: Path, notify: Callable[[str], None]) -> None:
        """Called when the model is opened to be used as it is. What it makes of its weights can be kept below `cache`."""

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        for name in ("transcribe", "nbest", "attend"):
            if name in vars(cls):
                setattr(cls, name, torch.inference_mode()(vars(cls)[name]))


Quantization = Literal["float32", "float16", "int8"]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What a package shall be like: the number format of converted weights, and the languages that the model is for."""

    quantization: Quantization = "float32"
    languages: tuple[str, ...] = ()

    @property
    def language(self) -> str | None:
        """The one that goes without saying, if it is for one alone."""
        return language_of_all(self.languages)


Packaged = TypeVar("Packaged", contravariant=True)


class Exporter(Protocol[Packaged]):
    """One format that a family can be packaged in. `folder` is where below the package it lies; "." is its root.

    What is written into the root comes first, so that the others can be made of it.
    """

    folder: str

    def check_installed(self) -> None:
        """Raise GovorError where a program that it needs is not installed."""
        ...

    def write(self, family: Packaged, target: Path, options: ExportOptions) -> None:
        """Write the model into `target`, which need not be there."""
        ...

    def verify(self, family: Packaged, target: Path, clips: Sequence[Clip], options: ExportOptions) -> Json:
        """What a consumer of the format gives on some clips beside what the trained model gives.

        Raises:
            GovorError: they differ by more than the format loses.
        """
        ...

    def usage(self, folder: str, options: ExportOptions) -> list[str]:
        """Lines of Markdown for the model card: how to use the package in `folder`; none where there is nothing to say."""
        ...


@runtime_checkable
class Family(Protocol):
    """A model with its way of making examples, computing a loss and saving itself, and the task that it is for.

    `notes` say what of its files was old or incomplete and was mended on loading. `exports` are its formats by name; the
    first is always written.
    """

    name: ClassVar[str]
    task: ClassVar[Task]
    exports: ClassVar[Mapping[str, Exporter[Self]]]
    module: nn.Module
    notes: list[str]

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32, **options: object) -> Self:
        """From a folder in the `transformers` layout, everything checked; `options` go to the library that loads it."""
        ...

    @classmethod
    def from_base(cls, folder: Path, weights: dict[str, torch.Tensor]) -> Self:
        """From what `save_base` wrote and the weights of a checkpoint (tied ones stored once)."""
        ...

    @staticmethod
    def load_renderer(folder: Path, examples: Examples) -> Renderer:
        """What renders its examples as a recipe wants them, without weights."""
        ...

    @property
    def renderer(self) -> Renderer:
        """What renders its examples."""
        ...

    def prepare_training(self, examples: Examples) -> None:
        """What must hold before a weight is trained and was not so in the model as it came (every text can be written).

        `examples` is the family's own section of the recipe. What of it the trained model needs (which label it was taught)
        becomes a part of the model here: `renderer` goes by it, and `save_base` writes it.
        """
        ...

    def loss(self, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum of the loss over what counts, how much counts); dividing is the loop's business."""
        ...

    def logits(self, batch: Batch) -> torch.Tensor:
        """What the loss is computed from, of every example of a batch; exports are compared by it."""
        ...

    @property
    def chance_loss(self) -> float:
        """The loss of a model that knows nothing."""
        ...

    def parts(self) -> dict[str, list[str]]:
        """Names of all parameters that training may change, by part.

        The parts of a recogniser are called encoder.stem, encoder.0 … encoder.N-1, encoder.norm, projector, embeddings,
        decoder.0 …, decoder.norm, head; a tied parameter stands in one of them. Made of `module.named_parameters()` at
        every call, since adapters that are put into the model add theirs. `finetune.groups` makes people's groups of them.
        """
        ...

    def lora_targets(self) -> list[str]:
        """Full names of the linear layers that get adapters by default."""
        ...

    def save_processor(self, folder: Path) -> None:
        """Tokenizer and feature extractor alone."""
        ...

    def save_base(self, folder: Path) -> None:
        """Configuration and processor files, no weights: what a checkpoint needs beside it to be loaded."""
        ...

    def save(self, folder: Path) -> None:
        """Everything, as the wider world loads it."""
        ...


@runtime_checkable
class Refreshing(Protocol):
    """A family that, while it trains, uses something made of its weights as they were some steps ago."""

    def refresh(self) -> None:
        """Make it from the weights as they are."""
        ...

    def refreshed(self) -> dict[str, torch.Tensor]:
        """It, by name, so that a checkpoint can hold it; empty where it was never made."""
        ...

    def restore_refreshed(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put what a checkpoint holds in its place."""
        ...


class Vocabulary(Protocol):
    """Text to ids and back."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The library's tokenizer."""
        ...


@runtime_checkable
class Tokenising(Protocol):
    """A family that writes text in tokens."""

    @property
    def tokens(self) -> Vocabulary:
        """Its vocabulary."""
        ...


@runtime_checkable
class Recogniser(Protocol):
    """Writes down what was said. A Family that does is a recogniser too; an exported model may be nothing else.

    One that runs a model here has `Inference` as its base.

    `longest_seconds` is the longest clip that it takes at once.
    """

    name: str
    longest_seconds: float

    def check_language(self, language: str) -> None:
        """Raise GovorError where the model cannot be told this language."""
        ...

    def transcribe(
        self,
        clips: Sequence[Samples],
        languages: Sequence[str | None],
        options: DecodeOptions = GREEDY,
        on_done: Callable[[int], None] | None = None,
        previous: Sequence[str | None] | None = None,
    ) -> list[Hypothesis]:
        """Transcriptions in the order of `clips` (none over `longest_seconds`).

        Args:
            languages: what the model is told of each clip's language; one of None it finds itself.
            options: its `language` and `served` do not count here.
            on_done: hears of every finished batch.
            previous: the text before each clip, for models that were taught to use it.
        """
        ...

    def nbest(self, clip: Samples, language: str | None, n: int, options: DecodeOptions = GREEDY) -> list[Hypothesis]:
        """The `n` best transcriptions of one clip, best first, found with as many beams; of `options` the context counts."""
        ...


@runtime_checkable
class Aligner(Protocol):
    """Says where it listens while it writes a given text, so that words can be given times."""

    @property
    def heads(self) -> tuple[Head, ...]:
        """Every (layer, head) it could be asked for."""
        ...

    def attend(
        self,
        clips: Sequence[Samples],
        pieces: Sequence[Sequence[str]],
        languages: Sequence[str],
        options: DecodeOptions = GREEDY,
        heads: Sequence[Head] | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Attention | None]:
        """Attention over each clip while its pieces (the text, cut; each with the space before it) are written.

        Args:
            options: its context counts.
            heads: those wanted; the ones that the model's configuration names if None.
            on_done: hears of every finished batch.

        None stands where there is no text, or more than the decoder holds.
        """
        ...
