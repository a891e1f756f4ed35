"""What is said to every server: the token; and what is accepted of it: its certificate."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskmill import Problem
from maskmill_plugins._shared.http.reach import reach
from maskmill_plugins._shared.http.wire import token_fault

if TYPE_CHECKING:
    import httpx

#: Seconds after which an idle connection is closed: before a server does it, so that no request meets a closed one.
IDLE = 2.0


def connected(token: str | None, ca: Path | None, through_proxies: bool) -> httpx.Client:
    """A client for all servers of a pipeline.

    Args:
        token: bearer token, None for none.
        ca: PEM file that certificates have to be signed with; None: those that are known anyway.
        through_proxies: as the environment says; a proxy does not know the machines of a local network.

    Raises:
        OSError: `ca` cannot be read, or holds no certificate.
    """
    import httpx

    return httpx.Client(
        headers={"Authorization": f"Bearer {token}"} if token else {},
        verify=ssl.create_default_context(cafile=str(ca)) if ca is not None else True,
        follow_redirects=False,  # the token stays with the host it was given for
        trust_env=through_proxies,
        limits=httpx.Limits(keepalive_expiry=IDLE),
    )


def ca_problems(ca: Path | None) -> list[Problem]:
    """What is wrong with the certificate that was given."""
    if ca is None:
        return []
    try:
        ssl.create_default_context(cafile=str(ca))
    except OSError as error:  # ssl's own error is one
        return [Problem(f"`ca`: '{ca}' is no certificate in PEM format: {error.strerror or error}")]
    return []


def token_problems(token: str | None, urls: Sequence[str]) -> list[Problem]:
    """What is wrong with the token, or with where it would go."""
    if token is None:
        return []
    if fault := token_fault(token):
        return [Problem(f"`token` is {fault}")]
    bare = [url for url in urls if url.startswith("http:") and reach(url) == "internet"]
    text = "the token and the images go to {} unencrypted"
    return [Problem(text.format(url), hint="https, by --tls-cert of the server", warning=True) for url in bare]
