"""Who may talk to the server: this machine, or whoever knows the token; never another page of the same browser."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

UPLOAD_LIMIT = 16 * 2**20
"""Largest body of a request [bytes]."""

READING = ("GET", "HEAD")


def is_loopback(host: str) -> bool:
    """Whether a name or an address can be reached from this machine only."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address).split("%")[0]).is_loopback for address in found)


def cookie_name(port: int) -> str:
    """Browsers keep cookies by host alone: two servers on one machine must not take each other's."""
    return f"visarl-annotate-{port}"


class Guard:
    """ASGI middleware that answers what must not pass, with a status and a sentence."""

    def __init__(self, app: ASGIApp, names: Iterable[str], token: str, cookie: str) -> None:
        """
        Args:
            names: host names under which the page may be asked for, beside addresses. Any other name, which its owner
                can point to this machine at will (DNS rebinding), is refused.
            token: that every request has to bring, in its query or its cookie; empty where the server is on loopback,
                and where then only loopback addresses will do.
        """
        self._app, self._token, self._cookie = app, token, cookie
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            status, message = refusal
            await JSONResponse({"message": message}, status)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._known(host):
            return 421, f"this server is not called {host[:80]!r}; open the link that it printed"
        if self._token and not self._has_token(scope, headers):
            return 403, "this link lacks the secret token or has an old one; open the link that the server printed"
        if scope["method"] not in READING:
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != host:
                return 403, f"a page of {origin[:80]!r} may not change annotations"
            length = headers.get("content-length", "")
            if not length.isdecimal():
                return 411, "expected a Content-Length"
            if int(length) > UPLOAD_LIMIT:
                return 413, f"{int(length)} bytes are too many; at most {UPLOAD_LIMIT} are taken"
        return None

    def _known(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return bool(self._token) or address.is_loopback

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except Exception:  # whatever a malformed cookie raises, it holds no token
            cookie = None
        if cookie is not None:
            given.append(cookie.value)
        return any(hmac.compare_digest(value.encode(), self._token.encode()) for value in given)
