"""A copy of every finished checkpoint in object storage: S3 and what speaks its protocol, or Google Cloud Storage.

Credentials are found by the stores' own means (environment, ~/.aws, GOOGLE_APPLICATION_CREDENTIALS, the machine's
role); AWS_ENDPOINT_URL names another server than Amazon's.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from govor.errors import GovorError
from govor.runs import state_file

_ADDRESS = re.compile(r"(s3|gs)://([\w.-]+)(?:/(.*))?")
_PAUSES_SECONDS = (2.0, 10.0, 30.0)
_PIECE_BYTES = 8 << 20
_CODE = re.compile(r"AWS Error (\w+(?: \(HTTP status \d+\))?)|google::cloud::Status\((\w+)")
_REASONS = {
    "NO_SUCH_BUCKET": "the bucket does not exist",
    "NOT_FOUND": "the bucket does not exist",
    "NETWORK_CONNECTION": "the server does not answer",
    "UNAVAILABLE": "the server does not answer, or there are no credentials",
}


class Uploader:
    """Copies checkpoints to `address`/<checkpoint>/ in one thread of its own, so that training does not wait.

    A failed upload is tried again a few times, noted once, and tried again with the next checkpoint and at the end.
    """

    def __init__(self, address: str, notify: Callable[[str], None]) -> None:
        """Read the address and wait for work; nothing is sent yet.

        Args:
            address: `s3://bucket/prefix` or `gs://bucket/prefix`; give each run a prefix of its own.
            notify: told of failures, from the uploading thread.

        Raises:
            GovorError: the address is of another form, or holds credentials.
        """
        if "@" in address or "?" in address:  # not shown: what stands there may be a secret
            raise GovorError(
                "The upload address holds '@' or '?', as addresses with credentials do; write s3://bucket/prefix and keep "
                "credentials in the environment or in ~/.aws."
            )
        match = _ADDRESS.fullmatch(address)
        if not match:
            raise GovorError(f"'{address}' is no upload address; s3://bucket/prefix or gs://bucket/prefix was wanted.")
        self.address = address.rstrip("/")
        self._scheme, self._bucket = match[1], match[2]
        self._root = "/".join([self._bucket, *(part for part in (match[3] or "").split("/") if part)])
        self._notify, self._noted = notify, False
        self._queue: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._waiting: list[Path] = []
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Write a probe and delete it, before training begins.

        Raises:
            GovorError: the bucket, the credentials or the connection do not work.
        """
        probe = f"{self._root}/.govor-{uuid.uuid4().hex}"
        try:
            with self._store.open_output_stream(probe) as stream:
                stream.write(b"probe")
            self._store.delete_file(probe)
        except Exception as error:  # `from None`: a store's message may quote what it was sent
            raise GovorError(f"Checkpoints cannot be uploaded to {self.address}: {_reason(error)}.") from None

    def upload(self, checkpoint: Path) -> None:
        """Queue a finished checkpoint's folder; one that is deleted before its turn is left out."""
        self._queue.put(checkpoint)

    def close(self) -> None:
        """Wait for what is queued; says which checkpoints could not be uploaded."""
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        self._thread.join()
        if self._waiting:
            names = ", ".join(folder.name for folder in self._waiting)
            self._notify(f"not uploaded to {self.address}: {names}; they are whole in {self._waiting[0].parent}")

    @cached_property
    def _store(self) -> Any:
        from pyarrow import fs

        if self._scheme == "gs":
            return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=20))
        # Not FileSystem.from_uri: it writes in the background and holds a whole file in memory when the line is slow.
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = None if endpoint else fs.resolve_s3_region(self._bucket)
        return fs.S3FileSystem(region=region, endpoint_override=endpoint, background_writes=False)

    def _work(self) -> None:
        more = True
        while more:
            folder = self._queue.get()
            more = folder is not None
            self._waiting += [folder] if folder else []
            while self._waiting and self._done(self._waiting[0]):
                del self._waiting[0]
            self._waiting = self._waiting[1:] + self._waiting[:1]  # the next try begins with another

    def _done(self, folder: Path) -> bool:
        """Whether nothing is left to do for this checkpoint."""
        reason = ""
        for pause in (0.0, *_PAUSES_SECONDS):
            time.sleep(pause)
            try:
                self._copy(folder)
            except Exception as error:
                if not folder.exists():  # deleted since: it is no longer among the best
                    return True
                reason = _reason(error)
            else:
                self._noted = False
                return True
        if not self._noted:
            self._noted = True
            self._notify(
                f"{folder.name} could not be uploaded to {self.address}: {reason}; training goes on, "
                "and it is tried again with the next checkpoint"
            )
        return False

    def _copy(self, folder: Path) -> None:
        target, marker = f"{self._root}/{folder.name}", state_file(folder)
        with suppress(FileNotFoundError):  # while its files are replaced, a checkpoint is not whole
            self._store.delete_file(f"{target}/{marker.name}")
        files = [file for file in folder.rglob("*") if file.is_file()]
        for file in sorted(files, key=lambda file: (file == marker, file)):
            key = f"{target}/{file.relative_to(folder).as_posix()}"
            with file.open("rb") as source, self._store.open_output_stream(key) as stream:
                shutil.copyfileobj(source, stream, _PIECE_BYTES)


def _reason(error: Exception) -> str:
    """Why a store refused, by its code alone: a message may quote what it was sent."""
    match = _CODE.search(str(error))
    if match:
        code = match[1] or match[2]
        return _REASONS.get(code, f"the server refuses ({code}); see to the credentials and what they may do")
    if re.search(r"bucket .* not found", str(error), re.IGNORECASE):
        return _REASONS["NO_SUCH_BUCKET"]
    return type(error).__name__
