"""From whatever names a model to the model: a path, a run, a checkpoint, a Hub id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from govor.config import read_yaml
from govor.errors import GovorError
from govor.families.base import Recogniser
from govor.families.checking import check_adapters, loading
from govor.families.registry import family_class, family_of
from govor.families.task import ContextMode
from govor.files import atomic_folder, sha256_of, sha256_of_lines
from govor.hub import Found, Notify, cache_folder, find_model
from govor.jsons import read_json
from govor.languages import language_of_all

Engine = Literal["torch", "ct2"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A model ready for use, under the name its scores are filed by.

    `language` and `context` are what it was trained for, as far as its record says: a stock model knows no language of
    its own and wants padded audio. `language_token` is the one it was taught for clips of every language, if it was;
    `previous` says whether it was taught to use the text before. What is measured of the model is kept in `folder`.
    """

    name: str
    recogniser: Recogniser
    folder: Path
    language: str | None
    context: ContextMode
    language_token: str | None = None
    previous: bool = False


def open_recogniser(
    source: str,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    engine: Engine = "torch",
    notify: Notify = lambda _: None,
) -> Opened:
    """Open `source` for transcription.

    Args:
        source: a package, a run folder (its best checkpoint), a checkpoint folder, a ggml file, a Hub id.
        engine: torch, or ct2 for the CTranslate2 files of a package.
    """
    path = Path(source)
    if engine == "ct2":
        from govor.families.whisper.ct2 import CTranslate2Whisper

        folder = path / "ct2" if (path / "ct2").is_dir() else path
        return Opened(_name(path), CTranslate2Whisper.load(folder), folder, *_trained_for(folder))
    run = _run_of(path) if path.is_dir() else None
    if run is not None:
        checkpoint = best_checkpoint(run) if path == run else path
        trained = load_checkpoint(run, checkpoint)
        tell_mended(trained, notify)
        trained.module.to(device=device, dtype=dtype)
        return Opened(run.name if path == run else f"{run.name}-{path.name}", trained, path, *_trained_for(run))
    found = find_model(source, notify)
    folder = trainable_folder(found, notify)
    kind = family_class(family_of(folder, source))
    with loading(folder):
        family = kind.load(folder, dtype)
    tell_mended(family, notify)
    family.module.to(device)
    return Opened(scored_name(source), family, folder, *_trained_for(folder))


def trainable_folder(found: Found, notify: Notify = lambda _: None) -> Path:
    """The model in the `transformers` layout; other formats are converted once and kept in the cache, and so are the best
    checkpoint of a run that is not packaged, and a checkpoint that is named."""
    if found.format == "hf":
        run = _run_of(found.path)
        return found.path if run is None else _whole(run, found.path, notify)
    from govor.families.whisper.convert import from_ctranslate2, from_ggml

    cached = found.path if found.format == "ctranslate2" else found.path.parent
    root = cached.parent if cached.is_relative_to(cache_folder()) else cache_folder() / "converted" / _stamp(found.path)
    target = root / "hf"
    if not target.exists():
        notify(f"converting {found.path.name} ({found.format}) into the transformers layout")
        whisper = from_ctranslate2(found.path) if found.format == "ctranslate2" else from_ggml(found.path)
        with atomic_folder(target, "the converted model", shared=True) as folder:
            whisper.save(folder)
        tell_mended(whisper, notify)
    return target


def _whole(run: Path, named: Path, notify: Notify) -> Path:
    """A checkpoint of a run as a model of its own."""
    checkpoint = best_checkpoint(run) if named == run else named
    stamp = f"{run.name}-{checkpoint.name}-{weights_stamp(checkpoint)}"
    target = cache_folder() / "converted" / stamp / "hf"
    if not target.exists():
        notify(f"making {checkpoint.name} of {run} a model of its own")
        family = load_checkpoint(run, checkpoint)
        with atomic_folder(target, "the converted model", shared=True) as folder:
            family.save(folder)
    return target


def tell_mended(family: Any, notify: Notify) -> None:
    """Say what was mended while a model was loaded."""
    for note in family.notes:
        notify(f"note: {note}")


def load_checkpoint(run: Path, checkpoint: Path) -> Any:
    """The model of one checkpoint of a run; adapters are merged into their base."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

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
            kind = family_class(family_of(run / "base", str(run), [file]))
            with loading(run / "base"):
                family = kind.from_base(run / "base", load_file(file))
    except (SafetensorError, OSError) as error:
        raise GovorError(f"The checkpoint {checkpoint} cannot be read ({error}); take another one.") from error
    return family


def load_base(run: Path) -> Any:
    """The model that a run began from, found again by its name and checked by its hash.

    Raises:
        GovorError: it is no longer there, or is another one.
    """
    kept = read_json(run / "base_model.json")
    folder = trainable_folder(find_model(kept["source"]))
    if base_sha256(folder) != kept["sha256"]:
        raise GovorError(f"{run} was trained on {kept['source']}, which has changed since; bring the old one back.")
    kind = family_class(family_of(folder, kept["source"]))
    with loading(folder):
        family = kind.load(folder)
    family.allow_all_text()
    return family


def base_sha256(folder: Path) -> str:
    """A hash over a model's weights."""
    return sha256_of_lines([sha256_of(file) for file in sorted(folder.glob("*.safetensors"))])


def weights_stamp(folder: Path) -> str:
    """What tells one state of a model's weights from another without reading them: names, sizes and times of its files."""
    places = [folder]
    if (folder / "checkpoints" / "best.json").exists():
        places.append(best_checkpoint(folder))
    files = [file for place in places for file in sorted(place.glob("*")) if file.suffix in (".safetensors", ".bin")]
    return sha256_of_lines([f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files])[:16]


def best_checkpoint(run: Path) -> Path:
    """The checkpoint that the run's own metric names best."""
    folder = run / "checkpoints"
    best = folder / "best.json"
    if not best.exists():
        raise GovorError(f"{run} holds no finished checkpoint; train it first, or go on with --resume.")
    return folder / str(read_json(best)["checkpoint"])


def _run_of(path: Path) -> Path | None:
    """The run folder of an unpackaged run or of one of its checkpoints."""
    if (path / "base").is_dir() and not (path / "package.json").exists():
        return path
    if path.parent.name == "checkpoints" and (path.parent.parent / "base").is_dir():
        return path.parent.parent
    return None


def scored_name(source: str) -> str:
    """The name under which the scores of `source` are filed."""
    path = Path(source)
    return _name(path) if path.exists() else source.split("/")[-1]


def _name(path: Path) -> str:
    resolved = path.resolve()
    return resolved.stem if resolved.is_file() else resolved.name


def _trained_for(folder: Path) -> tuple[str | None, ContextMode, str | None, bool]:
    """Language, audio context, language token and use of the text before of a govor run, from the record in its folder or
    the one above."""
    for place in (folder, folder.parent):
        file = place / "run_manifest.json"
        if file.exists():
            record = read_json(file)
            token, languages = record.get("language_token"), record.get("languages", [])
            examples = record["recipe"]["examples"]
            context: ContextMode = examples["context"]
            alone = language_of_all(languages)
            return token or alone, context, token, bool(examples.get("previous_share"))
        if (place / "recipe.yaml").exists():  # a run that is not finished
            examples = read_yaml(place / "recipe.yaml")["examples"]
            return examples["language"], examples["context"], examples["language"], bool(examples.get("previous_share"))
    return None, "padded", None, False


def _stamp(path: Path) -> str:
    status = (path / "model.bin" if path.is_dir() else path).stat()
    key = sha256_of_lines([str(path.resolve()), str(status.st_size), str(status.st_mtime_ns)])
    return f"{path.stem}-{key[:12]}"
