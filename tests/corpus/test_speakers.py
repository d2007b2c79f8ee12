"""Who speaks, however tables and rows say it."""

import unicodedata
from collections.abc import Callable

import pytest

from govor.corpus.records import Clip
from govor.corpus.split import Division, SplitSettings, split
from govor.corpus.wishes import Wish


def a_clip(number: int, **about: object) -> Clip:
    row = {"id": f"c{number:04d}", "audio": f"w/{number}.wav", "transcript": f"rečenica broj {number}", "duration": 3.0}
    return Clip(**{**row, "language": "sr", **about})  # type: ignore[arg-type]


def crossing(division: Division, key: Callable[[Clip], object]) -> set[object]:
    parts = [{key(clip) for clip in part} for part in division.parts.values()]
    return (parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])


def spelled(number: int, name: str) -> str:
    return unicodedata.normalize("NFC" if number % 2 else "NFD", name) + " " * (number % 3)


def test_a_speaker_is_one_however_the_name_is_composed() -> None:
    clips = [
        a_clip(i, speaker=spelled(i, f"Željko {i // 2 % 12}"), source=spelled(i, f"s{i // 2 % 12}č"))
        for i in range(240)
    ]
    done = split(clips, SplitSettings())
    assert done.proof["groups"] == 12 and done.clean
    assert not crossing(done, lambda c: unicodedata.normalize("NFC", str(c.speaker)).strip())
    assert sum(part["speakers"] for part in done.proof["parts"].values()) == 12


@pytest.mark.parametrize("cell", ['["Iva", "Ana"]', "Iva; Ana", "Ana"])
def test_tables_name_several_who_speak(cell: str) -> None:
    assert Wish("speaker", "Ana").covers({"speaker": "", "speakers": cell})
    assert Wish("speaker", "Ana").covers({"segments": '[{"start": 0, "text": "da", "speaker": "Ana"}]'})
    assert not Wish("speaker", "Ana").covers({"segments": "[" * 9000, "words": "[nije", "speakers": None})
