"""Checks of server addresses, and how far away they are."""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from maskmill import Problem


def classify_network(url: str) -> Literal["none", "lan", "internet"]:
    """Return which network a URL's host is in: this machine, the local network, or the internet.

    A name without a dot, or ending in .local or .lan, counts as a machine in the local network.
    """
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host == "localhost":
            return "none"
        return "internet" if "." in host and not host.endswith((".local", ".lan")) else "lan"
    if address.is_loopback:
        return "none"
    return "lan" if address.is_private else "internet"


def check_address(option: str, url: str, example: str, credentials_hint: str) -> Problem | None:
    """Return what is wrong with a server's address, None if it is valid.

    Args:
        option: name of the option that holds the address.
        url: the address.
        example: a valid address.
        credentials_hint: how to give a key or token instead of a password in the URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        hint = f"did you mean http://{url}?" if parts.scheme not in ("http", "https") and "//" not in url else ""
        return Problem(f"`{option}` must be an address such as {example}, got {hide_secrets(url)!r}", hint=hint)
    if parts.username is not None or parts.password is not None:
        return Problem(f"`{option}` contains a user name or password", hint=credentials_hint)
    return None


def hide_secrets(url: str) -> str:
    """Return the address without user name, password and query, which may be secret."""
    return url.rpartition("@")[2].partition("?")[0]
