"""Credentials from the files of the AWS tools, which obstore does not read."""

from __future__ import annotations

import configparser
import os
from pathlib import Path


def read_profile() -> dict[str, str]:
    """Keys and region; {} where environment variables give them."""
    known = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if any(os.environ.get(name) for name in known):
        return {}
    profile = os.environ.get("AWS_PROFILE", "default")
    home = Path.home() / ".aws"
    parser = configparser.RawConfigParser()
    parser.read(Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials")), encoding="utf-8")
    settings = configparser.RawConfigParser()
    settings.read(Path(os.environ.get("AWS_CONFIG_FILE", home / "config")), encoding="utf-8")
    section = profile if profile == "default" else f"profile {profile}"
    found = {
        "access_key_id": parser.get(profile, "aws_access_key_id", fallback=""),
        "secret_access_key": parser.get(profile, "aws_secret_access_key", fallback=""),
        "session_token": parser.get(profile, "aws_session_token", fallback=""),
        "region": settings.get(section, "region", fallback=""),
    }
    return {name: value for name, value in found.items() if value}
