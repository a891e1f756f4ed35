"""The stored result of each image: `results/<key>.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from ..files import safe_path, write_atomic
from ..results import Artifact, ImageResult

RESULTS = "results"


def result_path(output: Path, key: str) -> Path:
    """Where the result of an image is stored."""
    return output / RESULTS / safe_path(key, ".json")


def store_result(output: Path, result: ImageResult) -> None:
    """Write `results/<key>.json`, atomically."""
    text = json.dumps(result.to_json(), ensure_ascii=False, separators=(",", ":"))
    write_atomic(result_path(output, result.key), text.encode())


def load_result(output: Path, key: str) -> ImageResult | None:
    """The stored result of an image, None if there is none, it cannot be read, or it is that of another image."""
    result = read_result(result_path(output, key))
    return result if result is not None and result.key == key else None


def read_result(path: Path) -> ImageResult | None:
    """The result in a file, None if there is none or it cannot be read."""
    try:
        return ImageResult.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_files(output: Path, key: str) -> tuple[Artifact, ...] | None:
    """The files that the stored result of an image lists, None as for `load_result`, but without reading its masks."""
    try:
        data = json.loads(result_path(output, key).read_bytes())
        files = tuple(Artifact(**item) for item in data["artifacts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if data.get("key") == key else None


def stat_result(output: Path, key: str) -> tuple[int, int] | None:
    """Size in bytes and modification time in nanoseconds of the stored result of an image, None if it is gone."""
    try:
        found = os.stat(f"{output}/{RESULTS}/{safe_path(key, '.json')}")  # noqa: PTH116 - a Path takes twice as long
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def have_files(output: Path, artifacts: Iterable[Artifact]) -> bool:
    """Whether these files exist with the recorded size."""
    for artifact in artifacts:
        try:
            if (output / artifact.path).stat().st_size != artifact.bytes:
                return False
        except OSError:
            return False
    return True


class StoredResult:
    """The stored result of one image, which is replaced step by step.

    Args:
        output: the output folder.
        key: the image.

    Attributes:
        result: what is stored now, None if there is nothing or it cannot be read.
    """

    def __init__(self, output: Path, key: str) -> None:
        self._output = output
        self.result = load_result(output, key)

    def replace(self, result: ImageResult) -> None:
        """Store a result, and remove the files of the replaced one that the new one does not have."""
        store_result(self._output, result)
        current = {artifact.path for artifact in result.artifacts}
        for artifact in self.result.artifacts if self.result else ():
            if artifact.path not in current:
                (self._output / artifact.path).unlink(missing_ok=True)
        self.result = result
