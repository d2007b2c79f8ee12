"""200,000 rows of the ivrit.ai schema from a server with the Hub's URL layout: memory must not grow with them."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile

from bench.corpus import peak_mib
from bench.results import Asked, Figure, ratio
from govor.audio import decode
from govor.corpus.manifests import Manifest

sys.path.append(str(Path(__file__).parents[1] / "tests"))
ROWS = (20_000, 200_000)
SHARD_ROWS = 10_000
REPOSITORY = "ivrit-ai/crowd-recital-whisper-training"


def sounds() -> list[bytes]:
    """Some different recordings of 2 s as mp3."""
    made = []
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(0, 0.1, 32_000).astype(np.float32)
        buffer = io.BytesIO()
        soundfile.write(buffer, noise, 16_000, format="MP3")
        made.append(buffer.getvalue())
    return made


def build(folder: Path, rows: int) -> dict[str, Path]:
    """Shards without compression or dictionaries, so that every row is as large as it says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    audio = sounds()
    struct = pa.struct([("seek", pa.float32()), ("source", pa.string()), ("entry_id", pa.string())])
    schema = pa.schema(
        [
            ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("transcript", pa.string()),
            ("metadata", struct),
            ("has_prev", pa.bool_()),
            ("has_timestamps", pa.bool_()),
            ("prev_transcript", pa.string()),
        ]
    )
    files = {}
    for shard in range(rows // SHARD_ROWS):
        name = f"data/train-{shard:05d}-of-{rows // SHARD_ROWS:05d}.parquet"
        data = [
            {
                "audio": {"bytes": audio[n % 50], "path": f"entry-{n}"},
                "transcript": f"<|0.00|> שורה {shard} {n}<|1.90|>",
                "metadata": {"seek": 30.0, "source": "recital", "entry_id": f"{shard}-{n // 10}"},
                "has_prev": True,
                "has_timestamps": True,
                "prev_transcript": "<|0.00|> לפני<|1.00|>",
            }
            for n in range(SHARD_ROWS)
        ]
        file = folder / name.replace("/", "--")
        table = pa.Table.from_pylist(data, schema=schema)
        pq.write_table(table, file, row_group_size=100, compression="none", use_dictionary=False)
        files[name] = file
    return files


def main(_: Asked) -> list[Figure]:
    """Prepare both sizes, then draw at random from the larger."""
    from servers import hub, serve

    figures = []
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            files = build(folder, rows)
            size = sum(file.stat().st_size for file in files.values()) / 1e9
            # The benches after this one find the Hub and the workspace where they were.
            with serve(hub({REPOSITORY: files})) as server, patch.dict(os.environ):
                os.environ |= {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1"}
                start = time.perf_counter()
                peak = peak_mib(["prepare", "ivrit-recital"], folder)
                spent = time.perf_counter() - start
            figures += [
                Figure(f"{rows:,} rows, peak memory", peak, "MiB", "lower"),
                Figure(f"{rows:,} rows, speed", rows / spent, "rows a second"),
            ]
            print(f"{rows:>8} rows, {size:.2f} GB: peak {peak:.0f} MiB, {rows / spent:.0f} rows a second", flush=True)
            if rows == max(ROWS):
                with contextlib.chdir(folder):
                    figures += draw()
    return figures


def draw() -> list[Figure]:
    """10,000 clips at random: bytes read against bytes of the clips."""
    clips = Manifest("manifests/ivrit-recital.jsonl")
    chosen = [clips[n] for n in random.Random(0).sample(range(len(clips)), 10_000)]
    encoded = sum(int(clip.audio.rsplit(",", 1)[1]) for clip in chosen)
    before = _read_so_far()
    start = time.perf_counter()
    for clip in chosen:
        decode(clip.audio)
    spent = time.perf_counter() - start
    read = (_read_so_far() - before) / encoded
    print(f"a random draw of 10,000 clips reads {read:.3f} times their bytes, {10_000 / spent:.0f} clips a second")
    return [
        ratio("bytes read over bytes of the clips, random draw", read, better="lower"),
        Figure("clips a second, random draw", 10_000 / spent, "clips a second"),
    ]


def _read_so_far() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])
