"""The server that runs a Qwen model, and its API key.

The key in the environment is sent to Alibaba's own hosts only; any other host gets a key only if the pipeline
file sets `api_key:`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.http.addresses import check_address
from maskmill_plugins._shared.http.secrets import contains_secret, mask_secret

Provider = Literal["dashscope", "openai"]

KEY_VARIABLE = "DASHSCOPE_API_KEY"
GET_A_KEY = "https://www.alibabacloud.com/help/en/model-studio/get-api-key"
DEFAULT_REGION = "cn-beijing"
#: The older hosts, by region; a key is valid for one region.
HOSTS = {
    "cn-beijing": "dashscope.aliyuncs.com",
    "ap-southeast-1": "dashscope-intl.aliyuncs.com",
    "us-east-1": "dashscope-us.aliyuncs.com",
    "cn-hongkong": "cn-hongkong.dashscope.aliyuncs.com",
}
_NEWER = ".maas.aliyuncs.com"
PATHS: dict[Provider, str] = {"dashscope": "/api/v1", "openai": "/compatible-mode/v1"}
#: `region:` of the newer hosts, which belong to a workspace.
_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.[a-z0-9-]+")
_KEY = re.compile(r"[!-~]+")
_ALIBABAS = re.compile(r"(dashscope(-[a-z]+)?|[a-z0-9-]+\.dashscope|[a-z0-9_-]+\.[a-z0-9-]+\.maas)\.aliyuncs\.com")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a model API, with its key.

    Attributes:
        provider: whose API it has.
        url: base URL, without a trailing slash.
        region: as in the pipeline file, "" without one.
        key: None if none is sent.
    """

    provider: Provider
    url: str
    region: str = ""
    key: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Host name and port."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def is_alibabas(self) -> bool:
        """Whether this is one of Alibaba's own hosts, over TLS."""
        parts = urlsplit(self.url)
        return parts.scheme == "https" and bool(_ALIBABAS.fullmatch((parts.hostname or "").lower()))

    def mask_key(self, text: str) -> str:
        """Return a text for people with the key masked; answers are read as they came."""
        return mask_secret(text, self.key)

    def shows_key(self, text: str) -> bool:
        """Return whether a text contains the key, so that it must not be written to disk."""
        return contains_secret(text, self.key)


def resolve_endpoint(provider: Provider, base_url: str | None, region: str | None, api_key: str | None) -> Endpoint:
    """Return the address and the key for these options.

    Args:
        provider: whose API it has.
        base_url: overrides the region.
        region: a key of `HOSTS`, or `WORKSPACE.REGION` for the newer hosts.
        api_key: from the pipeline file, None if it sets none.

    Raises:
        PipelineError: the options do not fit together, or there is no key.
    """
    url, region = _resolve_address(provider, base_url, region)
    endpoint = Endpoint(provider, url, region, (api_key or "").strip() or None)
    if endpoint.key is None and endpoint.is_alibabas:
        endpoint = Endpoint(provider, url, region, os.environ.get(KEY_VARIABLE, "").strip() or None)
    if endpoint.key is not None and not _KEY.fullmatch(endpoint.key):
        raise PipelineError(f"the API key for {endpoint.host} contains a space or an invalid character; copy it again")
    if endpoint.key is None and (provider == "dashscope" or endpoint.is_alibabas):
        raise PipelineError(_describe_missing_key(endpoint))
    return endpoint


def _resolve_address(provider: Provider, base_url: str | None, region: str | None) -> tuple[str, str]:
    if base_url is not None:
        if problem := check_address("base_url", base_url, "http://127.0.0.1:11434/v1", "set `api_key:` instead"):
            raise PipelineError(problem)
        return base_url.rstrip("/"), region or _find_region(urlsplit(base_url).hostname or "")
    if provider == "openai" and region is None:
        raise PipelineError(
            Problem(
                "`provider: openai` needs `base_url`, the address up to and including /v1",
                hint="Ollama: http://127.0.0.1:11434/v1, vLLM: http://127.0.0.1:8000/v1,"
                " LM Studio: http://127.0.0.1:1234/v1",
            )
        )
    region = region or DEFAULT_REGION
    if region in HOSTS:
        return f"https://{HOSTS[region]}{PATHS[provider]}", region
    if _WORKSPACE.fullmatch(region):
        return f"https://{region}{_NEWER}{PATHS[provider]}", region
    text = f"unknown region {region!r}; expected one of {', '.join(HOSTS)}, or WORKSPACE.REGION for the newer hosts"
    raise PipelineError(Problem(text, hint="or set the whole address with `base_url:`"))


def _find_region(host: str) -> str:
    """Return the region of one of Alibaba's hosts, "" for any other host."""
    if host.endswith(_NEWER):
        return host.removesuffix(_NEWER)
    return next((region for region, known in HOSTS.items() if known == host), "")


def _describe_missing_key(endpoint: Endpoint) -> Problem:
    if endpoint.is_alibabas:
        region = f"for the region {endpoint.region}" if endpoint.region else "for this host's region"
        hint = f"get one at {GET_A_KEY} ({region}), and set the environment variable {KEY_VARIABLE}"
    else:
        hint = f"{KEY_VARIABLE} is sent to Alibaba's own hosts only; set `api_key: ${{VARIABLE}}` for this host"
    return Problem(f"missing API key for {endpoint.host}", hint=hint)
