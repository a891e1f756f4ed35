"""Checks before a run: addresses, certificate and token of the servers, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from urllib.parse import urlsplit

from maskmill import PipelineError, Problem, StopRun
from maskmill_plugins._shared.http.addresses import check_address, classify_network, hide_secrets
from maskmill_plugins._shared.http.wire import ModelInfo, Multimask, token_fault

from .pool import describe_model, is_loading, require_same_model
from .upload import Compress


def check_url(url: str) -> Problem | None:
    """Return what is wrong with the address of a server, None if it is valid."""
    if problem := check_address("url", url, "http://gpu-box:5000", "set `token: ${VARIABLE}` instead"):
        return problem
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        return Problem(f"`url` must be the address of the server only; remove what follows {hide_secrets(url)!r}")
    return None


def check_token(token: str | None, urls: Sequence[str]) -> list[Problem]:
    """Return what is wrong with the token, or with the connection that it is sent over."""
    if token is None:
        return []
    if fault := token_fault(token):
        return [Problem(f"`token` is {fault}")]
    plain = [url for url in urls if url.startswith("http:") and classify_network(url) == "internet"]
    text = "the token and the images are sent to {} unencrypted"
    return [Problem(text.format(url), hint="use https: see --tls-cert of the server", warning=True) for url in plain]


def check_servers(
    answers: Mapping[str, ModelInfo | Exception], multimask: Multimask | None, compress: Compress
) -> tuple[list[Problem], ModelInfo | None]:
    """Return the problems of a set of servers, and the model that they share.

    Args:
        answers: what each server answered to the query for its model, by URL.
        multimask: the option.
        compress: the option.
    """
    infos = {url: answer for url, answer in answers.items() if isinstance(answer, ModelInfo)}
    failed = {url: answer for url, answer in answers.items() if not isinstance(answer, ModelInfo)}
    refused = [Problem(str(error)) for error in failed.values() if isinstance(error, StopRun)]
    if refused or not infos:
        return refused or [_describe_outage(failed)], None
    try:
        info = require_same_model(infos)
    except PipelineError as error:
        return list(error.problems), None
    found = [Problem(f"{error}; not used until it answers", warning=True) for error in failed.values()]
    if multimask is not None and multimask not in info.multimask:
        known = ", ".join(info.multimask) or "none"
        found.append(Problem(f"{describe_model(info)} does not support `multimask: {multimask}`; supported: {known}"))
    if compress == "none":
        found += [problem for url, one in infos.items() if (problem := _compare_decoder(url, one))]
    return found, info


def _describe_outage(failed: Mapping[str, Exception]) -> Problem:
    """Return the problem that no server answers, with the command that starts one."""
    if loading := [url for url, answer in failed.items() if is_loading(answer)]:
        text = f"{' and '.join(loading)}: the model was still loading when the patience was over"
        return Problem(text, hint="wait until the server is ready, or set a longer `patience:`")
    url = next(iter(failed))
    parts = urlsplit(url)
    where, host = ("here", "") if classify_network(url) == "none" else (f"on {parts.hostname}", " --host 0.0.0.0")
    start = f"start one {where}: maskmill serve --backend sam{host} --port {parts.port or 5000}"
    if len(failed) == 1:
        return Problem(f"no SAM server is available: {failed[url]}", hint=start)
    reasons = "".join(f"\n    {error}" for error in failed.values())
    return Problem(f"none of the {len(failed)} SAM servers is available:{reasons}", hint=start)


def _compare_decoder(url: str, info: ModelInfo) -> Problem | None:
    """Return a warning if the server's image library has another version than the one on this machine."""
    here = metadata.version("pillow")
    there = next((version for name, version in info.versions.items() if name.lower() == "pillow"), None)
    if there is None or there == here:
        return None
    text = f"{url} decodes images with Pillow {there}, this machine with {here}: pixels of JPEG files may differ by 1"
    return Problem(text, hint="for identical masks use the same version, or set `compress: png`", warning=True)
