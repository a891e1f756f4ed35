"""Who may ask: networks, names of this machine, a bearer token."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskmill import Problem, UsageError
from maskmill_plugins._shared.http.wire import TOKEN_VARIABLE, token_fault

from ..settings import Network, Settings
from .problems import ApiError

#: Answered without a token: they tell nothing, and those who watch over servers have none.
OPEN = frozenset({"/healthz", "/readyz"})
#: Below it lies a page that holds no data; it asks for the token itself.
PAGE = "/annotate/"
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
NONE = "none"


class Access:
    """ASGI middleware that lets in who may ask.

    Args:
        app: what it protects.
        settings: who that is.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._token = None if settings.token is None else settings.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 401 or 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        try:
            self._check(scope)
        except ApiError as error:
            await error.response()(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._settings.allow and not allowed(scope.get("client"), self._settings.allow):
            raise ApiError("forbidden", "this address may not ask here (--allow)")
        if self._settings.local_names and host_name(headers.get("host", "")) not in LOCAL_NAMES:
            raise ApiError("forbidden", "without a token, a server on this machine answers only to the name localhost")
        if scope["path"] in OPEN or scope["path"].startswith(PAGE):
            return
        if self._token is not None:
            self._check_token(headers.get("authorization", ""), self._token)
        elif self._from_elsewhere(scope["method"], headers):
            text = "without a token, web pages of other origins may not ask here (--cors ORIGIN lets one)"
            raise ApiError("forbidden", text)

    def _from_elsewhere(self, method: str, headers: Headers) -> bool:
        """Whether a browser says that it asks for a web page of another origin.

        A request without such words is no browser's; a page cannot change them.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._settings.cors or "*" in self._settings.cors:
            return False
        if site is not None:
            followed = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
            return site not in ("same-origin", "none") and not followed
        return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()

    def _check_token(self, said: str, token: bytes) -> None:
        scheme, _, given = said.partition(" ")
        # Always compared, in constant time: how long the answer takes tells nothing of the token.
        right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token)
        if scheme.lower() != "bearer" or not right:
            text = "the header `Authorization: Bearer TOKEN` is missing or its token is wrong"
            raise ApiError("unauthorized", text, headers={"WWW-Authenticate": "Bearer"})


def allowed(client: tuple[str, int] | None, networks: tuple[Network, ...]) -> bool:
    """Whether an address lies in one of the networks."""
    try:
        address = plain(client[0] if client else "")
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in networks)


def plain(text: str) -> IPv4Address | IPv6Address:
    """An address; of IPv4 in IPv6's clothes (::ffff:1.2.3.4) the address of IPv4.

    Raises:
        ValueError: it is none.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def host_name(header: str) -> str:
    """The name in a `Host` header, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if header.count(":") == 1 else header.lower()


def networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """What `--allow` names.

    Raises:
        UsageError: one is no network.
    """
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            hint = "for example: --allow 192.168.1.0/24, or --allow 192.168.1.7"
            raise UsageError(Problem(f"--allow {text} is no network", hint=hint)) from None
    return tuple(found)


def is_loopback(host: str) -> bool:
    """Whether all that this name stands for are addresses of this machine alone.

    Raises:
        UsageError: the name stands for nothing.
    """
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(Problem(f"--host {host}: {error}", hint="an address of this machine, or 0.0.0.0")) from None
    return all(plain(str(address[0])).is_loopback for *_, address in found)


def checked_token(token: str | None, loopback: bool) -> str | None:
    """The token to ask for, None for none.

    Args:
        token: what the user gave: a token, "none", or nothing.
        loopback: whether the server listens on this machine alone.

    Raises:
        UsageError: the server would be open to the network although nobody said so, or the token is no good.
    """
    if token == NONE:
        return None
    if not token:
        if loopback:
            return None
        hint = (
            f"set {TOKEN_VARIABLE} here and on the clients, for example to the output of"
            ' `python -c "import secrets; print(secrets.token_urlsafe())"`; or say --token none'
        )
        raise UsageError(Problem("without a token the server listens on this machine only", hint=hint))
    if fault := token_fault(token):
        raise UsageError(f"a token is {fault}")
    return token
