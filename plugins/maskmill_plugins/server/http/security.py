"""Access control: networks, host names, origins, the bearer token."""

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

from ..errors import ApiError
from ..settings import Network, Settings
from .problems import error_response

#: Open without a token: they reveal nothing, and monitoring has none.
OPEN = frozenset({"/healthz", "/readyz"})
#: The static files of the pages of annotate and review; the pages themselves ask for the token.
PAGES = ("/annotate/", "/review/")
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
NO_TOKEN = "none"  # noqa: S105 - the option's value for "no token"


class AccessControl:
    """ASGI middleware that refuses clients without access.

    Args:
        app: the application to protect.
        settings: the access rules.
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

        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        try:
            self._check(scope)
        except ApiError as error:
            await error_response(error)(scope, receive, send_with_header)
            return
        await self._app(scope, receive, send_with_header)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._settings.allow and not is_allowed(scope.get("client"), self._settings.allow):
            raise ApiError("forbidden", "your address is not in an allowed network (--allow)")
        if self._settings.local_names and parse_host_name(headers.get("host", "")) not in LOCAL_NAMES:
            raise ApiError("forbidden", "a local server without a token must be addressed as localhost")
        if scope["path"] in OPEN or scope["path"].startswith(PAGES):
            return
        if self._token is not None:
            self._check_token(headers.get("authorization", ""), self._token)
        elif self._is_cross_origin(scope["method"], headers):
            text = "a server without a token refuses web pages of other origins; --cors ORIGIN allows one"
            raise ApiError("forbidden", text)

    def _is_cross_origin(self, method: str, headers: Headers) -> bool:
        """Whether a browser sends the request for a web page of another origin.

        Browsers set `Origin` and `Sec-Fetch-Site`, and pages cannot change them; a request without both is not
        from a browser.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._settings.cors or "*" in self._settings.cors:
            return False
        if site is not None:
            navigated = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
            return site not in ("same-origin", "none") and not navigated
        return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()

    def _check_token(self, header: str, token: bytes) -> None:
        scheme, _, given = header.partition(" ")
        # Always compared, and in constant time, so that the response time reveals nothing about the token.
        matches = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token)
        if scheme.lower() != "bearer" or not matches:
            text = "the header `Authorization: Bearer TOKEN` is missing or has the wrong token"
            raise ApiError("unauthorized", text, headers={"WWW-Authenticate": "Bearer"})


def is_allowed(client: tuple[str, int] | None, networks: tuple[Network, ...]) -> bool:
    """Whether the client's address is in one of the networks."""
    try:
        address = parse_address(client[0] if client else "")
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in networks)


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """The IP address; an IPv4 address mapped into IPv6 (::ffff:1.2.3.4) is returned as IPv4.

    Raises:
        ValueError: the text is not an address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def parse_host_name(header: str) -> str:
    """The name in a `Host` header, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if header.count(":") == 1 else header.lower()


def parse_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks given by `--allow`.

    Raises:
        UsageError: one is not a network.
    """
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            hint = "for example: --allow 192.168.1.0/24, or --allow 192.168.1.7"
            raise UsageError(Problem(f"--allow {text}: not a network", hint=hint)) from None
    return tuple(found)


def is_loopback(host: str) -> bool:
    """Whether all addresses of this host name are loopback addresses.

    Raises:
        UsageError: the name cannot be resolved.
    """
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            Problem(f"--host {host}: {error}", hint="give an address of this machine, or 0.0.0.0 for all")
        ) from None
    return all(parse_address(str(address[0])).is_loopback for *_, address in found)


def resolve_token(token: str | None, loopback: bool) -> str | None:
    """The token that the server requires, None for no token.

    Args:
        token: as the user gave it: a token, "none", or nothing.
        loopback: whether the server listens on this machine only.

    Raises:
        UsageError: the server would be open to the network without an explicit "none", or the token is invalid.
    """
    if token == NO_TOKEN:
        return None
    if not token:
        if loopback:
            return None
        hint = (
            f"set {TOKEN_VARIABLE} here and on the clients, for example to the output of"
            ' `python -c "import secrets; print(secrets.token_urlsafe())"`; or use --token none'
        )
        raise UsageError(Problem("a server that listens beyond this machine needs a token", hint=hint))
    if fault := token_fault(token):
        raise UsageError(f"the token is {fault}")
    return token
