"""The bench on which a plugin is checked: new stages, generated images, calls made as a run makes them."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..chain.plugin_call import StepError, Trace
from ..images import Image
from ..plugins.optional import prepare_stage
from ..plugins.registry import RegisteredPlugin
from ..plugins.stage import Stage
from ..results import Failure

T = TypeVar("T")

#: Errors by which a plugin fails one image on purpose.
REFUSALS = ("ImageError", "ImageReadError", "PromptError")
_LOCAL = re.compile(r"127\.|::1$|localhost$|0\.0\.0\.0$")


class Broken(Exception):  # noqa: N818 - a verdict, not an error of this program
    """A plugin breaks a rule of its role.

    Attributes:
        hint: what to do, or "".
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Refusal(str):
    """Why a plugin failed an image on purpose; equal to another of the same text."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One rule that plugins have to keep.

    Attributes:
        role: whose rule it is; "" for all roles.
        rule: as a statement about the plugin.
        function: raises `Broken` if the rule is broken.
        is_essential: without it nothing further can be checked.
    """

    role: str
    rule: str
    function: Callable[[Bench], None]
    is_essential: bool = False


class Bench:
    """A plugin with its options, and what to check it on.

    Attributes:
        entry: the plugin.
        options: as in YAML.
        images: the images of `testing.write_pictures`.
        folder: for what is written; does not exist yet.
        connections: addresses on other machines that it connected to.
        printed: what it wrote to standard output.
    """

    def __init__(
        self, entry: RegisteredPlugin, options: Mapping[str, Any], images: Sequence[Image], folder: Path
    ) -> None:
        self.entry = entry
        self.options = dict(options)
        self.images = images
        self.folder = folder
        self.connections: list[str] = []
        self.printed = io.StringIO()

    def build_stage(self) -> Any:
        """The stage, new, not open; paths are relative to the working directory."""
        return self.entry.cls.from_options(self.options, Path.cwd())

    @contextmanager
    def open_stage(self) -> Iterator[Any]:
        """The stage, new and open."""
        stage: Stage = self.build_stage()
        prepare_stage(stage, lambda line: None)
        stage.open()
        try:
            yield stage
        finally:
            stage.close()

    def call(self, image: Image, function: Callable[..., T], *given: Any) -> T | Refusal:
        """Call into the plugin as a run does: seeded from the image, notes checked.

        Raises:
            Broken: it raised an error that does not mean "this image fails".
        """
        try:
            return Trace().step("check", self.entry.name, lambda: function(*given), image.sha256)
        except StepError as error:
            if error.failure.type in REFUSALS:
                return Refusal(error.failure.message)
            raise self._describe_error(image, function, error.failure) from error

    def call_for_each(self, call: Callable[[Any, Image], T]) -> list[T]:
        """Call a new, open stage for every image.

        Raises:
            Broken: it refuses all of them.
        """
        with self.open_stage() as stage:
            answers = [call(stage, image) for image in self.images]
        refusals = [answer for answer in answers if isinstance(answer, Refusal)]
        if len(refusals) == len(answers):
            raise Broken(f"it fails every image of the check: {refusals[0]}")
        return answers

    def check_repeatable(self, method: str, call: Callable[[Any, Image], object]) -> None:
        """Call twice for every image, the second time on another stage in another order.

        Raises:
            Broken: the answers differ.
        """
        first = self.call_for_each(call)
        with self.open_stage() as stage:
            second = [call(stage, image) for image in reversed(self.images)]
            third = [call(stage, image) for image in self.images]
        for image, one, two, three in zip(self.images, first, reversed(second), third, strict=True):
            if not one == two == three:
                hint = "results may depend on the image and the options only; seed what is random, keep no state"
                raise Broken(
                    f"{method} returns something else for {describe_image(image)} when it is called again", hint
                )

    def _describe_error(self, image: Image, function: Callable[..., Any], failure: Failure) -> Broken:
        places = re.findall(re.escape(f'"{self.entry.origin}"') + r", line (\d+)", failure.traceback)
        where = f", in line {places[-1]}" if places else ""
        hint = "to fail one image on purpose raise maskmill.ImageError"
        if "read-only" in failure.message:
            hint = "all stages share these pixels; work on a copy: image.pixels.copy()"
        if failure.type == "FileNotFoundError" and self.entry.role == "writer":
            hint = "write with maskmill.save(folder, name, data), which makes the folders"
        return Broken(
            f"{_name(function)} of {describe_image(image)} raised {failure.type}: {failure.message}{where}", hint
        )


def describe_image(image: Image) -> str:
    """An image as messages name it."""
    return f"{image.ref.key} ({image.width}×{image.height})"


def is_list_of(found: Any, kind: type) -> bool:
    """Whether it is a list, and everything in it of this kind."""
    return isinstance(found, list) and all(isinstance(item, kind) for item in found)


def _name(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__name__', 'it')}()"


_watching: list[list[str]] = []


def _audit(event: str, given: tuple[Any, ...]) -> None:
    if _watching and event == "socket.connect" and isinstance(given[1], tuple):
        host, port = given[1][:2]
        if not _LOCAL.match(str(host)):
            _watching[-1].append(f"{host}:{port}")


@contextmanager
def watch_network() -> Iterator[list[str]]:
    """Collect the addresses on other machines that this process connects to inside the context."""
    if not getattr(_audit, "installed", False):
        sys.addaudithook(_audit)  # it cannot be removed; outside this context it does nothing
        _audit.installed = True  # type: ignore[attr-defined]
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()
