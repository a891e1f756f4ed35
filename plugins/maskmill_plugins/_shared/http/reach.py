"""How far away an address is."""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit


def reach(url: str) -> Literal["none", "lan", "internet"]:
    """What it takes to get to a URL's host: no network, the local one, or the internet.

    A name without a dot, and one that ends in .local or .lan, is taken for a machine of the local network.
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
