"""A COCO file whose ids and fields an output takes over, so that only the masks are new."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from maskmill_plugins._shared.prompt_files.matching import Matcher

from .coco import KNOWN
from .index import AnnotationIndex
from .model import CROWD, AnnotatedImage, Annotation


class CocoReference:
    """A COCO file whose ids, categories, info, licences and other fields an output takes over.

    New entries get ids above the largest in the file. Images are matched as the prompt source `file`
    matches them, annotations by the `ref` of a mask's prompt.

    Args:
        path: the COCO file.

    Raises:
        PipelineError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._index = AnnotationIndex.of(path, "coco")
        self._matcher = Matcher(self._index.names())
        self._taken: set[str] = set()
        self._image = self._index.largest_id("images")
        self._annotation = self._index.largest_id("annotations")

    @property
    def info(self) -> Any:
        """The `info` of the file, {} if it has none."""
        return self._index.file_property("info") or {}

    @property
    def licenses(self) -> Any:
        """The `licenses` of the file, [] if it has none."""
        return self._index.file_property("licenses") or []

    def categories(self, labels: Iterable[str]) -> list[dict[str, Any]]:
        """The file's categories, followed by a new one for each label that it lacks.

        Args:
            labels: in the order in which new ones are numbered.
        """
        found = self._index.categories()
        names = {category["name"] for category in found}
        number = self._index.largest_id("categories")
        for label in labels:
            if label not in names:
                number += 1
                names.add(label)
                found.append({"id": number, "name": label, "supercategory": ""})
        return found

    def image(self, key: str) -> ReferenceImage:
        """The file's entry for an image; an image that is not in the file gets a new id."""
        name = self._matcher.find(key)
        known = None if name is None else self._index.image(name)
        if known is None or known.id in self._taken:
            self._image += 1
            return ReferenceImage(self, None, {"id": self._image, "file_name": key}, [])
        self._taken.add(known.id)
        return ReferenceImage(self, known, known.more or {}, self._index.annotations_of(known))

    def new_id(self) -> int:
        """A new id for an annotation that is not in the file."""
        self._annotation += 1
        return self._annotation


class ReferenceImage:
    """One image of the output: call `annotation` for each of its masks, then `crowds`.

    Attributes:
        entry: the fields of the image.
    """

    def __init__(
        self,
        reference: CocoReference,
        known: AnnotatedImage | None,
        entry: Mapping[str, Any],
        annotations: list[Annotation],
    ) -> None:
        self._reference = reference
        self.entry = dict(entry)
        self._annotations = {annotation.ref: annotation for annotation in annotations if not annotation.error}

    def annotation(self, label: str | None, ref: str | None) -> dict[str, Any]:
        """The fields that a mask's annotation takes from the file, with `id`, `image_id` and `iscrowd`.

        Args:
            label: of the mask.
            ref: of its prompt.
        """
        annotation = self._annotations.pop(ref, None) if ref else None
        if annotation is None:
            return {"id": self._reference.new_id(), "image_id": self.entry["id"], "iscrowd": 0}
        more = dict(annotation.more or {})
        given = {key: value for key, value in more.items() if key not in KNOWN}
        given["id"] = more["id"] if "id" in more else _parse_id(annotation.ref)
        if given["id"] is None:
            given["id"] = self._reference.new_id()
        given |= {"image_id": self.entry["id"], "iscrowd": int(annotation.skipped == CROWD)}
        if annotation.category and label == annotation.label:
            given["category_id"] = json.loads(annotation.category)
        return given

    def crowds(self) -> Iterator[dict[str, Any]]:
        """The crowd regions of the file that have no mask, unchanged."""
        for annotation in self._annotations.values():
            if annotation.skipped == CROWD and annotation.more:
                yield dict(annotation.more)


def _parse_id(ref: str) -> int | None:
    """The numeric id in a `ref`; None if it is not a number."""
    return int(ref) if ref.removeprefix("-").isdecimal() else None
