"""govor: from a folder of recordings to a speech recogniser that is measurably better.

In Python: `load`, `evaluate`, `train`, `Workspace`; see docs/python.md. They are imported when they are first used, so that
`import govor` takes no time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from govor.api import AudioError, EvalOptions, GovorError, Model, Workspace, evaluate, load, train

__version__ = "0.1.0"
__all__ = ["AudioError", "EvalOptions", "GovorError", "Model", "Workspace", "evaluate", "load", "train"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'govor' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module("govor.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
