"""From whatever names a model to the model: a path, a run, a checkpoint, a Hub id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from govor import hub
from govor.config import parse, read_yaml
from govor.errors import GovorError
from govor.examples.settings import Examples
from govor.families import registry
from govor.families.base import Family, Inference, Recogniser
from govor.families.checking import check_adapters, loading
from govor.families.registry import family_class, family_of, settings_of
from govor.families.task import ContextMode, Task
from govor.files import atomic_folder, sha256_of, sha256_of_lines
from govor.hub import ModelFiles, Notify, cache_folder
from govor.languages import language_of_all
from govor.runs import Run, Workspace


def _quiet(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a model was trained for, as far as its record says; a stock model knows no language and no context.

    `language_token` is the one it was taught for clips of every language, if it was; `previous` says whether it was taught
    to use the text before.
    """

    language: str | None = None
    context: ContextMode | None = None
    language_token: str | None = None
    previous: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A model ready for use, under the name its scores are filed by. What is measured of it is kept in `folder`."""

    name: str
    model: Family | Recogniser
    folder: Path
    task: Task
    trained: Training = Training()

    @property
    def recogniser(self) -> Recogniser:
        """The model, which must write text.

        Raises:
            GovorError: it is for something else.
        """
        if not isinstance(self.model, Recogniser):
            raise GovorError(f"{self.name} writes no text, it is for {self.task.name}; a speech recogniser was wanted.")
        return self.model

    @property
    def language(self) -> str | None:
        """The one language that it was trained for."""
        return self.trained.language

    @property
    def context(self) -> ContextMode:
        """The audio context that it was trained for; of a model that no record says it of, the best that it can be given."""
        contexts = self._contexts()
        trained = self.trained.context or contexts[0]
        # Only the engine can lack one, and what is cached stands for padding.
        return trained if trained in contexts else "padded"

    def in_context(self, asked: ContextMode | None) -> ContextMode:
        """The audio context to use; its own if none is asked for.

        Raises:
            GovorError: it cannot be given that one.
        """
        contexts = self._contexts()
        if asked is not None and asked not in contexts:
            raise GovorError(
                f"{self.name} cannot be given the audio context '{asked}' here; --context {' or '.join(sorted(contexts))} was "
                "wanted (cached silence is for Whisper in the torch engine)."
            )
        return asked or self.context

    def _contexts(self) -> tuple[ContextMode, ...]:
        return self.model.contexts if isinstance(self.model, Inference) else self.task.contexts

    @property
    def language_token(self) -> str | None:
        """The language that it was told for every clip."""
        return self.trained.language_token

    @property
    def previous(self) -> bool:
        """Whether it was taught to use the text before."""
        return self.trained.previous


def open_model(
    source: str,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    engine: str = "torch",
    notify: Notify = _quiet,
    workspace: Workspace | None = None,
) -> Opened:
    """Open `source` for use.

    Args:
        source: a package, a run folder (its best checkpoint), a checkpoint folder, a ggml file, a Hub id.
        engine: torch, or one that runs an export of a package; see `registry.engines`.
        workspace: the one that a run's files name its base model in.
    """
    path = Path(source)
    if engine != "torch":
        return _exported(path, engine)
    run = _unpackaged(path, workspace or Workspace()) if path.is_dir() else None
    if run is not None:
        whole = path == run.folder
        family = load_checkpoint(run, run.best_checkpoint() if whole else path)
        tell_mended(family, notify)
        family.module.to(device=device, dtype=dtype)
        name = run.name if whole else f"{run.name}-{path.name}"
        return Opened(name, family, path, family.task, _training(run.folder))
    folder = trainable_folder(find_model(source, notify), notify)
    kind = family_class(family_of(folder, source))
    with loading(folder):
        family = kind.load(folder, dtype)
    tell_mended(family, notify)
    family.module.to(device)
    if isinstance(family, Inference):
        family.opened_for_use(cache_folder(), notify)
    return Opened(scored_name(source), family, folder, family.task, _training(folder))


def _exported(path: Path, engine: str) -> Opened:
    """The files of a package that another engine runs."""
    registry.check_engine(engine, str(path))
    name, load = registry.engine(engine)
    folder = path / engine if (path / engine).is_dir() else path
    return Opened(_name(path), load(folder), folder, registry.task_of(name), _training(folder))


def find_model(source: str, notify: Notify = _quiet) -> ModelFiles:
    """Locate the weights of `source`; see `hub.find_model`."""
    return hub.find_model(source, notify, registry.packaged(source))


def trainable_folder(model: ModelFiles, notify: Notify = _quiet, workspace: Workspace | None = None) -> Path:
    """The model in the `transformers` layout; other formats are converted once and kept in the cache, and so are the best
    checkpoint of a run that is not packaged, and a checkpoint that is named."""
    if model.format == "hf":
        run = _unpackaged(model.path, workspace or Workspace())
        return model.path if run is None else _whole(run, model.path, notify)
    cached = model.path if model.format == "ctranslate2" else model.path.parent
    root = cached.parent if cached.is_relative_to(cache_folder()) else cache_folder() / "converted" / _stamp(model.path)
    target = root / "hf"
    if not target.exists():
        notify(f"converting {model.path.name} ({model.format}) into the transformers layout")
        family = registry.importer(model.format)(model.path)
        with atomic_folder(target, "the converted model", shared=True) as folder:
            family.save(folder)
        tell_mended(family, notify)
    return target


def _whole(run: Run, named: Path, notify: Notify) -> Path:
    """A checkpoint of a run as a model of its own."""
    checkpoint = run.best_checkpoint() if named == run.folder else named
    stamp = f"{run.name}-{checkpoint.name}-{weights_stamp(checkpoint)}"
    target = cache_folder() / "converted" / stamp / "hf"
    if not target.exists():
        notify(f"making {checkpoint.name} of {run.folder} a model of its own")
        family = load_checkpoint(run, checkpoint)
        with atomic_folder(target, "the converted model", shared=True) as folder:
            family.save(folder)
    return target


def findable(base_model: str) -> str:
    """How `transformers` finds a base model from anywhere: the Hub's name for it, or the folder of a local one.

    A ggml file or CTranslate2 folder, and weights that came from a package since the Hub could not be reached, are kept in
    the `transformers` layout in our cache.
    """
    try:
        located = find_model(base_model)
        if located.format == "hf" and not Path(base_model).exists():
            return base_model
        return str(trainable_folder(located).resolve())
    except GovorError:  # gone since the run began, which is no reason to lose a checkpoint
        return base_model


def tell_mended(family: Family, notify: Notify) -> None:
    """Say what was mended while a model was loaded."""
    for note in family.notes:
        notify(f"note: {note}")


def load_checkpoint(run: Run, checkpoint: Path) -> Family:
    """The model of one checkpoint of a run; adapters are merged into their base."""
    from govor.families import adapters

    try:
        if (checkpoint / adapters.WEIGHTS).exists():
            check_adapters(checkpoint)
            family = load_base(run)
            with loading(checkpoint):
                adapters.attach(family.module, checkpoint)
                adapters.merge(family.module)
        else:
            file = checkpoint / "model.safetensors"
            base = run.folder / "base"
            kind = family_class(family_of(base, str(run.folder), [file]))
            with loading(base):
                family = kind.from_base(base, load_file(file))
    except (SafetensorError, OSError) as error:
        raise GovorError(f"The checkpoint {checkpoint} cannot be read ({error}); take another one.") from error
    return family


def load_base(run: Run) -> Family:
    """The model that a run began from, found again by its name and checked by its hash.

    Raises:
        GovorError: it is no longer there, or is another one.
    """
    base = run.read("base_model.json")
    source: str = base["source"]
    folder = trainable_folder(find_model(run.workspace.model(source)), workspace=run.workspace)
    if base_sha256(folder) != base["sha256"]:
        raise GovorError(f"{run.folder} was trained on {source}, which has changed since; bring the old one back.")
    kind = family_class(family_of(folder, source))
    with loading(folder):
        family = kind.load(folder)
    family.prepare_training(_examples_of(run, kind.name))
    return family


def _examples_of(run: Run, family: str) -> Examples:
    """How a run made its examples."""
    file = run.recipe_file
    return parse(settings_of(family).examples, read_yaml(file).get("examples") or {}, str(file))


def base_sha256(folder: Path) -> str:
    """A hash over a model's weights."""
    return sha256_of_lines([sha256_of(file) for file in sorted(folder.glob("*.safetensors"))])


def weights_stamp(folder: Path) -> str:
    """What tells one state of a model's weights from another without reading them: names, sizes and times of its files."""
    run = Run(folder)
    places = [folder, run.best_checkpoint()] if run.has_best else [folder]
    files = [file for place in places for file in sorted(place.glob("*")) if file.suffix in (".safetensors", ".bin")]
    return sha256_of_lines([f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files])[:16]


def _unpackaged(path: Path, workspace: Workspace) -> Run | None:
    """The run that a folder is, as long as it is no package, or that it is a checkpoint of."""
    if (path / "base").is_dir() and not Run(path).packaged:
        return Run(path, workspace)
    if path.parent.name == "checkpoints" and (path.parent.parent / "base").is_dir():
        return Run(path.parent.parent, workspace)
    return None


def scored_name(source: str) -> str:
    """The name under which the scores of `source` are filed."""
    path = Path(source)
    return _name(path) if path.exists() else source.split("/")[-1]


def _name(path: Path) -> str:
    resolved = path.resolve()
    return resolved.stem if resolved.is_file() else resolved.name


def _training(folder: Path) -> Training:
    """What a govor run was trained for, from the record in its folder or the one above."""
    for run in (Run(folder), Run(folder.parent)):
        if run.finished:
            record = run.record()
            examples, token = record.recipe["examples"], record.language_token
            alone = language_of_all(record.languages)
            return Training(token or alone, examples["context"], token, bool(examples.get("previous_share")))
        if (run.folder / "recipe.yaml").exists():  # a run that is not finished
            examples = read_yaml(run.folder / "recipe.yaml")["examples"]
            token = examples["language"]
            return Training(token, examples["context"], token, bool(examples.get("previous_share")))
    return Training()


def _stamp(path: Path) -> str:
    status = (path / "model.bin" if path.is_dir() else path).stat()
    key = sha256_of_lines([str(path.resolve()), str(status.st_size), str(status.st_mtime_ns)])
    return f"{path.stem}-{key[:12]}"
