"""Where a Qwen model is asked, and with which key.

A key found in the environment goes to Alibaba's own hosts only; another host gets a key only if the pipeline
file itself says so, with `api_key:`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from maskmill import PipelineError, Problem

Provider = Literal["dashscope", "openai"]

KEY_VARIABLE = "DASHSCOPE_API_KEY"
GET_A_KEY = "https://www.alibabacloud.com/help/en/model-studio/get-api-key"
DEFAULT_REGION = "cn-beijing"
#: The older endpoints, by region; a key is of one of them.
HOSTS = {
    "cn-beijing": "dashscope.aliyuncs.com",
    "ap-southeast-1": "dashscope-intl.aliyuncs.com",
    "us-east-1": "dashscope-us.aliyuncs.com",
    "cn-hongkong": "cn-hongkong.dashscope.aliyuncs.com",
}
_NEWER = ".maas.aliyuncs.com"
PATHS: dict[Provider, str] = {"dashscope": "/api/v1", "openai": "/compatible-mode/v1"}
#: `region:` of the newer endpoints, which belong to a workspace.
_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.[a-z0-9-]+")
_KEY = re.compile(r"[!-~]+")
_ALIBABAS = re.compile(r"(dashscope(-[a-z]+)?|[a-z0-9-]+\.dashscope|[a-z0-9_-]+\.[a-z0-9-]+\.maas)\.aliyuncs\.com")


@dataclass(frozen=True, slots=True)
class Server:
    """One address with its key.

    Attributes:
        provider: the dialect that it speaks.
        url: base URL, without a slash at its end.
        region: as the user knows it, "" where there is none.
        key: None where none is sent.
    """

    provider: Provider
    url: str
    region: str = ""
    key: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Its name and port."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def is_alibabas(self) -> bool:
        """Whether this is one of Alibaba's own hosts, reached over TLS."""
        parts = urlsplit(self.url)
        return parts.scheme == "https" and bool(_ALIBABAS.fullmatch((parts.hostname or "").lower()))

    def without_key(self, text: str) -> str:
        """The text, which came from outside, with the key made unreadable."""
        return text.replace(self.key, "***") if self.key else text


def server_for(provider: Provider, base_url: str | None, region: str | None, api_key: str | None) -> Server:
    """The address and the key that these options mean.

    Args:
        provider: the dialect.
        base_url: overrides the region.
        region: a key of `HOSTS`, or `WORKSPACE.REGION` for the newer endpoints.
        api_key: from the pipeline file, None if it names none.

    Raises:
        PipelineError: the options do not fit together, or there is no key.
    """
    url, region = _address(provider, base_url, region)
    found = Server(provider, url, region, (api_key or "").strip() or None)
    if found.key is None and found.is_alibabas:
        found = Server(provider, url, region, os.environ.get(KEY_VARIABLE, "").strip() or None)
    if found.key is not None and not _KEY.fullmatch(found.key):
        raise PipelineError(f"the key for {found.host} holds a space or a letter that no key has; copy it again")
    if found.key is None and provider == "dashscope":
        raise PipelineError(_no_key(found))
    if found.key is None and found.is_alibabas:
        raise PipelineError(_no_key(found))
    return found


def _address(provider: Provider, base_url: str | None, region: str | None) -> tuple[str, str]:
    if base_url is not None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PipelineError(f"`base_url` is an address such as http://127.0.0.1:11434/v1, not {base_url!r}")
        if parts.username is not None or parts.password is not None:
            raise PipelineError(Problem("`base_url` holds a name or a password", hint="give a key by `api_key:`"))
        return base_url.rstrip("/"), region or _region_of(parts.hostname)
    if provider == "openai" and region is None:
        raise PipelineError(
            Problem(
                "`provider: openai` needs a `base_url`, the address up to and including /v1",
                hint="Ollama: http://127.0.0.1:11434/v1, vLLM: http://127.0.0.1:8000/v1,"
                " LM Studio: http://127.0.0.1:1234/v1",
            )
        )
    region = region or DEFAULT_REGION
    if region in HOSTS:
        return f"https://{HOSTS[region]}{PATHS[provider]}", region
    if _WORKSPACE.fullmatch(region):
        return f"https://{region}{_NEWER}{PATHS[provider]}", region
    text = f"there is no region {region!r}; there are: {', '.join(HOSTS)}, and WORKSPACE.REGION for the newer endpoints"
    raise PipelineError(Problem(text, hint="or give the whole address by `base_url:`"))


def _region_of(host: str) -> str:
    """The region of one of Alibaba's hosts, "" of all others."""
    if host.endswith(_NEWER):
        return host.removesuffix(_NEWER)
    return next((region for region, known in HOSTS.items() if known == host), "")


def _no_key(found: Server) -> Problem:
    if found.is_alibabas:
        return Problem(
            f"there is no key for {found.host}",
            hint=f"get one at {GET_A_KEY} (of the region {found.region or 'of that host'}), and set the environment"
            f" variable {KEY_VARIABLE}",
        )
    return Problem(
        f"there is no key for {found.host}",
        hint=f"{KEY_VARIABLE} is sent to Alibaba's own hosts only; for this one write `api_key: ${{VARIABLE}}`",
    )
