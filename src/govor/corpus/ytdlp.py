"""yt-dlp in a process of its own: one order as JSON on stdin, one answer as JSON on the last line of stdout.

Every name this process resolves is judged first, so that no page can send it to a private address.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

from govor.corpus.public_http import is_public

# YouTube's one Creative Commons choice, and what some other sites say.
_LICENSES = {
    "creative commons attribution license (reuse allowed)": "CC-BY-3.0",
    "creative commons attribution licence (reuse allowed)": "CC-BY-3.0",
}


def main() -> None:
    """Read the order, fetch, answer."""
    order = json.load(sys.stdin)
    try:
        answer = fetch(order)
    except ImportError:
        answer = {
            "rule": "needs_ytdlp",
            "error": "it is no direct link, and yt-dlp is not installed: pip install yt-dlp",
        }
    except Exception as error:  # yt-dlp raises many kinds; the sentence is what counts
        answer = {"rule": "ytdlp_failed", "error": " ".join(str(error).split())[:400]}
    print(json.dumps(answer))


def fetch(order: dict[str, Any]) -> dict[str, Any]:
    """The best audio of a page, as it is encoded there."""
    import yt_dlp

    if not order["allow_private"]:
        _guard()
    settings = {
        "format": "bestaudio/best",
        "outtmpl": {"default": f"{order['folder']}/{order['name']}.%(ext)s"},
        "noplaylist": True,
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "continuedl": True,
        "max_filesize": order["max_bytes"],
        "proxy": "",
        "cachedir": False,
        "ignoreconfig": True,
        "logger": _Silent(),
    }
    with yt_dlp.YoutubeDL(settings) as client:
        info = client.extract_info(order["url"], download=True)
        entries = info.get("entries")
        chosen = next(iter(entries)) if entries else info
        path = Path(chosen["requested_downloads"][0]["filepath"])
    stated = str(chosen.get("license") or "")
    return {
        "path": str(path),
        "title": chosen.get("title"),
        "license": _LICENSES.get(stated.lower(), stated) or None,
        "version": yt_dlp.version.__version__,
    }


def _guard() -> None:
    resolve = socket.getaddrinfo

    def judged(*arguments: Any, **named: Any) -> Any:
        entries = resolve(*arguments, **named)
        for entry in entries:
            if not is_public(str(entry[4][0])):
                raise OSError(f"{entry[4][0]} is a private or reserved address")
        return entries

    socket.getaddrinfo = judged


class _Silent:
    """Keeps yt-dlp's lines off stdout."""

    def debug(self, _: str) -> None:
        """Nothing."""

    info = warning = error = debug


if __name__ == "__main__":
    main()
