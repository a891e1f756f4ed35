"""The stored result of each image: `results/<key>.json`."""

from __future__ import annotations

import json
from pathlib import Path

from ..files import safe_path, write_atomic
from ..results import ImageResult

RESULTS = "results"


def result_path(output: Path, key: str) -> Path:
    """Where the result of an image is stored."""
    return output / RESULTS / safe_path(key, ".json")


def store_result(output: Path, result: ImageResult) -> None:
    """Write `results/<key>.json`, atomically."""
    text = json.dumps(result.to_json(), ensure_ascii=False, separators=(",", ":"))
    write_atomic(result_path(output, result.key), text.encode())


def load_result(output: Path, key: str) -> ImageResult | None:
    """The stored result of an image, None if there is none or it cannot be read."""
    try:
        return ImageResult.from_json(json.loads(result_path(output, key).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def replace_result(output: Path, before: ImageResult | None, result: ImageResult) -> None:
    """Store a result, and remove the files of the replaced one that the new one does not have."""
    store_result(output, result)
    if before is not None:
        current = {artifact.path for artifact in result.artifacts}
        for artifact in before.artifacts:
            if artifact.path not in current:
                (output / artifact.path).unlink(missing_ok=True)
