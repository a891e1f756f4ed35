"""A working plugin of each role, and its test, as `maskmill plugins new` writes them.

`__name__` in a text stands for the plugin's name, `__Class__` for its class.
"""

from __future__ import annotations

SOURCE = '''"""__name__: a box in the middle of every image."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import Box, Image, Prompt, PromptSource, hookimpl
from pydantic import Field


class __Class__(PromptSource):
    """One box in the middle of every image."""

    part: float = Field(0.5, gt=0, le=1, description="sides, as a part of the image's")
    label: str | None = Field(None, description="class name of the masks")

    def kinds(self) -> frozenset[str]:
        """What a backend must take for these prompts."""
        return frozenset({"box"})

    def prompts(self, image: Image) -> list[Prompt] | None:
        """What to segment; None: ask the next source; []: nothing is there."""
        x, y = image.width / 2, image.height / 2
        dx, dy = x * self.part, y * self.part
        return [Prompt(box=Box(x - dx, y - dy, x + dx, y + dy), label=self.label)]


@hookimpl
def register_prompt_sources(
    register: Callable[[str, type[PromptSource]], None],
) -> None:
    """Offer `__name__`."""
    register("__name__", __Class__)
'''

SOURCE_TEST = """
def test_the_box_lies_in_the_middle() -> None:
    image = testing.image(height=40, width=80)
    source = testing.load(PLUGIN, PromptSource, NAME, part=0.5, label="cat")
    assert source.prompts(image) == [Prompt(box=Box(20, 10, 60, 30), label="cat")]
"""

BACKEND = '''"""__name__: ellipses inside boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from maskmill import Backend, Image, Mask, Prompt, hookimpl
from pydantic import Field


class __Class__(Backend):
    """Fills the ellipse inside each box."""

    size: float = Field(1.0, gt=0, le=1, description="parts of the box's sides")

    def accepts(self) -> frozenset[str]:
        """The kinds of prompt it takes: of "points", "box", "text", "everything"."""
        return frozenset({"box"})

    def model_id(self) -> str:
        """What computes; another text makes all results anew."""
        return "__name__-1"

    def masks(
        self, image: Image, prompts: Sequence[Prompt], embedding: Any = None
    ) -> list[Mask]:
        """One mask a prompt, in their order, of the image's size."""
        return [self._mask(image, prompt) for prompt in prompts]

    def _mask(self, image: Image, prompt: Prompt) -> Mask:
        assert prompt.box is not None, "no other kind of prompt is accepted"
        box = prompt.box
        y, x = np.mgrid[: image.height, : image.width] + 0.5
        across = (2 * x - box.x1 - box.x2) / (box.x2 - box.x1)
        down = (2 * y - box.y1 - box.y2) / (box.y2 - box.y1)
        pixels = across**2 + down**2 <= self.size**2
        return Mask.from_array(pixels, score=1.0, prompt=prompt)


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `__name__`."""
    register("__name__", __Class__)
'''

BACKEND_TEST = """
def test_the_ellipse_fills_its_box() -> None:
    backend = testing.load(PLUGIN, Backend, NAME)
    (mask,) = backend.masks(testing.image(), [Prompt(box=Box(10, 10, 30, 20))])
    assert mask.box == Box(10, 10, 30, 20)
    assert 100 < mask.area < 200
"""

FILTER = '''"""__name__: drops small masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from maskmill import Filter, Image, Mask, hookimpl
from pydantic import Field


class __Class__(Filter):
    """Drops masks that cover too little of their image."""

    part: float = Field(0.01, ge=0, le=1, description="part of the image to cover")

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks, those too small marked with the reason."""
        return [self._judged(image, mask) for mask in masks]

    def _judged(self, image: Image, mask: Mask) -> Mask:
        part = mask.area / (image.height * image.width)
        if part < self.part:
            return mask.drop(f"covers {part:.4f} of the image")
        return mask


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `__name__`."""
    register("__name__", __Class__)
'''

FILTER_TEST = """
def test_small_masks_are_dropped() -> None:
    image = testing.image(height=48, width=64)
    small = testing.load(PLUGIN, Filter, NAME, part=0.1)
    judged = small.apply(image, testing.masks(image))
    assert [mask.index for mask in judged if mask.reason is None] == [0, 1, 3]
    assert judged[2].reason == "covers 0.0104 of the image"
"""

WRITER = '''"""__name__: a table of the masks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from maskmill import Artifact, Image, ImageResult, Writer, hookimpl, save
from pydantic import Field


class __Class__(Writer):
    """Labels and areas of masks as JSON, a file an image; at the end all labels."""

    indent: int = Field(2, ge=0, description="spaces of each level of the files")

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """The file of one image; `result.kept` are its masks."""
        rows = [{"label": mask.label, "area": mask.area} for mask in result.kept]
        return [save(folder, result.key, self._json(rows), ".json")]

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """The file about the whole dataset; `results` come one at a time."""
        counts = Counter(mask.label or "" for result in results for mask in result.kept)
        return [save(folder, "labels.json", self._json(dict(sorted(counts.items()))))]

    def _json(self, data: object) -> bytes:
        return json.dumps(data, indent=self.indent, ensure_ascii=False).encode()


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Offer `__name__`."""
    register("__name__", __Class__)
'''

WRITER_TEST = """
def test_each_image_has_a_file(tmp_path: Path) -> None:
    image = testing.image(key="cat.jpg")
    result = testing.result(image, testing.masks(image))
    writer = testing.load(PLUGIN, Writer, NAME)
    (made,) = writer.write(image, result, tmp_path)
    assert made.path == "cat.jpg.json"
    rows = json.loads((tmp_path / made.path).read_text(encoding="utf-8"))
    assert [row["label"] for row in rows] == ["thing", "猫", None, None]


def test_labels_are_counted(tmp_path: Path) -> None:
    image = testing.image()
    results = [testing.result(image, testing.masks(image))] * 2
    writer = testing.load(PLUGIN, Writer, NAME)
    (made,) = writer.finish(iter(results), tmp_path)
    counts = json.loads((tmp_path / made.path).read_text(encoding="utf-8"))
    assert counts == {"": 4, "thing": 2, "猫": 2}
"""

OBSERVER = '''"""__name__: tells which images came out empty or failed.

Observers need no line in the pipeline file: they see every run that loads them.
"""

from __future__ import annotations

import sys

from maskmill import ImageResult, RunInfo, RunReport, hookimpl

_seen: list[str] = []


@hookimpl
def run_started(run: RunInfo) -> None:
    """Before the first image."""
    _seen.clear()


@hookimpl
def image_finished(run: RunInfo, result: ImageResult) -> None:
    """After each image, in the order they finish."""
    if result.status != "done":
        _seen.append(f"{result.key}: {result.status}")


@hookimpl
def run_finished(run: RunInfo, report: RunReport) -> None:
    """After the last one."""
    print(f"{run.name}: {report.ran} images", *_seen, sep="\\n  ", file=sys.stderr)
'''

OBSERVER_TEST = '''
PIPELINE = """
dataset: photos
prompts: [fake-source]
backend: fake-backend
filters: [{use: score, min_area: 9999}]
output: out
run: {engine: inline}
"""


def test_it_tells_which_images_are_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    testing.write_picture(tmp_path / "photos" / "cat.png")
    (tmp_path / "fakes.py").write_text(testing.DROP_IN, encoding="utf-8")
    (tmp_path / "p.yaml").write_text(PIPELINE, encoding="utf-8")
    plugins = [PLUGIN, tmp_path / "fakes.py"]
    Pipeline.load(tmp_path / "p.yaml", plugins=plugins).run(quiet=True)
    assert "p: 1 images\\n  cat.png: empty" in capsys.readouterr().err
'''

#: role as one types it -> (the plugin, its own tests, what the test file imports, the line for the pipeline file)
TEMPLATES: dict[str, tuple[str, str, str, str]] = {
    "source": (SOURCE, SOURCE_TEST, "Box, Prompt, PromptSource, testing", "prompts: [{use: __name__}]"),
    "backend": (BACKEND, BACKEND_TEST, "Backend, Box, Prompt, testing", "backend: {use: __name__}"),
    "filter": (FILTER, FILTER_TEST, "Filter, testing", "filters: [{use: __name__}]"),
    "writer": (WRITER, WRITER_TEST, "Writer, testing", "writers: [{use: __name__}]"),
    "observer": (OBSERVER, OBSERVER_TEST, "Pipeline, testing", ""),
}
_TEST = '''"""Tests of __name__.py."""

from __future__ import annotations

__imports__

NAME = "__name__"
PLUGIN = Path(__file__).with_name(f"{NAME}.py")


def test_it_keeps_the_contract() -> None:
    assert testing.problems(PLUGIN) == []

__tests__'''


def plugin_text(role: str, name: str) -> str:
    """The drop-in file of a new plugin."""
    return _filled(TEMPLATES[role][0], name)


def test_text(role: str, name: str) -> str:
    """The test file of a new plugin."""
    _, tests, public, _ = TEMPLATES[role]
    imports = ["import json"] if "json." in tests else []
    imports += ["from pathlib import Path", ""]
    imports += ["import pytest"] if "pytest." in tests else []
    imports.append(f"from maskmill import {public}")
    return _filled(_TEST.replace("__imports__", "\n".join(imports)).replace("__tests__", tests), name)


def yaml_line(role: str, name: str) -> str:
    """What names the new plugin in a pipeline file, "" if nothing has to."""
    return _filled(TEMPLATES[role][3], name)


def class_name(name: str) -> str:
    """`my_filter` -> `MyFilter`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _filled(text: str, name: str) -> str:
    camel = class_name(name)
    return text.replace("__name__", name).replace("__Class__", camel)
