"""What a file is that was taken for weights."""

from __future__ import annotations

from pathlib import Path


def recognize(path: Path) -> str:
    """What a file is that holds no weights, where its first bytes tell; else ""."""
    with path.open("rb") as file:
        head = file.read(200).lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs, not the file itself (run: git lfs pull)"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page; the download went wrong"
    return ""
