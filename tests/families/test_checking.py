"""Model folders and files of others (H9, H10): one sentence that names the file, nothing opened outside, no memory for what
is only announced."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from families.whisper.test_convert import to_ctranslate2, write_ggml
from govor.errors import GovorError
from govor.families.checking import check_adapters, read_model_config, shapes_of
from govor.families.opening import open_model
from govor.families.registry import settings_of
from govor.families.whisper.convert import from_ctranslate2, from_ggml
from govor.families.whisper.ct2 import CTranslate2Whisper
from govor.families.whisper.ct2_files import check_ctranslate2
from govor.families.whisper.tiny import tiny


@pytest.fixture
def whisper(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "whisper"))


@pytest.fixture
def qwen(qwen_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(qwen_folder, tmp_path / "qwen"))


def set_in(file: Path, name: str, value: Any) -> None:
    """Set `a.b` in a JSON file."""
    held = json.loads(file.read_text())
    part = held
    *inner, last = name.split(".")
    for key in inner:
        part = part[key]
    part[last] = value
    file.write_text(json.dumps(held))


def refused(folder: Path, *said: str) -> None:
    """Opening is one short sentence that holds `said`."""
    with pytest.raises(GovorError) as error:
        open_model(str(folder))
    text = str(error.value)
    assert len(text) < 500 and "\n" not in text
    for part in said:
        assert part in text, text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder_attention_heads", 0),
        ("decoder_attention_heads", 3),
        ("encoder_attention_heads", -2),
        ("d_model", "x"),
        ("d_model", -64),
        ("d_model", 10**18),
        ("d_model", 16_384),
        ("d_model", None),
        ("d_model", True),
        ("encoder_layers", 10**9),
        ("encoder_layers", 256),
        ("decoder_layers", 200),
        ("vocab_size", 10**9),
        ("vocab_size", 999_999),
        ("encoder_ffn_dim", 100_000),
        ("num_mel_bins", 0),
        ("max_source_positions", 10),
        ("max_target_positions", 10**12),
        ("dropout", "x"),
        ("dropout", 5),
        ("activation_function", "x"),
        ("activation_function", []),
        ("pad_token_id", -1),
        ("pad_token_id", 10**9),
        ("decoder_start_token_id", "x"),
        ("model_type", "bert"),
        ("model_type", {"a": 1}),
        ("quantization_config", {"load_in_8bit": True}),
    ],
)
def test_a_whispers_sizes_are_checked(whisper: Path, name: str, value: Any) -> None:
    set_in(whisper / "config.json", name, value)
    fits = name in ("model_type", "quantization_config") or (
        isinstance(value, int) and value in (16_384, 256, 200, 999_999, 100_000)
    )
    refused(whisper, "" if name == "model_type" else "config.json", "" if fits else name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audio_config", None),
        ("text_config", []),
        ("text_config.hidden_size", "x"),
        ("text_config.num_hidden_layers", 200),
        ("text_config.num_hidden_layers", None),
        ("text_config.vocab_size", 999_999),
        ("text_config.num_key_value_heads", 3),
        ("audio_config.encoder_attention_heads", 0),
        ("audio_config.d_model", 16_384),
        ("audio_token_id", 10**9),
    ],
)
def test_the_sizes_of_a_qwen_are_checked(qwen: Path, name: str, value: Any) -> None:
    set_in(qwen / "config.json", name, value)
    refused(qwen)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("suppress_tokens", ["x"]),
        ("begin_suppress_tokens", [-5]),
        ("begin_suppress_tokens", [10**7]),
        ("eos_token_id", "x"),
        ("lang_to_id", {"<|en|>": "x"}),
        ("alignment_heads", [["a", "b"]]),
        ("max_length", "x"),
        ("max_length", -1),
    ],
)
def test_a_generation_config_holds_ids(whisper: Path, name: str, value: Any) -> None:
    set_in(whisper / "generation_config.json", name, value)
    refused(whisper, "generation_config.json", name)


FILES = ("config.json", "generation_config.json", "tokenizer.json", "preprocessor_config.json", "processor_config.json")
RAW = {
    "nested": "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "a list": "[]",
    "null": "null",
    "nothing": "",
    "no text": "\0\1",
}


@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("name", FILES)
def test_every_small_file_is_whole(whisper: Path, name: str, kind: str) -> None:
    (whisper / name).write_text(RAW[kind])
    refused(whisper, name)


def test_a_tokenizer_is_one(whisper: Path) -> None:
    for held in ({}, {"model": {}}, {"model": {"vocab": {}}, "added_tokens": {}}, {"model": {"vocab": {}}, "added_tokens": [{"id": "x"}]}):  # fmt: skip
        (whisper / "tokenizer.json").write_text(json.dumps(held))
        refused(whisper, "tokenizer.json")


@pytest.mark.parametrize("name", [*FILES, "model.safetensors"])
def test_a_pipe_or_a_link_out_of_the_folder_is_not_followed(whisper: Path, tmp_path: Path, name: str) -> None:
    kept = tmp_path / "elsewhere"
    (whisper / name).rename(kept)
    (whisper / name).symlink_to(kept)
    refused(whisper, name, "link that leaves the folder")
    (whisper / name).unlink()
    os.mkfifo(whisper / name)
    refused(whisper, name, "pipe")


def test_the_links_of_the_hubs_cache_are_followed(tiny_folder: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    shutil.copytree(tiny_folder, blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert read_model_config(snapshot, settings_of("whisper"))["model_type"] == "whisper"


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"weight_map": {}}, "names no file"),
        ({"weight_map": {"a": "../../secret.safetensors"}}, "of its own folder was wanted"),
        ({"weight_map": {"a": "/etc/passwd"}}, "of its own folder was wanted"),
        ({"weight_map": {"a": "gone.safetensors"}}, "which is not there"),
        ({"weight_map": {"a": 3}}, "of its own folder was wanted"),
        ({"weight_map": []}, "a list"),
        ({}, "weight_map"),
        ([], "a list"),
    ],
)
@pytest.mark.parametrize("family", ["whisper", "qwen"])
def test_an_index_names_files_of_its_folder(request: pytest.FixtureRequest, family: str, index: Any, said: str) -> None:
    folder: Path = request.getfixturevalue(family)
    (folder / "model.safetensors").rename(folder.parent / "secret.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "model.safetensors.index.json", said)


def header(about: object, body: bytes = b"") -> bytes:
    text = json.dumps(about).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        bytes(8),
        header([]),
        header({}),
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        header({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, bytes(8)),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        header({"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}}, bytes(4)),
        header({"a": 3}),
    ],
)
def test_a_lying_safetensors_header_is_one_sentence(whisper: Path, data: bytes) -> None:
    (whisper / "model.safetensors").write_bytes(data)
    with pytest.raises(GovorError, match=r"model\.safetensors"):
        shapes_of(whisper / "model.safetensors")
    refused(whisper, "model.safetensors")


def test_adapters_ask_for_no_more_than_a_recipe_can(tmp_path: Path) -> None:
    for config in ({"r": 10**9, "lora_alpha": 1, "target_modules": []}, {"r": "x"}, [], {"r": 1, "lora_alpha": 1, "target_modules": "(a+)+$"}):  # fmt: skip
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(GovorError, match="adapter_config"):
            check_adapters(tmp_path)


def ggml(tensors: bytes = b"", tokens: int = 50257, sizes: dict[int, int] | None = None) -> bytes:
    """The head of a multilingual ggml file, with tensors of one's choice."""
    pieces = [bytes([byte]) for byte in range(256)] + [bytes(divmod(i, 256)) for i in range(50257 - 256)]
    numbers = [51865, 1500, 64, 2, 2, 448, 64, 2, 2, 80, 1, 80, 201]
    for place, value in (sizes or {}).items():
        numbers[place] = value
    told = struct.pack("<I13i", 0x67676D6C, *numbers) + bytes(4 * 80 * 201) + struct.pack("<i", tokens)
    return told + b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces) + tensors


def tensor(name: bytes, *shape: int, kind: int = 0, data: bytes = b"") -> bytes:
    return struct.pack("<3i", len(shape), len(name), kind) + struct.pack(f"<{len(shape)}i", *shape[::-1]) + name + data


HOSTILE_GGML: dict[str, bytes] = {
    "terabytes": ggml(tensor(b"encoder.conv1.weight", 2**31 - 1, 2**31 - 1, 4)),
    "a product that overflows": ggml(tensor(b"encoder.conv1.weight", 2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1)),
    "negative": ggml(tensor(b"a", -1, data=bytes(8))),
    "zero": ggml(tensor(b"a", 0, 5)),
    "a name twice": ggml(tensor(b"a", 1, data=bytes(4)) * 2),
    "cut": ggml(tensor(b"a", 4, data=bytes(4))),
    "a name of gigabytes": ggml(struct.pack("<3i", 1, 2**31 - 1, 0)),
    "a layer of a billion": ggml(tensor(b"encoder.blocks.1000000000.attn.query.weight", 1, data=bytes(4))),
    "nothing else": ggml(),
    "a billion tokens": ggml(tokens=2**31 - 1),
    "no tokens": ggml(tokens=0),
    "negative tokens": ggml(tokens=-5),
    "negative filters": ggml(sizes={11: -80}),
    "filters of gigabytes": ggml(sizes={11: 2**30, 12: 2**30}),
    "an empty file": b"",
    "four bytes": struct.pack("<I", 0x67676D6C),
    "another file": b"RIFF" * 100,
}


@pytest.mark.parametrize("case", HOSTILE_GGML)
def test_a_hostile_ggml_file_is_one_sentence(tmp_path: Path, case: str) -> None:
    file = tmp_path / "ggml.bin"
    file.write_bytes(HOSTILE_GGML[case])
    with pytest.raises(GovorError) as error:
        from_ggml(file)
    assert str(file) in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("place", [3, 7])
@pytest.mark.parametrize("heads", [0, -1, 3, 2**31 - 1])
def test_the_heads_of_a_ggml_file_divide_its_width(tmp_path: Path, place: int, heads: int) -> None:
    file = tmp_path / "ggml.bin"
    write_ggml(tiny(), file)
    data = bytearray(file.read_bytes())
    data[4 + 4 * place : 8 + 4 * place] = struct.pack("<i", heads)
    file.write_bytes(data)
    with pytest.raises(GovorError, match="attention_heads"):
        from_ggml(file)


def ct2(variables: list[tuple[bytes, tuple[int, ...], int, int, bytes]], aliases: list[tuple[bytes, bytes]] = ()) -> bytes:  # type: ignore[assignment]  # fmt: skip
    def text(value: bytes) -> bytes:
        return struct.pack("<H", len(value) + 1) + value + b"\0"

    out = struct.pack("<I", 6) + text(b"WhisperSpec") + struct.pack("<2I", 3, len(variables))
    for name, shape, kind, size, data in variables:
        out += text(name) + struct.pack(f"<B{len(shape)}I", len(shape), *shape) + struct.pack("<BI", kind, size) + data
    return out + struct.pack("<I", len(aliases)) + b"".join(text(part) for pair in aliases for part in pair)


HOSTILE_CT2: dict[str, bytes] = {
    "gigabytes": ct2([(b"a", (2**30,), 0, 2**32 - 4, b"")]),
    "a product that overflows": ct2([(b"a", (2**32 - 1,) * 8, 0, 4, bytes(4))]),
    "size and shape differ": ct2([(b"a", (3,), 0, 4, bytes(4))]),
    "a name twice": ct2([(b"a", (1,), 0, 4, bytes(4))] * 2),
    "an alias of nothing": ct2([(b"a", (1,), 0, 4, bytes(4))], [(b"b", b"c")]),
    "an empty file": b"",
    "another file": b"RIFF" * 100,
}


@pytest.mark.parametrize("case", HOSTILE_CT2)
def test_a_hostile_ctranslate2_file_is_one_sentence(tiny_folder: Path, tmp_path: Path, case: str) -> None:
    shutil.copy(tiny_folder / "tokenizer.json", tmp_path)
    (tmp_path / "model.bin").write_bytes(HOSTILE_CT2[case])
    for read in (from_ctranslate2, check_ctranslate2, CTranslate2Whisper.load):
        with pytest.raises(GovorError, match=r"model\.bin"):
            read(tmp_path)


@pytest.mark.parametrize("name", ["decoder/num_heads", "encoder/conv1/weight", "decoder/embeddings/weight"])
def test_a_ctranslate2_file_without_a_part_is_one_sentence(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    folder = to_ctranslate2(tiny_folder, tmp_path / "ct2")
    data = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(data.replace(name.encode(), name.encode()[:-1] + b"_"))
    if name == "decoder/num_heads":  # the encoder's count serves where they are alike
        data = (folder / "model.bin").read_bytes()
        (folder / "model.bin").write_bytes(data.replace(b"encoder/num_heads", b"encoder/num_head_"))
    with pytest.raises(GovorError):
        from_ctranslate2(folder)


def test_what_a_ggml_file_announces_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "ggml.bin"
    file.write_bytes(HOSTILE_GGML["terabytes"])
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from govor.errors import GovorError; from govor.families.whisper.convert import from_ggml\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: from_ggml(Path(sys.argv[1]))\n"
        "except GovorError: print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200, "MiB"


def test_the_walk_over_a_whole_model_finds_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    check_ctranslate2(to_ctranslate2(tiny_folder, tmp_path / "ct2", "int8"))
    assert read_model_config(tiny_folder, settings_of("whisper"))["d_model"] == 64
    assert np.prod(shapes_of(tiny_folder / "model.safetensors")["model.encoder.conv1.weight"]) == 64 * 80 * 3
