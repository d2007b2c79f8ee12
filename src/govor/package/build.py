"""`govor package`: the best checkpoint of a run as a folder that the wider world loads.

`package.json` is written last: without it the folder is a run and no package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from govor.errors import GovorError, disk_errors
from govor.examples.dataset import load_batch
from govor.examples.spec import ExampleSpec
from govor.families import adapters
from govor.families.opening import best_checkpoint, load_base, load_checkpoint
from govor.families.registry import family_of
from govor.files import atomic_folder, put_in_place, read_json, remove, sha256_of, write_json, write_text
from govor.package import Format
from govor.package.card import model_card
from govor.package.verify import verify_ct2, verify_hf, verify_reload
from govor.runs import check_finished, held, now

# Formats that exist for one family alone.
_OF_FAMILY: dict[Format, str] = {"ct2": "whisper", "thinker": "qwen3_asr"}
Quantization = Literal["float32", "float16", "int8"]


def package(
    run: Path, formats: list[Format], checkpoint: str | None, quantization: Quantization = "float32"
) -> dict[str, Any]:
    """Write the package into the run's folder and return what `package.json` says.

    Everything is made and proven in one folder first; what was packaged before stands until then.

    Raises:
        GovorError: no run, no such checkpoint, or an export that does not do what was trained.
    """
    check_finished(run)
    with held(run, "packaged"):
        return _package(run, formats, checkpoint, quantization)


def _package(run: Path, formats: list[Format], checkpoint: str | None, quantization: Quantization) -> dict[str, Any]:
    chosen = best_checkpoint(run) if checkpoint is None else run / "checkpoints" / checkpoint
    if not (chosen / "state.json").exists():
        known = ", ".join(path.parent.name for path in sorted((run / "checkpoints").glob("*/state.json")))
        raise GovorError(f"{run} has no checkpoint '{chosen.name}'; there are: {known}.")
    for name in formats:
        if _OF_FAMILY.get(name, run.parent.name) != family_of(run / "base", str(run)):
            raise GovorError(f"The format '{name}' is for {_OF_FAMILY[name]} models, and {run} is none.")
    if "ct2" in formats:
        _require_ct2()
    clips = _proof_clips(run)
    family, checks = _merged(run, chosen, clips)
    made = run / ".package"
    for leftover in (made, run / ".hf"):  # of one that was killed while it moved the files
        remove(leftover)
    with atomic_folder(made, "the package") as folder:
        family.save(folder)
        checks["hf"] = verify_hf(folder, family, clips)
        if "ct2" in formats:
            checks["ct2"] = _export_ct2(folder, family, clips, quantization)
        if "thinker" in formats:
            record = read_json(run / "run_manifest.json")
            (folder / "thinker").mkdir()
            family.save_thinker(
                folder / "thinker", [record["language_token"]] if record.get("language_token") else record["languages"]
            )
            checks["thinker"] = verify_reload(folder / "thinker", family, clips)
        write_text(folder / "README.md", model_card(run, chosen))
        result = {
            "created": now(),
            "checkpoint": chosen.name,
            "formats": sorted({"hf", *formats}),
            "checks": checks,
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
    difference = adapters.merge_with_proof(family, load_batch(specs, family.encoder))
    return family, {"merge": {"clips": len(clips), "max_logit_difference": difference}}


def _require_ct2() -> None:
    try:
        import ctranslate2  # noqa: F401
    except ImportError:
        raise GovorError("The ct2 format needs CTranslate2; install it with: pip install ctranslate2") from None


def _export_ct2(model: Path, family: Any, clips: list[Any], quantization: Quantization) -> dict[str, Any]:
    from ctranslate2.converters import TransformersConverter

    copies = ["tokenizer.json", "preprocessor_config.json"]
    TransformersConverter(str(model), copy_files=copies).convert(str(model / "ct2"), quantization=quantization)
    return verify_ct2(model / "ct2", family, clips, quantization)


def _proof_clips(run: Path) -> list[Any]:
    """A few fixed clips that every export must treat as the trained model does: held-out ones of the run."""
    from govor.corpus.manifests import Manifest

    record = read_json(run / "run_manifest.json")
    data, token = record["data"], record.get("language_token")
    held_out = [
        Manifest(entry["path"]) for part, entry in data.items() if part.endswith("/validation") and entry["rows"]
    ]
    manifest = held_out[0]
    rows = len(manifest)
    clips = [manifest[index * rows // min(4, rows)] for index in range(min(4, rows))]
    return [clip.replace(language=token) for clip in clips] if token else clips
