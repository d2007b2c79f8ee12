"""YAML of others is bounded in size, depth and aliases, no key twice, ordinary files only (H1, H8)."""

import os
import time
from pathlib import Path

import pytest

from govor import recipe as recipes
from govor.config import apply_overrides, parse_yaml, read_yaml
from govor.corpus.manifests import Manifest, read_rows
from govor.errors import GovorError
from govor.jsons import read_json


def laughs(lists: int = 9, width: int = 9) -> str:
    """Every list is the one before, `width` times: with its aliases the file is larger than any memory."""
    lines = [f"a0: &a0 [{','.join(['x'] * width)}]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * width)}]" for n in range(1, lists)]
    return "\n".join(lines) + "\n"


HOSTILE_YAML = {
    "aliases of aliases": (laughs(), "with its aliases"),
    "an alias of itself": ("a: &a [*a]", "names nothing that stands before it"),
    "merges of merges": (
        "a0: &a0 {b: 1}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}, c{n}: 1}}\n" for n in range(1, 600)),
        "with its aliases",
    ),
    "nested lists": ("a: " + "[" * 2000 + "]" * 2000, "nested deeper than 64"),
    "nested mappings": ("a: " + "{a: " * 2000 + "}" * 2000, "nested deeper than 64"),
    "nested blocks": ("".join(" " * n + "a:\n" for n in range(300)), "nested deeper than 64"),
    "a key twice": ("name: a\nname: b\n", "'name' stands twice"),
    "a key twice inside": ("finetune:\n  lr: 1.0e-4\n  lr: 1.0e-5\n", "'lr' stands twice"),
    "too large": ("#" + "x" * (2 << 20), "bytes"),
    "too many values": ("a: [" + "1," * 200_000 + "]", "more than 100,000 values"),
    "a tag that runs code": ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
    "a list": ("[1, 2]", "settings by name were wanted"),
    "nothing": ("", "settings by name were wanted"),
    "a number of 100,000 digits": ("name: 0x" + "f" * 100_000, "thousands of digits"),
}


@pytest.mark.parametrize("case", HOSTILE_YAML)
def test_a_hostile_recipe_is_one_sentence_at_once(tmp_path: Path, case: str) -> None:
    text, said = HOSTILE_YAML[case]
    file = tmp_path / "x.yaml"
    file.write_text(text)
    started = time.process_time()
    with pytest.raises(GovorError) as refused:
        recipes.load(str(file))
    assert said in str(refused.value) and len(str(refused.value)) < 500
    assert time.process_time() - started < 5


def test_aliases_that_stay_small_are_welcome(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "extends: whisper\nname: x\nfinetune:\n  phases:\n  - &p {name: a, epochs: 1}\n  - {<<: *p, name: b}\n"
    )
    assert [phase.name for phase in recipes.load(str(file)).finetune.phases] == ["a", "b"]


@pytest.mark.parametrize(
    "override",
    [
        "x=&a [*a]",
        "x=" + "[" * 3000,
        "a." * 3000 + "a=1",
        "..=1",
        "=1",
        "finetune.lr=1e999",
        "finetune.lr=0x" + "f" * 9999,
    ],
)
def test_a_hostile_setting_is_one_sentence(override: str) -> None:
    with pytest.raises(GovorError) as refused:
        recipes.load("whisper", [override])
    assert len(str(refused.value)) < 400


def test_a_setting_may_still_look_like_anything() -> None:
    assert apply_overrides({}, ["a.b=[", "c={x: 1}", "d=1e-5"]) == {"a": {"b": "["}, "c": {"x": 1}, "d": 1e-5}


def test_a_chain_of_recipes_is_bounded(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"e{number}.yaml").write_text(f"extends: e{number + 1}.yaml\n")
    with pytest.raises(GovorError, match="recipes extend each other"):
        recipes.load(str(tmp_path / "e0.yaml"))


@pytest.mark.parametrize("read", [read_yaml, read_json, Manifest, lambda path: list(read_rows(path))])
def test_only_ordinary_files_are_read(tmp_path: Path, read: object) -> None:
    pipe, loop = tmp_path / "x.yaml", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path, said in ((pipe, "pipe"), (tmp_path, "is a folder"), (Path("/dev/zero"), "pipe"), (loop, None)):
        with pytest.raises(GovorError, match=said):
            read(path)  # type: ignore[operator]
    with pytest.raises(GovorError, match=r"cannot be read|was not found"):
        read(tmp_path / ("x" * 300))  # type: ignore[operator]


def test_a_large_yaml_is_read_in_no_time() -> None:
    started = time.process_time()
    with pytest.raises(GovorError):
        parse_yaml("a: [" + "x, " * 300_000 + "]", "x")
    assert time.process_time() - started < 5
