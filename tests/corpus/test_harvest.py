"""Harvesting from a local site: direct links, lists, resume, a downloader, yt-dlp, and what must never be fetched."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from govor.corpus.manifests import read_rows
from govor.corpus.public_http import RefusedAddressError, addresses, check_url, is_public
from govor.errors import GovorError
from messy import voice
from servers import Request, serve

Run = Callable[..., CompletedProcess[str]]


def sound(number: int, container: str = "MP3", seconds: float = 3.0) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, voice(number, seconds), 16_000, format=container)
    return buffer.getvalue()


class Site:
    """Files by path, and paths that misbehave."""

    def __init__(self) -> None:
        self.files = {
            "/talk.mp3": (sound(1), "audio/mpeg"),
            "/listen": (sound(2, "FLAC"), "audio/flac"),
            "/page.html": (b"<html><p>hi", "text/html"),
        }
        self.cut_once: set[str] = set()
        self.fail_once: set[str] = set()

    def __call__(self, request: Request) -> None:
        path = request.path.split("?")[0]
        if path in self.fail_once:
            self.fail_once.discard(path)
            request.send(503)
        elif path in self.cut_once:
            self.cut_once.discard(path)
            data, kind = self.files[path]
            request.send(200, data[: len(data) // 2], kind, length=str(len(data)), ETag='"1"')
            request.close_connection = True
        elif path == "/to-private":
            request.send(302, Location="http://169.254.169.254/latest/meta-data")
        elif path == "/to-talk":
            request.send(302, Location="/talk.mp3")
        elif path == "/resumable.mp3":
            request.send_file(self.files["/talk.mp3"][0], "audio/mpeg")
        elif path == "/download":
            self.download(request)
        elif path in self.files:
            data, kind = self.files[path]
            if request.headers.get("Range") and request.headers.get("If-Range") == '"1"':
                first = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
                request.send(
                    206, data[first:], kind, ETag='"1"', Content_Range=f"bytes {first}-{len(data) - 1}/{len(data)}"
                )
            else:
                request.send(200, data, kind, ETag='"1"')
        else:
            request.send(404)

    def download(self, request: Request) -> None:
        wanted = json.loads(request.body)["url"]
        if request.headers.get("Authorization") != "Bearer s3cret":
            request.send(401)
        elif "direct" in wanted:
            request.send(200, sound(7), "audio/mpeg")
        elif "escape" in wanted:
            request.send(200, json.dumps({"url": "http://10.0.0.1/x.mp3"}).encode(), "application/json")
        else:
            answer = {"url": "/talk.mp3", "license": "CC-BY-4.0", "title": "A talk"}
            request.send(200, json.dumps(answer).encode(), "application/json")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        *((address, False) for address in (
            "127.0.0.1", "127.8.8.8", "10.1.2.3", "192.168.1.1", "172.20.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
            "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "ff02::1",
        )),
    ],
)  # fmt: skip
def test_only_public_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_names_are_judged_by_every_address_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [(*entry, ("8.8.8.8", 80)), (*entry, ("10.0.0.1", 80))])
    with pytest.raises(RefusedAddressError, match=r"10\.0\.0\.1, a private"):
        addresses("mixed.example", 80, False)
    assert len(addresses("mixed.example", 80, True)) == 2


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a/b.mp3",
        "http://",
        "http://u:p@host/a.mp3",
        "javascript:x",
        "http://[bad/",
        "http://a:99999/",
    ],
)
def test_other_schemes_and_broken_addresses_are_refused(url: str) -> None:
    with pytest.raises(GovorError):
        check_url(url)


def test_links_and_lists_are_fetched_with_provenance(workspace: Path, govor: Run) -> None:
    site = Site()
    site.fail_once = {"/listen"}
    with serve(site) as server:
        Path("urls.txt").write_text(
            f"# talks\n{server.url}/talk.mp3\n\n{server.url}/listen?x=1\n{server.url}/to-talk\n"
        )
        Path("more.csv").write_text(f"url,license,speaker,language\n{server.url}/resumable.mp3,CC-BY-4.0,ana,hr\n")
        refused = govor("harvest", "urls.txt", expect=1)
        assert "give --allow-private" in refused.stderr and not list(Path("uploads").glob("*.mp3"))
        done = govor("harvest", "urls.txt", "more.csv", "--allow-private", "--license", "own", "--json")
        summary = json.loads(done.stdout)
        assert summary == {"fetched": 4, "already_there": 0, "quarantined": 0, "failed": {}, "inventory": 4}
        rows = {row["source_url"].rsplit("/", 1)[1]: row for _, row in read_rows("manifests/dataset_inventory.jsonl")}
        assert rows["talk.mp3"]["license"] == "own" and rows["resumable.mp3"]["license"] == "CC-BY-4.0"
        assert rows["resumable.mp3"]["speaker"] == "ana" and rows["resumable.mp3"]["language"] == "hr"
        assert rows["listen?x=1"]["codec"].startswith("flac") and rows["talk.mp3"]["duration"] > 2.9
        asked = len(server.seen)
        again = json.loads(govor("harvest", "urls.txt", "more.csv", "--allow-private", "--json").stdout)
        assert again["already_there"] == 4 and len(server.seen) == asked, "nothing is fetched twice"
        stated = [json.loads(path.read_text())["license"] for path in Path("uploads").glob("*.provenance.json")]
        assert sorted(stated) == ["CC-BY-4.0", "own", "own", "own"]


def test_a_list_with_a_comma_too_many_is_refused(workspace: Path, govor: Run) -> None:
    Path("more.csv").write_text("url,speaker,license\nhttps://example.org/a.mp3,Ana, Marija,own\n")
    assert "row 1 has more cells" in govor("harvest", "more.csv", expect=2).stderr


def test_a_broken_transfer_goes_on_where_it_stopped(workspace: Path, govor: Run) -> None:
    site = Site()
    site.cut_once = {"/talk.mp3"}
    with serve(site) as server:
        govor("harvest", f"{server.url}/talk.mp3", "--allow-private")
        ranges = [headers.get("Range") for _, path, headers in server.seen if path == "/talk.mp3"]
        assert ranges == [None, f"bytes={len(site.files['/talk.mp3'][0]) // 2}-"]
    (file,) = Path("uploads").glob("*.mp3")
    assert file.read_bytes() == site.files["/talk.mp3"][0]
    assert not list(Path("uploads").glob(".*part"))


def test_an_item_without_a_licence_is_quarantined(workspace: Path, govor: Run) -> None:
    with serve(Site()) as server:
        done = govor("harvest", f"{server.url}/talk.mp3", "--allow-private", "--json")
    assert json.loads(done.stdout)["quarantined"] == 1 and "state it with --license" in done.stderr
    (row,) = (row for _, row in read_rows("manifests/dataset_inventory.jsonl"))
    assert row["license"] is None and row["source_url"].endswith("/talk.mp3")


def test_failures_are_listed_and_do_not_stop_the_rest(workspace: Path, govor: Run) -> None:
    site = Site()
    site.files["/fake.mp3"] = (b"<html>not found</html>", "audio/mpeg")
    site.files["/big.mp3"] = (bytes(2_000_000), "audio/mpeg")
    with serve(site) as server:
        bad = ["/gone.mp3", "/page.html", "/fake.mp3", "/big.mp3"]
        urls = [f"{server.url}{path}" for path in bad]
        arguments = ["--allow-private", "--max-gigabytes", "0.001", "--no-ytdlp"]
        done = govor("harvest", *urls, "file:///etc/passwd", f"{server.url}/talk.mp3", *arguments, expect=1)
    assert "Traceback" not in done.stderr
    failed = {row["row"]["url"].rsplit("/", 1)[1]: row["rule"] for _, row in read_rows("uploads/harvest_failed.jsonl")}
    assert failed == {
        "gone.mp3": "http_error",
        "page.html": "not_audio",
        "fake.mp3": "not_audio",
        "big.mp3": "too_large",
        "passwd": "refused",
    }
    assert len(list(Path("uploads").glob("*.mp3"))) == 1


def test_a_redirect_to_a_private_address_is_refused(
    workspace: Path, govor: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from govor.corpus import public_http
    from govor.corpus.download import Item, Options
    from govor.corpus.harvest import fetch_all

    with serve(Site()) as server:
        monkeypatch.setattr(public_http, "is_public", lambda address: address == "127.0.0.1" or is_public(address))
        items = [Item(f"{server.url}/to-private"), Item(f"{server.url}/talk.mp3")]
        outcomes = list(fetch_all(items, Options(Path("uploads"), with_ytdlp=False), print))
    assert outcomes[0].rule == "refused" and "169.254.169.254" in str(outcomes[0].message)
    assert outcomes[1].path is not None


def test_a_teams_downloader_is_asked(workspace: Path, govor: Run) -> None:
    with serve(Site()) as server:
        endpoint = f"{server.url}/download"
        urls = ["https://video.example/direct", "https://video.example/named", "https://video.example/escape"]
        refused = govor("harvest", urls[0], "--downloader", endpoint, expect=1)
        assert "401" in refused.stderr
        done = govor("harvest", *urls, "--downloader", endpoint, expect=1, GOVOR_DOWNLOADER_TOKEN="s3cret")
    assert "s3cret" not in done.stdout + done.stderr
    facts = {
        json.loads(path.read_text())["source_url"]: json.loads(path.read_text())
        for path in Path("uploads").glob("*.provenance.json")
    }
    assert set(facts) == set(urls[:2])
    assert facts[urls[1]]["license"] == "CC-BY-4.0" and facts[urls[1]]["title"] == "A talk"
    (failed,) = (row for _, row in read_rows("uploads/harvest_failed.jsonl"))
    assert failed["rule"] == "refused" and "10.0.0.1" in failed["message"]
    assert not any("s3cret" in path.read_text() for path in Path().rglob("*.json*"))


def test_ytdlp_finds_the_recording_on_a_page(workspace: Path, govor: Run) -> None:
    site = Site()
    page = b'<html><head><title>A talk</title></head><body><audio src="/talk.mp3"></audio></body></html>'
    site.files["/watch"] = (page, "text/html")
    with serve(site) as server:
        refused = govor("harvest", f"{server.url}/watch", expect=1)
        assert "private" in refused.stderr
        done = govor("harvest", f"{server.url}/watch", "--allow-private", "--json")
    assert json.loads(done.stdout)["fetched"] == 1
    (facts,) = (json.loads(path.read_text()) for path in Path("uploads").glob("*.provenance.json"))
    assert facts["fetched_by"].startswith("yt-dlp 20") and facts["source_url"].endswith("/watch")


def test_ytdlp_cannot_be_led_to_a_private_address() -> None:
    import subprocess
    import sys

    order = {"url": "http://127.0.0.1:9/watch", "folder": ".", "name": "x", "allow_private": False, "max_bytes": 1000}
    done = subprocess.run(
        [sys.executable, "-m", "govor.corpus.ytdlp"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["rule"] == "ytdlp_failed" and "private" in answer["error"]


def test_youtube_without_a_javascript_runtime_says_what_is_missing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from govor.corpus import download as module
    from govor.corpus.download import Item, Options

    monkeypatch.setattr(module, "_js_runtime", lambda: None)
    said: list[str] = []
    failure = '{"rule": "ytdlp_failed", "error": "nothing"}'
    monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: type("Done", (), {"stdout": failure, "stderr": ""})())
    with pytest.raises(module.HarvestError, match="needs a JavaScript runtime: install one of deno"):
        module._through_ytdlp(Item("https://www.youtube.com/watch?v=x"), Options(Path("uploads")), said.append)
    assert "www.youtube.com needs a JavaScript runtime" in said[0]


def test_harvesting_leaves_other_rows_of_the_inventory(workspace: Path, govor: Run) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
        soundfile.write(f"{folder}/a.wav", voice(len(folder)), 16_000)
    govor("inventory", "one", "--language", "he", "--license", "own")
    govor("inventory", "two", "--resume")
    found = {item["id"]: item for _, item in read_rows("manifests/dataset_inventory.jsonl")}
    assert set(found) == {"one/a", "two/a"} and found["one/a"]["language"] == "he"


def test_odd_addresses() -> None:
    assert check_url("http://example.org/שלום.wav?q=č") == "http://example.org/%D7%A9%D7%9C%D7%95%D7%9D.wav?q=%C4%8D"
    assert check_url("http://bücher.example/a%20b.wav") == "http://xn--bcher-kva.example/a%20b.wav"
    for url in ("http://a..b/x.wav", f"http://{'x' * 80}.org/x.wav", "http://[::1"):
        with pytest.raises(GovorError):
            check_url(url)
    assert not any(map(is_public, ("::127.0.0.1", "fec0::1", "64:ff9b:1::7f00:1", "192.0.0.8", "5f00::1")))
