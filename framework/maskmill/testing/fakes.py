"""Fakes, tiny images and helpers for tests of plugins. The fakes do real, checkable work without a model."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import PIL.Image
from pydantic import Field

from ..geometry import Box, Point
from ..images import Image, ImageRef
from ..masks import Mask
from ..plugins.hooks import hookimpl
from ..plugins.registry import ROLES, Registry
from ..plugins.roles import Backend, Filter, PromptSource, Writer
from ..plugins.stage import Stage
from ..prompts import Grid, Prompt
from ..results import Artifact, ImageResult, RunInfo, RunReport, save

S = TypeVar("S", bound=Stage)
Kind = Literal["points", "box", "text", "everything"]

#: A drop-in file that registers the fakes, as `fake-source`, `fake-backend`, `fake-filter` and `fake-writer`.
DROP_IN = (
    "from maskmill.testing import register_backends, register_filters, register_prompt_sources, register_writers\n"
)

#: Names of the images of `write_pictures`, with (height, width) and the mode they are stored in.
PICTURES: Mapping[str, tuple[int, int, str]] = {
    "wide.png": (48, 64, "RGB"),
    "tall.jpg": (60, 40, "RGB"),
    "tall.png": (60, 40, "RGB"),
    "gray.png": (32, 32, "L"),
    "dot.png": (1, 1, "RGB"),
    "照片/猫 图.png": (24, 36, "RGBA"),
}

#: Radius in pixels of the disc that `FillPrompt` draws around a point.
RADIUS = 3.0


def pixels(height: int = 48, width: int = 64, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A small picture: a bright rectangle on dark noise, uint8 (H, W, 3) RGB, the same for the same seed."""
    random = np.random.default_rng(seed)
    picture = random.integers(0, 60, (height, width, 3), dtype=np.uint8)
    picture[height // 4 : height - height // 4, width // 4 : width - width // 4] += np.uint8(150)
    return picture


def image(height: int = 48, width: int = 64, seed: int = 0, key: str = "test.png") -> Image:
    """`pixels` as an `Image`."""
    return Image.from_array(pixels(height, width, seed), key)


def write_picture(path: Path, height: int = 48, width: int = 64, seed: int = 0) -> ImageRef:
    """Write `pixels` to a file in the format of its suffix; returns its reference, with the file name as key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    kind = PIL.Image.registered_extensions()[path.suffix.lower()]
    PIL.Image.fromarray(pixels(height, width, seed)).save(buffer, kind)
    path.write_bytes(buffer.getvalue())
    return ImageRef(str(path), path.name)


def write_pictures(folder: Path) -> list[ImageRef]:
    """Write the images of `PICTURES` below a folder: wide, tall, gray, 1×1, transparent with a Chinese name."""
    refs = []
    for seed, (key, (height, width, mode)) in enumerate(PICTURES.items()):
        path = folder / key
        write_picture(path, height, width, seed)
        if mode != "RGB":
            buffer = io.BytesIO()
            PIL.Image.fromarray(pixels(height, width, seed)).convert(mode).save(buffer, "PNG")
            path.write_bytes(buffer.getvalue())
        refs.append(ImageRef(str(path), key))
    return refs


def prompts(image: Image, kind: Kind = "box") -> list[Prompt]:
    """Two prompts of a kind inside the image, labelled "thing" and "猫"; for "everything" only one."""
    height, width = image.size
    if kind == "everything":
        return [Prompt(grid=Grid(points_per_side=4), label="thing")]
    if kind == "text":
        return [Prompt(text="a thing", label="thing"), Prompt(text="猫", label="猫")]
    if kind == "points":
        middle, corner = Point(width / 2, height / 2), Point(width * 0.9, height * 0.9, 0)
        return [Prompt(points=(middle,), label="thing"), Prompt(points=(middle, corner), label="猫")]
    left = Box(0, 0, width * 0.6, height * 0.75)
    return [Prompt(box=left, label="thing"), Prompt(box=Box(width * 0.4, height * 0.25, width, height), label="猫")]


def masks(image: Image) -> list[Mask]:
    """Four numbered masks, as a filter gets them: two that overlap, a tiny one without label, one without score."""
    boxes = [*prompts(image), *prompts(image, "points")[:1], Prompt(box=Box(0, 0, image.width, image.height))]
    scores = (0.9, 0.4, 0.7, None)
    made = FillAnything().masks(image, [replace(boxes[2], label=None) if n == 2 else boxes[n] for n in range(4)])
    return [replace(mask, index=index, score=scores[index]) for index, mask in enumerate(made)]


def result(image: Image, masks: Sequence[Mask]) -> ImageResult:
    """A result as a writer gets it: `done`, or `empty` if no mask is kept."""
    answered = dict.fromkeys(mask.prompt for mask in masks if mask.prompt is not None)
    return ImageResult.done_or_empty(image.ref.key, image.size, image.sha256, tuple(answered), masks)


def load(file: Path, base: type[S], name: str, /, **options: Any) -> S:
    """Load a plugin from a drop-in file; it is not yet open.

    Args:
        file: the drop-in file.
        base: what it is: `PromptSource`, `Backend`, `Filter` or `Writer`.
        name: what it registers.
        options: as in YAML.

    Raises:
        PluginError: the file cannot be loaded, or registers no such plugin.
        pydantic.ValidationError: an option is wrong.
    """
    role = next(role for role, (of_role, _) in ROLES.items() if of_role is base)
    stage = Registry.load([file]).build(role, {**options, "use": name})
    assert isinstance(stage, base), "the registry accepts nothing else for this role"
    return stage


class FakeSource(PromptSource):
    """Two prompts per image, of one kind."""

    kind: Kind = Field("box", description="kind of the prompts")

    def kinds(self) -> frozenset[str]:
        """The kind from the option."""
        return frozenset({self.kind})

    def prompts(self, image: Image) -> list[Prompt]:
        """The prompts of the function `prompts`."""
        return prompts(image, self.kind)


class FillPrompt(Backend):
    """Fills the box of a prompt, or a disc of 3 px around its foreground points; score 1."""

    def accepts(self) -> frozenset[str]:
        """Points and boxes."""
        return frozenset({"points", "box"})

    def model_id(self) -> str:
        """A constant."""
        return "fill-1"

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """One mask per prompt, of the pixels whose centres lie inside."""
        return [Mask.from_array(_fill(prompt, image), score=1.0, stability=1.0, prompt=prompt) for prompt in prompts]


class FillAnything(FillPrompt):
    """Like `FillPrompt`; a text or everything mode gives one mask of the whole image."""

    def accepts(self) -> frozenset[str]:
        """All kinds."""
        return frozenset({"points", "box", "text", "everything"})

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """One mask per prompt."""
        whole = Prompt(box=Box(0, 0, image.width, image.height))
        shapes = [prompt if prompt.points or prompt.box else whole for prompt in prompts]
        masks = super().masks(image, shapes)
        return [replace(mask, prompt=prompt) for mask, prompt in zip(masks, prompts, strict=True)]


class FakeFilter(Filter):
    """Drops every second mask."""

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """All masks, every second one marked as dropped."""
        return [mask.drop("every second one") if number % 2 else mask for number, mask in enumerate(masks)]


class FakeWriter(Writer):
    """Writes the areas of an image's masks into a text file and, at the end, a list of the images."""

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write `<key>.txt`."""
        lines = [f"{mask.label} {mask.area}\n" for mask in result.kept]
        return [save(folder, result.key, "".join(lines).encode(), ".txt")]

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write `images.txt`."""
        return [save(folder, "images.txt", "".join(f"{result.key}\n" for result in results).encode())]


class FakeObserver:
    """Records the calls of an observer; register it with `registry.add(FakeObserver(), "test")`.

    Attributes:
        seen: (hook, key of the image or outcome of the run), in order.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    @hookimpl
    def run_started(self, run: RunInfo) -> None:
        """Record the start."""
        self.seen.append(("run_started", run.name))

    @hookimpl
    def image_finished(self, run: RunInfo, result: ImageResult) -> None:
        """Record the image."""
        self.seen.append(("image_finished", result.key))

    @hookimpl
    def run_finished(self, run: RunInfo, report: RunReport) -> None:
        """Record the outcome."""
        self.seen.append(("run_finished", report.outcome))


@hookimpl
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Offer `fake-source`."""
    register("fake-source", FakeSource)


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `fake-backend`."""
    register("fake-backend", FillAnything)


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `fake-filter`."""
    register("fake-filter", FakeFilter)


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Offer `fake-writer`."""
    register("fake-writer", FakeWriter)


def _fill(prompt: Prompt, image: Image) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[: image.height, : image.width] + 0.5
    if prompt.box is not None:
        box = prompt.box
        return np.asarray((x > box.x1) & (x < box.x2) & (y > box.y1) & (y < box.y2), dtype=np.bool_)
    inside = np.zeros(image.size, dtype=np.bool_)
    for point in prompt.points:
        if point.label:
            inside |= (x - point.x) ** 2 + (y - point.y) ** 2 <= RADIUS**2
    return inside
