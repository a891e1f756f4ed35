"""One way to read them all: the reader of a file or folder, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.prompt_files.formats import READERS
from maskmill_plugins._shared.prompt_files.line_reader import ImagePrompts, PromptReader, PromptRecord

from .formats import FORMATS, detect, one_file
from .index import AnnotationIndex, is_skipped, make_prompt
from .model import Annotation

CROWD_LEFT_OUT = "crowd region (iscrowd 1); with `crowd: prompt` it would be asked for"


class IndexReader:
    """Annotations that were read into an index.

    Args:
        index: of them.
        crowd: "skip" or "prompt": what becomes of crowd regions.
        keypoints: "skip" or "prompt": whether they are asked for with the box.
    """

    def __init__(self, index: AnnotationIndex, crowd: str, keypoints: str) -> None:
        self.index = index
        self._crowd = crowd
        self._keypoints = keypoints == "prompt"

    def find(self, name: str) -> ImagePrompts | None:
        """What they say of the image of this name."""
        picture = self.index.picture(name)
        if picture is None:
            return None
        elements = self.index.elements_of(picture)
        left = [element for element in elements if is_skipped(element, self._crowd) and not element.fault]
        prompts = [
            make_prompt(element, self._keypoints) for element in elements if not is_skipped(element, self._crowd)
        ]
        faults = tuple(f"{_where(element)}: {element.fault}" for element in elements if element.fault)
        return ImagePrompts(
            tuple(prompt for prompt in prompts if prompt is not None),
            picture.size,
            relative=picture.relative,
            faults=faults,
            crowd=len(left),
        )

    def names(self) -> Iterator[str]:
        """The names of all pictures."""
        return self.index.names()

    def everything(self) -> Iterator[PromptRecord]:
        """All annotations, those of no picture first, then picture by picture."""
        for name, relative, element in self.index.elements():
            yield self._said(name, relative, element)

    def faults(self) -> Iterator[PromptRecord]:
        """The annotations that are wrong, in the file's order; whose image they are is not looked up."""
        for element in self.index.faults():
            yield self._said("", False, element)

    def _said(self, name: str, relative: bool, element: Annotation) -> PromptRecord:
        skipped = CROWD_LEFT_OUT if is_skipped(element, self._crowd) else ""
        file = element.file or str(self.index.path)
        prompt = make_prompt(element, self._keypoints)
        return PromptRecord(
            name, element.ref, file, element.line, element.place, prompt, relative, element.fault, skipped
        )


def _where(element: Annotation) -> str:
    at = f"{Path(element.file).name}:{element.line}" if element.line else element.file and Path(element.file).name
    return ": ".join(part for part in (at, element.place) if part)


def open_reader(path: Path, name: str, crowd: str, keypoints: str, database: str | None = None) -> PromptReader:
    """The reader of a file or folder.

    Args:
        path: the file or folder.
        name: its format, or "auto".
        crowd: "skip" or "prompt".
        keypoints: "skip" or "prompt".
        database: of its index, where it is known; it is not looked whether that is up to date.

    Raises:
        PipelineError: it does not exist, cannot be read, or its format cannot be told.
    """
    if database is not None:
        if not Path(database).is_file():  # another run read a changed file since
            raise PipelineError(Problem("was changed while it was in use; run again", str(path)))
        return IndexReader(AnnotationIndex(Path(database), path), crowd, keypoints)
    if not path.exists():
        raise PipelineError(f"the prompts file '{path}' does not exist")
    name = detect(path) if name == "auto" else name
    if name in READERS:
        return READERS[name](one_file(path, name))
    return IndexReader(AnnotationIndex.of(one_file(path, name) if name == "coco" else path, name), crowd, keypoints)


#: All formats that can be named.
NAMES = sorted([*READERS, *FORMATS])
