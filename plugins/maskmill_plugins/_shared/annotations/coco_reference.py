"""The ids of a COCO file given on: an output that says the same of the same things, with new masks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from maskmill import ImageResult, Mask
from maskmill_plugins._shared.prompt_files.matching import Matcher

from .coco import KNOWN
from .index import AnnotationIndex
from .model import CROWD, AnnotatedImage, Annotation


class CocoReference:
    """A COCO file whose ids, categories, info, licences and further fields an output takes over.

    What is new gets ids after the largest of the file's. Images are found as the prompt source
    `file` finds them, annotations by the `ref` of a mask's prompt.

    Args:
        path: the COCO file.

    Raises:
        PipelineError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._index = AnnotationIndex.of(path, "coco")
        self._matcher = Matcher(self._index.names())
        self._taken: set[str] = set()
        self._image = self._index.largest("images")
        self._annotation = self._index.largest("elements")

    @property
    def info(self) -> Any:
        """As in the file, {} if it has none."""
        return self._index.head("info") or {}

    @property
    def licenses(self) -> Any:
        """As in the file, [] if it has none."""
        return self._index.head("licenses") or []

    def categories(self, labels: Iterable[str]) -> list[dict[str, Any]]:
        """The file's categories as they are, then one for each label that it does not have.

        Args:
            labels: in the order in which they are to be numbered.
        """
        found = self._index.categories()
        names = {category["name"] for category in found}
        number = self._index.largest("categories")
        for label in labels:
            if label not in names:
                number += 1
                names.add(label)
                found.append({"id": number, "name": label, "supercategory": ""})
        return found

    def image(self, result: ImageResult) -> ReferenceImage:
        """What the file says of an image; an image that it does not know gets a new id."""
        name = self._matcher.find(result.key)
        picture = None if name is None else self._index.picture(name)
        if picture is None or picture.id in self._taken:
            self._image += 1
            return ReferenceImage(self, None, {"id": self._image, "file_name": result.key}, [])
        self._taken.add(picture.id)
        return ReferenceImage(self, picture, picture.more or {}, self._index.elements_of(picture))

    def new_id(self) -> int:
        """An id for an annotation that the file does not have."""
        self._annotation += 1
        return self._annotation


class ReferenceImage:
    """One image of the output; `annotation` is called for each of its masks, then `crowds`.

    Attributes:
        entry: its fields, as in the file.
    """

    def __init__(
        self, like: CocoReference, picture: AnnotatedImage | None, entry: Mapping[str, Any], elements: list[Annotation]
    ) -> None:
        self._like = like
        self.entry = dict(entry)
        self._elements = {element.ref: element for element in elements if not element.fault}

    def annotation(self, mask: Mask) -> dict[str, Any]:
        """The fields of a mask's annotation that are the file's: `id`, `image_id`, `iscrowd`, perhaps `category_id`."""
        ref = mask.prompt.ref if mask.prompt else None
        element = self._elements.pop(ref, None) if ref else None
        if element is None:
            return {"id": self._like.new_id(), "image_id": self.entry["id"], "iscrowd": 0}
        more = dict(element.more or {})
        given = {key: value for key, value in more.items() if key not in KNOWN}
        given["id"] = more["id"] if "id" in more else _parse_id(element.ref)
        if given["id"] is None:
            given["id"] = self._like.new_id()
        given |= {"image_id": self.entry["id"], "iscrowd": int(element.skipped == CROWD)}
        if element.category and mask.label == element.label:
            given["category_id"] = json.loads(element.category)
        return given

    def crowds(self) -> Iterator[dict[str, Any]]:
        """The crowd regions of the file that have no mask, as they are there."""
        for element in self._elements.values():
            if element.skipped == CROWD and element.more:
                yield dict(element.more)


def _parse_id(ref: str) -> int | None:
    """The id that a `ref` is; None for an annotation that has none."""
    return int(ref) if ref.removeprefix("-").isdecimal() else None
