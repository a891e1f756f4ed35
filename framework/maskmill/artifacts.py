"""Files that writers make: how they are saved and described."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from .display import brief
from .files import safe_path, write_atomic

_saved: ContextVar[list[Path] | None] = ContextVar("maskmill_saved", default=None)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a writer wrote.

    Attributes:
        path: POSIX path below the writer's folder (in an `ImageResult`: below the output folder).
        sha256: of its bytes, hexadecimal.
        bytes: its size in bytes.
    """

    path: str
    sha256: str
    bytes: int

    def __repr__(self) -> str:
        return f"<Artifact {brief(self.path)}: {self.bytes} bytes>"


def save(folder: Path, name: str, data: bytes, suffix: str = "") -> Artifact:
    """Write a file below a writer's folder, atomically and under a name every system accepts.

    Args:
        folder: the writer's folder, as given to `Writer.write`.
        name: POSIX path below it, usually the image's key.
        data: the content.
        suffix: appended to the name, for example ".png"; kept when long names are shortened.
    """
    path = safe_path(name, suffix)
    write_atomic(folder / path, data)
    if (saved := _saved.get()) is not None:
        saved.append(folder / path)
    return Artifact(path, hashlib.sha256(data).hexdigest(), len(data))


@contextmanager
def removing_saved_on_error() -> Iterator[None]:
    """If the block raises, what was written with `save` in it, in this thread, is removed."""
    saved: list[Path] = []
    token = _saved.set(saved)
    try:
        yield
    except BaseException:
        for path in saved:
            path.unlink(missing_ok=True)
        raise
    finally:
        _saved.reset(token)
