"""Opening the reader of a prompts file or of annotations, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.prompt_files.formats import READERS
from maskmill_plugins._shared.prompt_files.line_reader import ImagePrompts, PromptReader, PromptRecord

from .formats import FORMATS, detect_format, find_one_file
from .index import AnnotationIndex, is_skipped, make_prompt
from .model import Annotation

CROWD_SKIPPED = "crowd region (iscrowd 1), skipped; set `crowd: prompt` to use it"


class IndexReader:
    """Prompts from annotations in an index.

    Args:
        index: the annotations.
        crowd: "skip" or "prompt": whether crowd regions are skipped or used.
        keypoints: "skip" or "prompt": whether keypoints are skipped or added to the box.
    """

    def __init__(self, index: AnnotationIndex, crowd: str, keypoints: str) -> None:
        self.index = index
        self._crowd = crowd
        self._keypoints = keypoints == "prompt"

    def find(self, name: str) -> ImagePrompts | None:
        """The prompts of the image of this name."""
        image = self.index.image(name)
        if image is None:
            return None
        annotations = self.index.annotations_of(image)
        left = [
            annotation for annotation in annotations if is_skipped(annotation, self._crowd) and not annotation.error
        ]
        taken = [annotation for annotation in annotations if not is_skipped(annotation, self._crowd)]
        prompts = [(make_prompt(annotation, self._keypoints), annotation.shape) for annotation in taken]
        shapes = tuple(shape for prompt, shape in prompts if prompt is not None)
        errors = tuple(f"{_locate(annotation)}: {annotation.error}" for annotation in annotations if annotation.error)
        return ImagePrompts(
            tuple(prompt for prompt, _ in prompts if prompt is not None),
            image.size,
            relative=image.relative,
            errors=errors,
            crowd=len(left),
            shapes=shapes if any(shapes) else (),
        )

    def names(self) -> Iterator[str]:
        """The names of all images."""
        return self.index.names()

    def records(self) -> Iterator[PromptRecord]:
        """All annotations: those without an image first, then image by image."""
        for name, relative, annotation in self.index.annotations():
            yield self._to_record(name, relative, annotation)

    def errors(self) -> Iterator[PromptRecord]:
        """The invalid annotations, in the file's order, without the names of their images."""
        for annotation in self.index.errors():
            yield self._to_record("", False, annotation)

    def _to_record(self, name: str, relative: bool, annotation: Annotation) -> PromptRecord:
        skipped = CROWD_SKIPPED if is_skipped(annotation, self._crowd) else ""
        file = annotation.file or str(self.index.path)
        prompt = make_prompt(annotation, self._keypoints)
        return PromptRecord(
            name, annotation.ref, file, annotation.line, annotation.place, prompt, relative, annotation.error, skipped
        )


def _locate(annotation: Annotation) -> str:
    at = (
        f"{Path(annotation.file).name}:{annotation.line}"
        if annotation.line
        else annotation.file and Path(annotation.file).name
    )
    return ": ".join(part for part in (at, annotation.place) if part)


def open_reader(
    path: Path, name: str, crowd: str, keypoints: str, database: str | None = None, shapes: bool = False
) -> PromptReader:
    """The reader of a file or folder.

    Args:
        path: the file or folder.
        name: its format, or "auto".
        crowd: "skip" or "prompt".
        keypoints: "skip" or "prompt".
        database: the database of its index, if known; it is not checked whether it is up to date.
        shapes: whether the pixels of annotations are read, too.

    Raises:
        PipelineError: it does not exist, cannot be read, or its format cannot be detected.
    """
    if database is not None:
        if not Path(database).is_file():  # another run has read a changed file since
            raise PipelineError(Problem("was changed during the run; run again", str(path)))
        return IndexReader(AnnotationIndex(Path(database), path), crowd, keypoints)
    if not path.exists():
        raise PipelineError(f"the prompts file '{path}' does not exist")
    name = detect_format(path) if name == "auto" else name
    if name in READERS:
        return READERS[name](find_one_file(path, name))
    place = find_one_file(path, name) if name == "coco" else path
    return IndexReader(AnnotationIndex.of(place, name, shapes), crowd, keypoints)


#: All formats.
NAMES = sorted([*READERS, *FORMATS])
