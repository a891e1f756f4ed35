"""What is said before a run starts, when an address or a server is not as it should be."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from urllib.parse import urlsplit

from maskmill import PipelineError, Problem, StopRun
from maskmill_plugins._shared.http.reach import reach
from maskmill_plugins._shared.http.wire import ModelInfo, Multimask

from .forms import Compress
from .pool import agreed, described


def address_problem(url: str) -> Problem | None:
    """What is wrong with the address of a server, None if nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        hint = f"did you mean http://{url}?" if parts.scheme not in ("http", "https") and "//" not in url else ""
        return Problem(f"`url` is an address such as http://gpu-box:5000, not {_shown(url)!r}", hint=hint)
    if parts.username is not None or parts.password is not None:
        return Problem("`url` holds a name or a password", hint="write `token: ${VARIABLE}` instead")
    if parts.query or parts.fragment:
        return Problem(f"`url` ends with the server's address; {_shown(url)!r} goes on after it")
    return None


def _shown(url: str) -> str:
    """The address without what may be a secret."""
    return url.rpartition("@")[2].partition("?")[0]


def judged(
    answers: Mapping[str, ModelInfo | Exception], multimask: Multimask | None, compress: Compress
) -> tuple[list[Problem], ModelInfo | None]:
    """Problems of a set of servers that were asked what they serve, and the model that they share.

    Args:
        answers: what each said, by URL.
        multimask: the option.
        compress: the option.
    """
    infos = {url: answer for url, answer in answers.items() if isinstance(answer, ModelInfo)}
    failed = {url: answer for url, answer in answers.items() if not isinstance(answer, ModelInfo)}
    refused = [Problem(str(error)) for error in failed.values() if isinstance(error, StopRun)]
    if refused or not infos:
        return refused or [_nobody(failed)], None
    try:
        info = agreed(infos)
    except PipelineError as error:
        return list(error.problems), None
    found = [Problem(f"{error}; it is left out until it answers", warning=True) for error in failed.values()]
    if multimask is not None and multimask not in info.multimask:
        known = ", ".join(info.multimask) or "none"
        found.append(Problem(f"{described(info)} does not know `multimask: {multimask}`; it knows {known}"))
    if compress == "none":
        found += [problem for url, one in infos.items() if (problem := _other_decoder(url, one))]
    return found, info


def _nobody(failed: Mapping[str, Exception]) -> Problem:
    """No server answers: what was tried, and how to start one."""
    url = next(iter(failed))
    parts = urlsplit(url)
    where, host = ("here", "") if reach(url) == "none" else (f"on {parts.hostname}", " --host 0.0.0.0")
    start = f"start one {where}: maskmill serve --backend sam{host} --port {parts.port or 5000}"
    if len(failed) == 1:
        return Problem(f"there is no SAM server that can be used: {failed[url]}", hint=start)
    reasons = "".join(f"\n    {error}" for error in failed.values())
    return Problem(f"none of {len(failed)} SAM servers can be used:{reasons}", hint=start)


def _other_decoder(url: str, info: ModelInfo) -> Problem | None:
    """A warning if the server's image library is of another version than the one here."""
    there, here = next((v for name, v in info.versions.items() if name.lower() == "pillow"), None), _pillow()
    if there is None or there == here:
        return None
    text = f"{url} decodes images with Pillow {there}, this machine with {here}: pixels of JPEG files may differ by 1"
    return Problem(text, hint="for masks equal to the last bit: the same version, or `compress: png`", warning=True)


def _pillow() -> str:
    return metadata.version("pillow")
