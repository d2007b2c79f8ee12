"""HTTP to addresses that others name: nothing private, loopback or reserved is ever connected to.

The name is resolved once, every address it has is judged, and the connection goes to the address that was judged: a
second answer of the name server cannot slip in between. Redirects go the same way. Proxies of the environment are not
used.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import urllib.request
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from govor.errors import GovorError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_PROTOCOL_ASSIGNMENTS = ipaddress.ip_network("192.0.0.0/24")
_TIMEOUT_SECONDS = 30.0


class RefusedAddressError(GovorError):
    """The address is not a public one."""


def is_public(address: str) -> bool:
    """Whether an IP address is reachable for everyone; what wraps an IPv4 address is judged by that one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        return ip in _GLOBAL_UNICAST and ip.is_global
    return ip.is_global and not ip.is_multicast and ip not in _PROTOCOL_ASSIGNMENTS


def addresses(host: str, port: int, allow_private: bool) -> list[tuple[Any, ...]]:
    """What `socket.getaddrinfo` says of the host, if every address may be connected to.

    Raises:
        RefusedAddressError: one of them is not public.
        OSError: the name has no address.
    """
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    refused = [entry[4][0] for entry in entries if not is_public(str(entry[4][0]))]
    if refused and not allow_private:
        raise RefusedAddressError(
            f"{host} is at {refused[0]}, a private or reserved address; give --allow-private if that is meant."
        )
    return entries


def check_url(url: str) -> str:
    """The URL in ASCII, if it is an http(s) one with a host and without a password.

    Raises:
        GovorError: it is not.
    """
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise GovorError(f"'{url[:100]}' is no URL.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise GovorError(f"'{url[:100]}' is no http or https address.")
    if parts.username or parts.password:
        raise GovorError(f"The address of {parts.hostname} holds a user name or password; leave it out.")
    try:
        host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
        if any(not label or len(label) > 63 for label in host.rstrip(".").split(".")) and ":" not in host:
            raise ValueError("a label of the name is empty or too long")
    except ValueError:
        raise GovorError(f"'{url[:100]}' is no URL: its host is no name.") from None
    place = (f"[{host}]" if ":" in host else host) + (f":{parts.port}" if parts.port else "")
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~-._")
    return urlunsplit((parts.scheme, place, path, query, ""))


def opener(allow_private: Iterable[str] | bool = False) -> urllib.request.OpenerDirector:
    """An opener whose connections are judged; `allow_private` is for all hosts, or names those that may be private."""
    allowed = allow_private if isinstance(allow_private, bool) else frozenset(allow_private)

    def connect(host: str, port: int, timeout: float | None) -> socket.socket:
        private = allowed if isinstance(allowed, bool) else host in allowed
        error: OSError | None = None
        for family, kind, protocol, _, address in addresses(host, port, private):
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(timeout or _TIMEOUT_SECONDS)
            try:
                sock.connect(address)
            except OSError as failed:
                sock.close()
                error = failed
            else:
                return sock
        raise error or OSError(f"{host} has no address")

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = connect(self.host, self.port, _seconds(self.timeout))

    class SecureConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            plain = connect(self.host, self.port, _seconds(self.timeout))
            self.sock = self._context.wrap_socket(plain, server_hostname=self.host)  # type: ignore[attr-defined]

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Connection, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(SecureConnection, req)

    made = urllib.request.OpenerDirector()
    for handler in (
        Handler(),
        SecureHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        made.add_handler(handler)
    return made


def _seconds(timeout: object) -> float | None:
    return timeout if isinstance(timeout, float | int) else None
