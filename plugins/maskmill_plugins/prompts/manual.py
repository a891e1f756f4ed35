"""manual: boxes and points from the pipeline file, for all images or image by image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from maskmill import (
    Box,
    DatasetError,
    Image,
    ImageRef,
    PipelineError,
    Point,
    Problem,
    Prompt,
    PromptError,
    PromptSource,
    Survey,
    hookimpl,
)
from maskmill.images import KeySample, choose_key, fold_key, is_pattern, matches_pattern
from maskmill.wording import count_noun
from maskmill_plugins._shared.prompt_files.matching import Examples


def _check_box(corners: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    try:
        return Box(*corners).xyxy
    except PromptError as error:
        raise ValueError(str(error)) from None


def _check_point(numbers: list[float]) -> list[float]:
    try:
        Point(*numbers)  # type: ignore[arg-type]  # the third is a label, and is checked
    except PromptError as error:
        raise ValueError(str(error)) from None
    return numbers


Corners = Annotated[tuple[float, float, float, float], AfterValidator(_check_box)]
PointNumbers = Annotated[list[float], Field(min_length=2, max_length=3), AfterValidator(_check_point)]


class _ObjectOptions(BaseModel):
    """One object: a box, points, or both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    box: Corners | None = Field(None, description="[x1, y1, x2, y2] around one object")
    points: list[PointNumbers] = Field(
        [], description="[x, y] or [x, y, 1] on one object, [x, y, 0] off it; with `box` if both are given"
    )
    labels: list[Literal[0, 1]] = Field([], description="one for each of `points`: 1 on the object, 0 off it")
    label: str | None = Field(None, description="class name")

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.labels and len(self.labels) != len(self.points):
            points = count_noun(len(self.points), "point")
            raise ValueError(f"labels: expected one for each point, of {points}, got {len(self.labels)}")
        if self.labels and any(len(point) == 3 for point in self.points):
            raise ValueError("labels: the points already contain labels; give them once")
        return self

    def _prompt(self, label: str | None) -> Prompt:
        labels: Sequence[int] = self.labels or [int(point[2]) if len(point) == 3 else 1 for point in self.points]
        points = tuple(Point(point[0], point[1], mark) for point, mark in zip(self.points, labels, strict=True))
        return Prompt(points=points, box=self.box and Box(*self.box), label=self.label or label)


class ManualObject(_ObjectOptions):
    """One of the `objects` of an image."""

    @model_validator(mode="after")
    def _require_box_or_points(self) -> Self:
        if self.box is None and not self.points:
            raise ValueError("an object needs a `box` or `points`")
        return self


class ImageObjects(_ObjectOptions):
    """The objects of an image: one object (`box`, `points`), several `boxes`, or a list of `objects`."""

    boxes: list[Corners] = Field([], description="[x1, y1, x2, y2] around one object each")
    objects: list[ManualObject] = Field([], description="objects, each with `box`, `points`, `labels` and `label`")

    @model_validator(mode="after")
    def _require_one_box(self) -> Self:
        if self.points and self.boxes:
            raise ValueError("points: they belong to one `box`; for several boxes use `objects`, each with its points")
        return self

    def _prompts(self, label: str | None) -> list[Prompt]:
        label = self.label or label
        single = [self._prompt(label)] if self.box or self.points else []
        boxes = [Prompt(box=Box(*box), label=label) for box in self.boxes]
        return [*single, *boxes, *(item._prompt(label) for item in self.objects)]


class Manual(ImageObjects, PromptSource):
    """Prompts from the pipeline file.

    ImageObjects next to `use: manual` apply to every image; an entry of `images` replaces them for the
    images it names. An entry without objects means that the image is empty.
    """

    units: Literal["pixels", "relative"] = Field(
        "pixels", description="of all coordinates; relative: 0..1 of width and height"
    )
    images: dict[str, ImageObjects] = Field(
        {}, description="by image key, or pattern of keys (`*` also matches `/`); the first match counts"
    )

    _literal: frozenset[str] = PrivateAttr(frozenset())
    _digests: dict[int, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_relative(self) -> Self:
        if self.units == "relative":
            try:
                for prompt in self._all():
                    prompt.to_pixels(1, 1)
            except PromptError as error:
                raise ValueError(str(error)) from None
        return self

    def check(self) -> list[Problem]:
        """Something must be given; warn if all coordinates are in 0..1, as relative ones are."""
        if not self._for_every_image and not self.images:
            return [Problem("has nothing to segment; set `boxes`, `box`, `points`, `objects` or `images`")]
        prompts = list(self._all())
        if self.units == "pixels" and prompts and all(_is_within_unit(prompt) for prompt in prompts):
            return [
                Problem(
                    "all coordinates are between 0 and 1",
                    hint="set `units: relative` (maskmill segment: --relative) if they are fractions of the image",
                    warning=True,
                )
            ]
        return []

    def survey(self, refs: Iterable[ImageRef]) -> Survey | None:
        """Find the entries of `images` that fit no image, and those with brackets that are names of images.

        Raises:
            PipelineError: several entries are the name of one image.
        """
        if not self.images:
            return None
        literal: set[str] = set()
        waiting = dict.fromkeys(self.images)
        sample = KeySample()
        for ref in refs:
            sample.add(ref.key)
            if (name := self._find_name(ref.key)) is not None:
                waiting.pop(name, None)
                literal.update([name] if is_pattern(name) else [])
            for pattern in [one for one in waiting if is_pattern(one) and matches_pattern(ref.key, one)]:
                del waiting[pattern]
        self._literal = frozenset(literal)
        unused = Examples()
        for name in waiting:
            unused.add(name)
        fit = "fits" if unused.count == 1 else "fit"
        text = f"manual: {unused.count:,} of the {len(self.images):,} entries of `images` {fit} no image of the dataset"
        warnings = [f"{text}: {unused.describe(sample.suggest)}"]
        about = {"entries": len(self.images), "entries that fit no image": unused.to_json()}
        return Survey(tuple(warnings if unused.count else ()), about, sorted(literal))

    def recall(self, memory: Any) -> None:
        """Take over which entries with brackets are names of images."""
        self._literal = frozenset(memory)

    def prompts(self, image: Image) -> list[Prompt] | None:
        """The prompts for this image, in pixels."""
        entry = self._find_entry(image.ref.key)
        found = None if entry is None else self._prompts_of(entry)
        if found is None or self.units == "pixels":
            return found
        return [prompt.to_pixels(image.height, image.width) for prompt in found]

    def fingerprint(self, ref: ImageRef) -> str:
        """A digest of the prompts for this image."""
        if not self.images:
            return self._shared_digest
        entry = self._find_entry(ref.key)
        if id(entry) not in self._digests:  # few entries, many images
            self._digests[id(entry)] = self._digest(entry)
        return self._digests[id(entry)]

    @cached_property
    def _shared_digest(self) -> str:
        return self._digest(self._find_entry(""))

    def _digest(self, entry: ImageObjects | None) -> str:
        written = None if entry is None else [self.units, [p.to_json() for p in self._prompts_of(entry)]]
        return hashlib.sha256(json.dumps([self.version, written], sort_keys=True).encode()).hexdigest()[:16]

    def _find_entry(self, key: str) -> ImageObjects | None:
        """The objects for this image: an entry of `images`, those next to `use: manual`, or None."""
        if (name := self._find_name(key)) is not None:
            return self.images[name]
        for pattern, objects in self.images.items():
            if is_pattern(pattern) and pattern not in self._literal and matches_pattern(key, pattern):
                return objects
        return self if self._for_every_image else None

    def _find_name(self, key: str) -> str | None:
        """The entry of `images` that is the name of this image.

        Raises:
            PipelineError: several entries are.
        """
        if key in self.images:
            return key
        try:
            return choose_key(key, self._names.get(fold_key(key), ()))
        except DatasetError:
            names = ", ".join(map(ascii, self._names[fold_key(key)]))
            text = f"manual: several entries of `images` are the name of the image {key!r}: {names}"
            raise PipelineError(Problem(text, hint="keep one of them")) from None

    @cached_property
    def _names(self) -> Mapping[str, list[str]]:
        """The entries by what the names of one image have in common."""
        names: dict[str, list[str]] = {}
        for name in self.images:
            names.setdefault(fold_key(name), []).append(name)
        return names

    def _prompts_of(self, entry: ImageObjects) -> list[Prompt]:
        return entry._prompts(None if entry is self else self.label)

    @property
    def _for_every_image(self) -> bool:
        return bool(self.model_fields_set & {"box", "boxes", "points", "objects"})

    def _all(self) -> Sequence[Prompt]:
        return [prompt for objects in (self, *self.images.values()) for prompt in objects._prompts(None)]


def _is_within_unit(prompt: Prompt) -> bool:
    try:
        prompt.to_pixels(1, 1)
    except PromptError:
        return False
    return True


@hookimpl
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Register `manual`."""
    register("manual", Manual)
