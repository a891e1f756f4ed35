"""Connections to servers: why one failed, proxies and certificates, and a bound for a whole answer."""

from __future__ import annotations

import importlib.util
import os
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from maskmill import Problem

from .addresses import classify_network, hide_secrets

T = TypeVar("T")
HttpPackage = Literal["httpx", "requests"]
#: The package that each HTTP client needs for SOCKS, and the distribution that brings it.
_SOCKS: dict[HttpPackage, tuple[str, str]] = {"httpx": ("socksio", "socksio"), "requests": ("socks", "PySocks")}
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
#: Codes of OpenSSL for a certificate whose authority is not known here.
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH")


@dataclass(frozen=True, slots=True)
class ConnectionFault:
    """Why a connection failed.

    Attributes:
        text: for the user, with the address.
        sent: whether the request was sent, so that the server may have worked on it.
        lasting: whether it stays so until the user changes something.
        advice: what to look at, "" if `text` says it.
    """

    text: str
    sent: bool = False
    lasting: bool = False
    advice: str = ""


def explain_connection_error(error: BaseException, url: str, sent: bool, through_proxies: bool) -> ConnectionFault:
    """Return why a connection to a server failed.

    Args:
        error: as raised by httpx or requests, with its causes.
        url: of the server.
        sent: whether the connection had been opened.
        through_proxies: whether the environment's proxies were used.
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    tls = next((one for one in _list_causes(error) if isinstance(one, ssl.SSLError)), None)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return ConnectionFault(_describe_certificate(tls, host), lasting=True)
    if tls is not None and any(word in f"{tls.reason} {tls}".upper() for word in _NOT_TLS):
        text = f"{host} does not speak TLS: if it is served without encryption, begin its address with http://"
        return ConnectionFault(text, lasting=True)
    if sent:
        return ConnectionFault(f"{host}: the connection broke before an answer came", sent=True)
    proxy = find_proxy(url) if through_proxies else None
    if proxy is not None:
        variable, address = proxy
        text = f"{host} cannot be reached through the proxy {address} ({variable}): {find_cause(error)}"
        return ConnectionFault(text, advice=f"is the proxy running? Unset {variable}, or name the host in NO_PROXY")
    return ConnectionFault(
        f"{host}: cannot be reached: {find_cause(error)}",
        advice=f"is the server running, and is its address {hide_secrets(url)}?",
    )


def _describe_certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    text = f"the certificate of {host} cannot be verified: {error.verify_message or error.reason}"
    if error.verify_code in _UNKNOWN_AUTHORITY:
        text += "; set `ca:` to the file (PEM) with the certificate of the authority that signed it"
    return text


def find_cause(error: BaseException) -> str:
    """Return the operating system's message, which HTTP clients wrap."""
    causes = list(_list_causes(error))
    found = next((one.strerror for one in causes if isinstance(one, OSError) and one.strerror), None)
    return found or str(causes[-1]).strip() or type(error).__name__


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it wraps, from the outside in."""
    rest, seen = [error], set()
    while rest:
        one = rest.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        rest += [found for found in inner if isinstance(found, BaseException)]


def find_proxy(url: str) -> tuple[str, str] | None:
    """Return (variable, address without password) of the proxy that the environment sets for a URL; None for none."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    for scheme in (parts.scheme, "all"):
        if address := proxies.get(scheme):
            if urllib.request.proxy_bypass(parts.hostname or ""):
                return None
            return _name_variable(scheme), _hide_password(address)
    return None


def check_proxies(url: str, package: HttpPackage) -> list[Problem]:
    """Return what is wrong with the environment's proxies for this URL, before anything is sent.

    Args:
        url: of the server.
        package: the HTTP client; httpx opens no connection at all if it cannot use one of the proxies.
    """
    parts = urlsplit(url)
    if classify_network(url) == "none":
        return []
    proxies = urllib.request.getproxies()
    schemes = ("http", "https", "all") if package == "httpx" else (parts.scheme, "all")
    found = []
    for scheme in schemes:
        address = proxies.get(scheme, "")
        kind = address.partition("://")[0].lower() if "://" in address else "http"
        where = f"the proxy {_hide_password(address)} ({_name_variable(scheme)})"
        module, distribution = _SOCKS[package]
        if kind not in _PROXY_SCHEMES and not (kind.startswith("socks4") and package == "requests"):
            hint = f"use one of {', '.join(f'{one}://' for one in _PROXY_SCHEMES)}"
            found.append(Problem(f"{where} has an unknown scheme", hint=hint))
        elif kind.startswith("socks") and importlib.util.find_spec(module) is None:
            hint = f"pip install {distribution}"
            found.append(Problem(f"{where} needs the package {distribution!r}, which is not installed", hint=hint))
    return found


def check_certificate(ca: Path | None) -> list[Problem]:
    """Return what is wrong with the file of the option `ca`."""
    if ca is None:
        return []
    try:
        ssl.create_default_context(cafile=str(ca))
    except OSError as error:  # includes ssl.SSLError
        return [Problem(f"`ca`: '{ca}' is not a certificate in PEM format: {error.strerror or error}")]
    return []


def _name_variable(scheme: str) -> str:
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), "set in the system")


def _hide_password(address: str) -> str:
    scheme, mark, rest = address.rpartition("://")
    return f"{scheme}{mark}{hide_secrets(rest)}"


class OverdueError(Exception):
    """A call was not over in time."""


def call_within(seconds: float, function: Callable[[], T]) -> T:
    """Return what a function returns, or raise what it raises; wait no longer than these seconds.

    The timeouts of HTTP clients start anew with each byte, so that a server which sends one now and then holds
    them for ever. The function goes on in a thread of its own: end what it waits for.

    Raises:
        OverdueError: it is not over.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # goes to the caller
            future.set_exception(error)

    threading.Thread(target=run, name="maskmill-http", daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # the function's own
            raise
        raise OverdueError from None
