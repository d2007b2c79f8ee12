"""What is known of a family without loading it: nothing here needs torch.

Each family's folder has a `settings.py` with one `FamilySettings` called `SETTINGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from govor.config import Settings
from govor.examples.settings import Examples
from govor.families.task import ContextMode, Task
from govor.hub import PackagedModel
from govor.jsons import Record

if TYPE_CHECKING:
    from govor.families.base import Family, Head, Recogniser

Shapes = dict[str, tuple[int, ...]]


class Gates(Settings):
    """What a run must reach, without the gates themselves, which are the task's. Unset gates are not asked."""

    measured_on: str | None = Field(
        None, description="SUITE/SET that the rates are of; the run's own test set if unset"
    )
    context: ContextMode | None = Field(
        None, description="the audio context that is judged; the one that the run was trained for if unset"
    )

    @model_validator(mode="after")
    def _names_a_set(self) -> Gates:
        if self.measured_on is not None and (self.measured_on.count("/") != 1 or not all(self.measured_on.split("/"))):
            raise ValueError(
                f"acceptance.measured_on is '{self.measured_on}', and SUITE/SET was wanted, such as hebrew/eval-d1"
            )
        return self

    def gates(self) -> dict[str, float]:
        """The gates that are asked, with their limits."""
        limits = self.model_dump(exclude={"measured_on", "context", "stages"})
        return {name: limit for name, limit in limits.items() if limit is not None}


def _anything(_: object) -> None:
    """Nothing to refuse."""


def _nowhere(_package: Path, _heads: object) -> None:
    """No other tool asks."""


@dataclass(frozen=True, eq=False)
class FamilySettings:
    """A family's task, its parts of a recipe, and what can be done with its files before torch is imported.

    Attributes:
        task: what it is trained and judged for.
        examples: its section `examples` of a recipe.
        gates: its section `acceptance` of a recipe.
        formats: what it can be packaged in, the one that is always written first.
        check_examples: raises ValueError where a recipe asks for what the family does not have.
        check_language: raises GovorError where its models cannot be told a language.
        check_model: raises GovorError where the configuration (first) and the shapes of the weights do not fit each other;
            the last is the folder they are of.
        vocabulary: the size of the vocabulary that a configuration means which states none; None if nothing is meant.
        steering: tokens whose ids a tokenizer must give below the size of the vocabulary.
        importers: what makes a model of weights in another format than safetensors, by format (ctranslate2, ggml).
        engines: what opens an exported model for transcribing, by engine.
        packages: weights that package registries carry, by the Hub's name for them.
        nested: parts of a configuration that hold sizes and ids of their own.
        library: the Hub's name for the library that loads what is always packaged; None where only govor does.
        write_heads: names in a package, where other tools look, the (layer, head) pairs that follow the speech.
    """

    task: Task
    gates: type[Gates]
    formats: tuple[str, ...]
    examples: type[Examples] = Examples
    check_examples: Callable[[Examples], None] = _anything
    check_language: Callable[[str], None] = _anything
    check_model: Callable[[Record, Shapes, Path], None] | None = None
    vocabulary: int | None = None
    steering: Sequence[str] = ()
    importers: Mapping[str, Callable[[Path], Family]] = field(default_factory=dict)
    engines: Mapping[str, Callable[[Path], Recogniser]] = field(default_factory=dict)
    packages: Mapping[str, PackagedModel] = field(default_factory=dict)
    nested: tuple[str, ...] = ("audio_config", "text_config")
    library: str | None = None
    write_heads: Callable[[Path, Sequence[Head]], None] = _nowhere
