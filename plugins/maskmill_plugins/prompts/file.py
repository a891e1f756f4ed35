"""file: prompts from a file or folder written by people, other tools or an earlier run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from maskmill import (
    Image,
    ImageRef,
    Item,
    PipelineError,
    Problem,
    Prompt,
    PromptError,
    PromptSource,
    RejectedError,
    Survey,
    UsageError,
    hookimpl,
)
from maskmill.storage import fetch_file, restore_address
from maskmill.wording import count_noun
from maskmill_plugins._shared.annotations.reader import IndexReader, open_reader
from maskmill_plugins._shared.cache_folder import cache_folder
from maskmill_plugins._shared.prompt_files.line_reader import ImagePrompts, PromptReader, PromptRecord
from maskmill_plugins._shared.prompt_files.matching import Matcher, Matching, find_name

#: The doubt about an image, or the run, of which an annotation was left out.
SKIPPED = "annotation_skipped"
#: How many problems `check` lists one by one.
MAX_PROBLEMS = 20


class File(PromptSource):
    """Prompts from a file or folder; images that are not in it are left to the next source.

    Images are matched by path, or by a unique file name.
    """

    path: Path = Field(
        description="the file, or the folder of files, relative to the pipeline file; or the address of a file, such as"
        " s3://bucket/boxes.jsonl"
    )
    format: Literal["auto", "coco", "csv", "jsonl", "labelme", "voc", "yolo"] = Field(
        "auto", description="auto: detected from the content"
    )
    units: Literal["pixels", "relative"] = Field(
        "pixels", description="for jsonl and csv: of all coordinates; relative: 0..1 of width and height"
    )
    broken: Literal["stop", "skip"] = Field(
        "stop", description="for invalid annotations: refuse to start, or skip them"
    )
    crowd: Literal["skip", "prompt"] = Field(
        "skip", description="COCO's crowd regions (`iscrowd: 1`): skip them, or use each as if it were one object"
    )
    keypoints: Literal["skip", "prompt"] = Field(
        "skip",
        description="visible keypoints of COCO and YOLO: skip them, or add them to the box as points on the object",
    )

    _reader: PromptReader | None = PrivateAttr(None)
    _matching: Matching | None = PrivateAttr(None)
    _blocked: Mapping[str, Sequence[str]] = PrivateAttr(default_factory=dict)
    _database: str | None = PrivateAttr(None)

    def check(self) -> list[Problem]:
        """The file must exist and every line of it must be valid."""
        try:
            if self.units == "relative" and isinstance(self._read(), IndexReader):
                text = "`units: relative` is for jsonl and csv only; this format defines its own units"
                return [Problem(text, self._shown)]
            first, count, extent = self._examine()
            warnings = self._find_warnings(extent)
        except PipelineError as error:
            return list(error.problems)
        if not count:
            return warnings
        if self.broken == "skip":
            examples = "; ".join(f"{problem.where}: {problem.message}" for problem in first[:3])
            text = f"{count_noun(count, 'invalid annotation is', 'invalid annotations are')} skipped: {examples}"
            return [Problem(text, self._shown, warning=True), *warnings]
        if count > MAX_PROBLEMS:
            first.append(Problem(f"and {count_noun(count - MAX_PROBLEMS, 'more problem')}", self._shown))
        first[-1] = replace(first[-1], hint="to skip invalid annotations, set `broken: skip`")
        return first

    def _find_warnings(self, extent: float) -> list[Problem]:
        """Warnings about content that is valid but probably not intended."""
        reader = self._read()
        if next(iter(reader.names()), None) is None:
            return [Problem("contains no prompts", self._shown, warning=True)]
        found = []
        if 0 < extent <= 1:
            hint = "this format uses pixels" if isinstance(reader, IndexReader) else "set `units: relative`"
            text = "every box is within the first pixel; the numbers may be fractions of width and height"
            found.append(Problem(text, self._shown, hint=hint, warning=True))
        if why := reader.index.class_numbers() if isinstance(reader, IndexReader) else "":
            text = f"the labels are class numbers, because there are no class names: {why}"
            found.append(Problem(text, self._shown, warning=True))
        return found

    def _examine(self) -> tuple[list[Problem], int, float]:
        """The first problems, their number, and the largest x or y of boxes in pixels (0 if there are none)."""
        first: list[Problem] = []
        count = 0
        reader = self._read()
        extent = reader.index.box_extent() if isinstance(reader, IndexReader) else 0.0
        for record in reader.errors() if isinstance(reader, IndexReader) else self._records():
            if record.prompt is not None and record.prompt.box is not None and not record.relative:
                extent = max(extent, record.prompt.box.x2, record.prompt.box.y2)
            if record.error:
                count += 1
                if count <= MAX_PROBLEMS:
                    text = f"{record.place}: {record.error}" if record.place else record.error
                    first.append(Problem(text, record.file, record.line))
        return first, count, extent

    def open(self) -> None:
        """Read the positions of each image's prompts."""
        self._read()

    def survey(self, refs: Iterable[ImageRef]) -> Survey:
        """Match the images of the dataset with those of the file."""
        self._matching = matching = Matching(self._names, (ref.key for ref in refs))
        self._blocked = matching.blocked
        reader = self._read()
        self._database = str(reader.index.file) if isinstance(reader, IndexReader) else None
        name = self.path.name
        warnings = matching.warnings(name)
        about = {"path": self._shown, **matching.to_json()}
        lost = self._count_without_image() if self.broken == "skip" else 0
        if lost:
            many = count_noun(lost, f"annotation of {name} is", f"annotations of {name} are")
            warnings.append(f"{many} left out, and it is unknown of which image")
            about["left out without an image"] = lost
        return Survey(
            warnings=tuple(warnings),
            about=about,
            doubts={SKIPPED: lost} if lost else {},
            memory={"database": self._database, "blocked": {name: list(keys) for name, keys in self._blocked.items()}},
            state=self._state(),
        )

    def _count_without_image(self) -> int:
        reader = self._read()
        if isinstance(reader, IndexReader):
            return reader.index.count_without_image()
        return sum(bool(record.error and not record.name) for record in reader.records())

    def _state(self) -> str:
        if self._database is not None:
            return f"{self._database} {self.broken} {self.crowd} {self.keypoints}"
        about = self._source.stat()
        return f"{about.st_size} {about.st_mtime_ns} {self.broken}"

    def recall(self, memory: Any) -> None:
        """Take over the result of `survey`: the annotations as of then, and names that match several images."""
        self._database, self._blocked = memory["database"], memory["blocked"]

    def inventory(self) -> Iterator[Item]:
        """Every annotation of the file, with the image of the dataset it belongs to."""
        matching = self._matching
        assert matching is not None, "survey() comes first"
        last: tuple[str, str | None, str] = ("", None, "the image name is missing")
        for record in self._records():
            if record.name and record.name != last[0]:
                key = matching.key_of(record.name)
                last = (record.name, key, "" if key else matching.explain(record.name))
            _, key, why = last if record.name else ("", None, "")
            place = ": ".join(part for part in (f"line {record.line}" if record.line else "", record.place) if part)
            problem = record.error or record.skipped or why
            yield Item(
                self._relative_path(record.file),
                place,
                record.ref,
                record.name,
                key,
                record.prompt,
                record.relative,
                problem,
            )

    def _relative_path(self, file: str) -> str:
        """A file's path relative to `path`."""
        folder = self._source if self._source.is_dir() else self._source.parent
        return Path(file).relative_to(folder).as_posix() if Path(file).is_relative_to(folder) else file

    def prompts(self, image: Image) -> list[Prompt] | None:
        """The prompts of this image.

        Raises:
            PromptError: they are invalid, or were made on another version of the image.
            RejectedError: a reviewer rejected the image.
        """
        entry = self._find(image.ref.key)
        if entry is None:
            return None
        self._check_image(entry, image)
        prompts, errors = self._usable(entry, image)
        if errors and self.broken == "stop":
            raise PromptError(f"{self.path.name}: {errors[0]}")
        if errors and not prompts:
            found = "its annotation is" if len(errors) == 1 else f"all {len(errors)} of its annotations are"
            raise PromptError(f"{self.path.name}: {found} invalid: {errors[0]}")
        if errors:
            self.note("left out", errors)
            be = "is" if len(errors) == 1 else "are"
            self.doubt(SKIPPED, f"{len(errors)} of its annotations in {self.path.name} {be} left out: {errors[0]}")
        if entry.crowd:
            self.note("crowd regions left out", entry.crowd)
        return prompts

    def _check_image(self, entry: ImagePrompts, image: Image) -> None:
        if entry.size not in (None, image.size):
            turned = ""
            if entry.size == image.size[::-1]:
                turned = " (height and width are swapped; they may belong to the image before its EXIF rotation)"
            raise PromptError(
                f"its prompts in {self.path.name} were made on an image of height and width {entry.size}, but this one"
                f" has {image.size}{turned}; recreate them"
            )
        if entry.sha256 not in ("", image.sha256):
            raise PromptError(
                f"its prompts in {self.path.name} were made on another version of the image (sha256"
                f" {entry.sha256[:12]}…, this one has {image.sha256[:12]}…); recreate them, or remove the sha256"
            )

    def _usable(self, entry: ImagePrompts, image: Image) -> tuple[list[Prompt], list[str]]:
        """The valid prompts in pixels, and the errors of the others."""
        prompts, errors = [], list(entry.errors)
        relative = entry.relative or self.units == "relative"
        for prompt in entry.prompts:
            try:
                asked = prompt.to_pixels(image.height, image.width) if relative else prompt
                asked.fit(image.height, image.width)
            except PromptError as error:
                errors.append(f"{prompt.ref}: {error}")
            else:
                prompts.append(asked)
        return prompts, errors

    def has_answer(self, ref: ImageRef) -> bool:
        """Whether the file contains this image."""
        try:
            return self._find(ref.key) is not None
        except (PromptError, RejectedError):
            return True

    def fingerprint(self, ref: ImageRef) -> str:
        """A digest of this image's prompts; changes to other lines, or moving the file, do not affect it."""
        content: Any = None
        try:
            entry = self._find(ref.key)
            if entry is not None:
                asked = [prompt.to_json() for prompt in entry.prompts]
                units = "relative" if entry.relative else self.units
                content = [units, asked, entry.size, entry.sha256, [self.broken, *entry.errors] if entry.errors else []]
        except (PromptError, RejectedError) as error:
            content = str(error)
        return hashlib.sha256(json.dumps([self.version, content], sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def _source(self) -> Path:
        """The file on this machine: itself, or a copy of the object that the path is the address of."""
        address = restore_address(self.path)
        if address is None:
            return self.path
        try:
            return fetch_file(address, cache_folder() / "objects")
        except UsageError as error:
            raise PipelineError(*error.problems) from None

    @property
    def _shown(self) -> str:
        return restore_address(self.path) or str(self.path)

    @cached_property
    def _names(self) -> Matcher:
        return Matcher(self._read().names())

    def _find(self, key: str) -> ImagePrompts | None:
        """The prompts of an image in the file; None also for an image that is marked as not finished.

        Raises:
            PromptError: they are invalid, or the image is matched ambiguously.
            RejectedError: a reviewer rejected it.
        """
        reader = self._read()
        # jsonl and csv are looked up by exact path first, so that workers rarely need all names
        entry = None if isinstance(reader, IndexReader) else reader.find(key)
        if entry is None:
            name, why = find_name(self._names, key, self._blocked)
            if why:
                raise PromptError(f"{self.path.name}: {why}")
            entry = None if name is None else reader.find(name)
        if entry is not None and entry.status == "rejected":
            raise RejectedError(f"{entry.reviewer or 'a reviewer'} rejected this image in {self.path.name}")
        return None if entry is not None and entry.status == "todo" else entry

    def _read(self) -> PromptReader:
        if self._reader is None:
            self._reader = open_reader(self._source, self.format, self.crowd, self.keypoints, self._database)
        return self._reader

    def _records(self) -> Iterator[PromptRecord]:
        """All entries of the file; with `units: relative`, coordinates outside 0..1 are errors."""
        for record in self._read().records():
            yield _make_relative(record) if self.units == "relative" else record


def _make_relative(record: PromptRecord) -> PromptRecord:
    """An entry of jsonl or csv with `units: relative`."""
    try:
        if record.prompt is not None:
            record.prompt.to_pixels(1, 1)
    except PromptError as error:
        return replace(record, prompt=None, relative=True, error=str(error))
    return replace(record, relative=True)


@hookimpl
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Register `file`."""
    register("file", File)
