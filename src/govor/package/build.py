"""`govor package`: the best checkpoint of a run as a folder that the wider world loads.

`package.json` is written last: without it the folder is a run and no package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from govor.errors import GovorError, disk_errors
from govor.examples.dataset import load_batch
from govor.examples.spec import ExampleSpec
from govor.families import adapters
from govor.families.base import Aligner
from govor.families.opening import best_checkpoint, load_base, load_checkpoint
from govor.families.registry import family_of
from govor.files import atomic_folder, put_in_place, remove, sha256_of, workspace_path, write_text
from govor.jsons import read_json, write_json
from govor.languages import language_of_all
from govor.locks import held
from govor.machine import now
from govor.package import Format
from govor.package.card import model_card
from govor.package.processor import package_processor
from govor.package.verify import verify_ct2, verify_hf, verify_reload
from govor.runs import Run
from govor.timing.heads import hand_over, kept_for_padding

# Formats that exist for one family alone.
_OF_FAMILY: dict[Format, str] = {"ct2": "whisper", "thinker": "qwen3_asr"}
# Of each manifest so many transcripts must survive the tokenizer.
_TEXTS = 1000
Quantization = Literal["float32", "float16", "int8"]


def package(
    run: Path, formats: list[Format], checkpoint: str | None, quantization: Quantization = "float32"
) -> dict[str, Any]:
    """Write the package into the run's folder and return what `package.json` says.

    Everything is made and proven in one folder first; what was packaged before stands until then.

    Raises:
        GovorError: no run, no such checkpoint, or an export that does not do what was trained.
    """
    Run(run).check_finished()
    with held(run, "packaged"):
        return _package(run, formats, checkpoint, quantization)


def _package(run: Path, formats: list[Format], checkpoint: str | None, quantization: Quantization) -> dict[str, Any]:
    chosen = best_checkpoint(run) if checkpoint is None else run / "checkpoints" / checkpoint
    Run(run).checkpoint(chosen.name)
    for name in formats:
        if _OF_FAMILY.get(name, run.parent.name) != family_of(run / "base", str(run)):
            raise GovorError(f"The format '{name}' is for {_OF_FAMILY[name]} models, and {run} is none.")
    if "ct2" in formats:
        _require_ct2()
    record = read_json(run / "run_manifest.json")
    clips = _proof_clips(record)
    family, checks = _merged(run, chosen, clips)
    spoken = [record["language_token"]] if record.get("language_token") else record["languages"]
    family.assume_language(language_of_all(spoken))
    made = run / ".package"
    for leftover in (made, run / ".hf"):  # of one that was killed while it moved the files
        remove(leftover)
    with atomic_folder(made, "the package") as folder:
        family.save(folder)
        heads = kept_for_padding((chosen, run), family.heads) if isinstance(family, Aligner) else None
        if heads:
            hand_over(folder, heads)
        checks["hf"] = verify_hf(folder, family, clips)
        if "ct2" in formats:
            checks["ct2"] = _export_ct2(folder, family, clips, quantization)
        if "thinker" in formats:
            (folder / "thinker").mkdir()
            family.save_thinker(folder / "thinker", spoken)
            checks["thinker"] = verify_reload(folder / "thinker", family, clips)
        write_text(folder / "README.md", model_card(run, chosen, formats))
        processor = package_processor(family, run, _transcripts(record))
        result = {
            "created": now(),
            "checkpoint": chosen.name,
            "formats": sorted({"hf", *formats}),
            "checks": checks,
            "processor": workspace_path(processor),
            "sha256": {"model.safetensors": sha256_of(folder / "model.safetensors")},
        }
        write_json(folder / "package.json", result)
    _move(made, run)
    return result


def _move(made: Path, run: Path) -> None:
    """Put a whole package into its run; in the meantime the run is no package, rather than one mixed of two."""
    with disk_errors(run, "the package"):
        (run / "package.json").unlink(missing_ok=True)
        for older in ("ct2", "thinker"):  # of the checkpoint that was packaged before
            remove(run / older)
        for path in sorted(made.iterdir(), key=lambda path: path.name == "package.json"):
            put_in_place(path, run / path.name)
        made.rmdir()


def _merged(run: Path, checkpoint: Path, clips: list[Any]) -> tuple[Any, dict[str, Any]]:
    """The model of a checkpoint; adapters are merged, with the proof that merging changed nothing."""
    if not (checkpoint / adapters.WEIGHTS).exists():
        return load_checkpoint(run, checkpoint), {}
    family = load_base(run)
    adapters.attach(family.module, checkpoint)
    specs = [ExampleSpec(clip, clip.language) for clip in clips]
    difference = adapters.merge_with_proof(family, load_batch(specs, family.renderer))
    return family, {"merge": {"clips": len(clips), "max_logit_difference": difference}}


def _require_ct2() -> None:
    try:
        import ctranslate2  # noqa: F401
    except ImportError:
        raise GovorError("The ct2 format needs CTranslate2; install it with: pip install ctranslate2") from None


def _export_ct2(model: Path, family: Any, clips: list[Any], quantization: Quantization) -> dict[str, Any]:
    from ctranslate2.converters import TransformersConverter

    copies = ["tokenizer.json", "preprocessor_config.json"]
    try:
        TransformersConverter(str(model), copy_files=copies).convert(str(model / "ct2"), quantization=quantization)
    except (RuntimeError, ValueError) as error:
        raise GovorError(
            f"CTranslate2 could not convert the model: {error}; nothing was packaged. Take --format hf, or another version of it."
        ) from None
    return verify_ct2(model / "ct2", family, clips, quantization)


def _transcripts(record: dict[str, Any]) -> Iterator[str]:
    """Transcripts of the run, spread over each of its manifests."""
    from govor.corpus.manifests import Manifest

    for entry in record["data"].values():
        manifest = Manifest(entry["path"])
        rows = len(manifest)
        count = min(_TEXTS, rows)
        yield from (manifest[index * rows // count].transcript for index in range(count))


def _proof_clips(record: dict[str, Any]) -> list[Any]:
    """A few fixed clips that every export must treat as the trained model does: held-out ones of the run."""
    from govor.corpus.manifests import Manifest

    data, token = record["data"], record.get("language_token")
    held_out = [
        Manifest(entry["path"]) for part, entry in data.items() if part.endswith("/validation") and entry["rows"]
    ]
    manifest = held_out[0]
    rows = len(manifest)
    clips = [manifest[index * rows // min(4, rows)] for index in range(min(4, rows))]
    return [clip.replace(language=token) for clip in clips] if token else clips
