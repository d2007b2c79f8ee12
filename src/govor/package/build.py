"""`govor package`: the best checkpoint of a run as a folder that the wider world loads.

`package.json` is written last: without it the folder is a run and no package.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from govor.corpus.manifests import Manifest
from govor.corpus.records import Clip
from govor.errors import disk_errors
from govor.examples.dataset import load_batch
from govor.examples.spec import ExampleSpec
from govor.families import adapters
from govor.families.base import Aligner, ExportOptions, Family, Quantization
from govor.families.opening import load_base, load_checkpoint
from govor.families.registry import family_class, family_of, settings_of
from govor.files import atomic_folder, put_in_place, remove, sha256_of, write_text
from govor.machine import now
from govor.package.card import model_card
from govor.package.processor import package_processor
from govor.package.request import check_package
from govor.runs import Json, Package, Run, RunRecord, write_package
from govor.timing.heads import stored_heads_for_padding

# Of each manifest so many transcripts must survive the tokenizer.
_TEXTS = 1000
# So many clips prove an export.
_CLIPS = 4


def package(
    run: Run,
    wanted: Sequence[str],
    checkpoint: str | None = None,
    quantization: Quantization = "float32",
    overwrite: bool = False,
) -> Package:
    """Write the package into the run's folder and return what `package.json` says.

    Everything is made and proven in one folder first; what was packaged before stands until then.

    Args:
        wanted: formats beside the first of the family, which is always written.
        checkpoint: another one than the best, by name.
        overwrite: what was packaged before gives way.

    Raises:
        GovorError: it cannot be packaged so (see `check_package`), or an export does not do what was trained.
    """
    formats = check_package(run, wanted, checkpoint, overwrite)
    with run.held("packaged"):
        return _package(run, formats, checkpoint, quantization)


def _package(run: Run, wanted: Sequence[str], checkpoint: str | None, quantization: Quantization) -> Package:
    chosen = run.checkpoint(run.best_checkpoint().name if checkpoint is None else checkpoint)
    _check_installed(run, wanted)
    record = run.record()
    clips = _proof_clips(run, record)
    family, checks = _merged(run, chosen, clips)
    options = ExportOptions(quantization, _languages(record))
    made = run.folder / ".package"
    for leftover in (made, run.folder / ".hf"):  # of one that was killed while it moved the files
        remove(leftover)
    names = _written(family, wanted)
    with atomic_folder(made, "the package") as folder:
        for name in names:
            exporter = family.exports[name]
            exporter.write(family, folder / exporter.folder, options)
            if name == names[0]:
                _hand_over_heads(family, folder, (chosen, run.folder))
            checks[name] = exporter.verify(family, folder / exporter.folder, clips, options)
        write_text(folder / "README.md", model_card(run, chosen, _usage(run, family, names, options)))
        processor = package_processor(family, run, _transcripts(run, record))
        weights = {file.name: sha256_of(file) for file in sorted(folder.glob("*.safetensors"))}
        processor_name = run.workspace.relative(processor)
        result = Package(now(), chosen.name, sorted(names), checks, processor_name, weights)
        write_package(folder, result)
    _move(Run(made), run, [exporter.folder for exporter in family.exports.values()])
    return result


def _check_installed(run: Run, wanted: Sequence[str]) -> None:
    """Refuse formats whose tools are missing, before a model is loaded."""
    exports = family_class(family_of(run.folder / "base", str(run.folder))).exports
    for name in wanted:
        exports[name].check_installed()


def _written(family: Family, wanted: Sequence[str]) -> list[str]:
    """The formats that are written: the family's first, and those that are wanted."""
    return [name for place, name in enumerate(family.exports) if place == 0 or name in wanted]


def _languages(record: RunRecord) -> tuple[str, ...]:
    """What the model is told: the one token that it was taught for all clips, or their languages."""
    return (record.language_token,) if record.language_token else tuple(record.languages)


def _hand_over_heads(family: Family, folder: Path, measured_in: tuple[Path, ...]) -> None:
    """Write the heads that follow the speech, as they were measured for the run, into the package."""
    heads = stored_heads_for_padding(measured_in, family.heads) if isinstance(family, Aligner) else None
    if heads:
        settings_of(family.name).write_heads(folder, heads)


def _usage(run: Run, family: Family, names: Sequence[str], options: ExportOptions) -> list[str]:
    """How to use the package, a paragraph for each format that says something."""
    folder = run.workspace.relative(run.folder)
    blocks = [block for name in names if (block := family.exports[name].usage(folder, options))]
    return [line for place, block in enumerate(blocks) for line in ([""] if place else []) + block]


def _move(made: Run, run: Run, folders: Sequence[str]) -> None:
    """Put a whole package into its run; in the meantime the run is no package, rather than one mixed of two."""
    with disk_errors(run.folder, "the package"):
        run.unpackage()
        for older in folders:  # of the checkpoint that was packaged before
            if older != ".":
                remove(run.folder / older)
        for path in sorted(made.folder.iterdir(), key=lambda path: path == made.package_file):
            put_in_place(path, run.folder / path.name)
        made.folder.rmdir()


def _merged(run: Run, checkpoint: Path, clips: Sequence[Clip]) -> tuple[Family, dict[str, Json]]:
    """The model of a checkpoint; adapters are merged, with the proof that merging changed nothing."""
    if not (checkpoint / adapters.WEIGHTS).exists():
        return load_checkpoint(run, checkpoint), {}
    family = load_base(run)
    adapters.attach(family.module, checkpoint)
    specs = [ExampleSpec(clip, clip.language) for clip in clips]
    difference = adapters.merge_with_proof(family, load_batch(specs, family.renderer))
    return family, {"merge": {"clips": len(clips), "max_logit_difference": difference}}


def _transcripts(run: Run, record: RunRecord) -> Iterator[str]:
    """Transcripts of the run, spread over each of its manifests."""
    for entry in record.data.values():
        manifest = Manifest(run.workspace.path(entry["path"]), run.workspace.root)
        rows = len(manifest)
        count = min(_TEXTS, rows)
        clips = (manifest[index * rows // count] for index in range(count))
        yield from (clip.transcript for clip in clips if clip.transcribed)


def _proof_clips(run: Run, record: RunRecord) -> list[Clip]:
    """A few fixed clips that every export must treat as the trained model does: held-out ones of the run."""
    entry = next(entry for part, entry in record.data.items() if part.endswith("/validation") and entry["rows"])
    manifest = Manifest(run.workspace.path(entry["path"]), run.workspace.root)
    count = min(_CLIPS, len(manifest))
    clips = [manifest[index * len(manifest) // count] for index in range(count)]
    token = record.language_token
    return [clip.replace(language=token) for clip in clips] if token else clips
