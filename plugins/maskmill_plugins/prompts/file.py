"""file: prompts from a file or folder that people, other tools or an earlier run made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
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
    Survey,
    hookimpl,
)
from maskmill_plugins._shared.annotations.reader import IndexReader, open_reader
from maskmill_plugins._shared.prompt_files.line_reader import ImagePrompts, PromptReader, PromptRecord
from maskmill_plugins._shared.prompt_files.matching import Matcher, Matching, find_name

#: How many problems `check` tells one by one.
TOLD = 20


class File(PromptSource):
    """Prompts from a file or folder; an image that it does not name is left to the next source.

    Images are found by their path, else by a file name that only one of them has.
    """

    path: Path = Field(description="the file, or the folder of files, relative to the pipeline file")
    format: Literal["auto", "coco", "csv", "jsonl", "labelme", "voc", "yolo"] = Field(
        "auto", description="auto: told by the content"
    )
    units: Literal["pixels", "relative"] = Field(
        "pixels", description="of jsonl and csv: of all coordinates; relative: 0..1 of the width and the height"
    )
    broken: Literal["stop", "skip"] = Field(
        "stop", description="what to do about annotations that are wrong: refuse to start, or leave them out"
    )
    crowd: Literal["skip", "prompt"] = Field(
        "skip", description="COCO's crowd regions (`iscrowd: 1`): left out, or asked for as if they were one object"
    )
    keypoints: Literal["skip", "prompt"] = Field(
        "skip", description="visible keypoints of COCO and YOLO: left out, or points on the object, with its box"
    )

    _reader: PromptReader | None = PrivateAttr(None)
    _matcher: Matcher | None = PrivateAttr(None)
    _matching: Matching | None = PrivateAttr(None)
    _blocked: Mapping[str, Sequence[str]] = PrivateAttr(default_factory=dict)
    _database: str | None = PrivateAttr(None)

    def check(self) -> list[Problem]:
        """The file must exist and be right in every line."""
        try:
            if self.units == "relative" and isinstance(self._read(), IndexReader):
                text = "`units: relative` is for jsonl and csv; this format says itself how its numbers are meant"
                return [Problem(text, str(self.path))]
            first, count, reach = self._looked_through()
            if not count:
                return self._doubts(reach)
        except PipelineError as error:
            return list(error.problems)
        if count and self.broken == "skip":
            told = "; ".join(f"{problem.where}: {problem.message}" for problem in first[:3])
            return [Problem(f"{count:,} broken annotations are left out: {told}", str(self.path), warning=True)]
        if count > TOLD:
            first.append(Problem(f"and {count - TOLD} more lines", str(self.path)))
        if first:
            first[-1] = replace(first[-1], hint="to leave out what is broken, and go on: `broken: skip`")
        return first

    def _doubts(self, reach: float) -> list[Problem]:
        """What is right, and yet hardly meant so."""
        if next(iter(self._read().names()), None) is None:
            return [Problem("holds no prompts", str(self.path), warning=True)]
        if not 0 < reach <= 1:
            return []
        hint = "this format counts in pixels" if isinstance(self._read(), IndexReader) else "write `units: relative`"
        text = "every box lies in the first pixel: are its numbers parts of the width and the height?"
        return [Problem(text, str(self.path), hint=hint, warning=True)]

    def _looked_through(self) -> tuple[list[Problem], int, float]:
        """The first problems, how many there are, and how far right or down boxes in pixels reach, 0 if none."""
        first: list[Problem] = []
        count = 0
        reader = self._read()
        reach = reader.index.reach() if isinstance(reader, IndexReader) else 0.0
        for said in reader.faults() if isinstance(reader, IndexReader) else self._everything():
            if said.prompt is not None and said.prompt.box is not None and not said.relative:
                reach = max(reach, said.prompt.box.x2, said.prompt.box.y2)
            if said.fault:
                count += 1
                if count <= TOLD:
                    text = f"{said.place}: {said.fault}" if said.place else said.fault
                    first.append(Problem(text, said.file, said.line))
        return first, count, reach

    def open(self) -> None:
        """Read where each image's prompts stand."""
        self._read()

    def survey(self, refs: Iterable[ImageRef]) -> Survey:
        """Match the images of the dataset with those of the file."""
        self._matching = matching = Matching(self._names(), (ref.key for ref in refs))
        self._blocked = matching.blocked
        reader = self._read()
        self._database = str(reader.index.file) if isinstance(reader, IndexReader) else None
        return Survey(
            warnings=tuple(matching.warnings(self.path.name)),
            about={"path": str(self.path), **matching.to_json()},
            memory={"database": self._database, "blocked": {name: list(keys) for name, keys in self._blocked.items()}},
            state=self._state(),
        )

    def _state(self) -> str:
        if self._database is not None:
            return f"{self._database} {self.broken} {self.crowd} {self.keypoints}"
        about = self.path.stat()
        return f"{about.st_size} {about.st_mtime_ns} {self.broken}"

    def recall(self, memory: Any) -> None:
        """What `survey` found: the annotations as they were then, and which names fit several images."""
        self._database, self._blocked = memory["database"], memory["blocked"]

    def inventory(self) -> Iterator[Item]:
        """Every annotation of the file, with the image of the dataset that it belongs to."""
        matching = self._matching
        assert matching is not None, "the run shows the dataset first"
        last: tuple[str, str | None, str] = ("", None, "names no image")
        for said in self._everything():
            if said.name and said.name != last[0]:
                key = matching.key_of(said.name)
                last = (said.name, key, "" if key else matching.why(said.name))
            _, key, why = last if said.name else ("", None, "")
            place = ": ".join(part for part in (f"line {said.line}" if said.line else "", said.place) if part)
            problem = said.fault or said.skipped or why
            yield Item(self._shown(said.file), place, said.ref, said.name, key, said.prompt, said.relative, problem)

    def _shown(self, file: str) -> str:
        """A file's name below the path."""
        folder = self.path if self.path.is_dir() else self.path.parent
        return Path(file).relative_to(folder).as_posix() if Path(file).is_relative_to(folder) else file

    def prompts(self, image: Image) -> list[Prompt] | None:
        """The prompts of this image.

        Raises:
            PromptError: they are wrong, were made on another version of the picture, or a person has
                rejected the picture.
        """
        entry = self._find(image.ref.key)
        if entry is None:
            return None
        self._check_picture(entry, image)
        prompts, faults = self._usable(entry, image)
        if faults and self.broken == "stop":
            raise PromptError(f"{self.path.name}: {faults[0]}")
        if faults and not prompts:
            raise PromptError(f"{self.path.name}: all {len(faults)} of its annotations are broken: {faults[0]}")
        if faults:
            self.note("left out", faults)
        if entry.crowd:
            self.note("crowd regions left out", entry.crowd)
        return prompts

    def _check_picture(self, entry: ImagePrompts, image: Image) -> None:
        if entry.size not in (None, image.size):
            turned = ""
            if entry.size == image.size[::-1]:
                turned = " (height and width exchanged: they may be of the picture before its EXIF rotation)"
            raise PromptError(
                f"its prompts in {self.path.name} were made on a picture of height and width {entry.size}, this one"
                f" has {image.size}{turned}; make them anew"
            )
        if entry.sha256 not in ("", image.sha256):
            raise PromptError(
                f"its prompts in {self.path.name} were made on another version of the picture (sha256"
                f" {entry.sha256[:12]}…, this one has {image.sha256[:12]}…); make them anew, or remove the sha256"
            )

    def _usable(self, entry: ImagePrompts, image: Image) -> tuple[list[Prompt], list[str]]:
        """The prompts in pixels, and what is wrong with the others."""
        prompts, faults = [], list(entry.faults)
        relative = entry.relative or self.units == "relative"
        for prompt in entry.prompts:
            try:
                asked = prompt.to_pixels(image.height, image.width) if relative else prompt
                asked.fit(image.height, image.width)
            except PromptError as error:
                faults.append(f"{prompt.ref}: {error}")
            else:
                prompts.append(asked)
        return prompts, faults

    def has_answer(self, ref: ImageRef) -> bool:
        """Whether the file names this image."""
        try:
            return self._find(ref.key) is not None
        except PromptError:
            return True

    def fingerprint(self, ref: ImageRef) -> str:
        """A digest of this image's prompts: a change to another line, or of the file's place, redoes nothing."""
        said: Any = None
        try:
            entry = self._find(ref.key)
            if entry is not None:
                asked = [prompt.to_json() for prompt in entry.prompts]
                units = "relative" if entry.relative else self.units
                said = [units, asked, entry.size, entry.sha256, [self.broken, *entry.faults] if entry.faults else []]
        except PromptError as error:
            said = str(error)
        return hashlib.sha256(json.dumps([self.version, said], sort_keys=True).encode()).hexdigest()[:16]

    def _names(self) -> Matcher:
        if self._matcher is None:
            self._matcher = Matcher(self._read().names())
        return self._matcher

    def _find(self, key: str) -> ImagePrompts | None:
        """What the file says of an image, None also for one that a person is not done with.

        Raises:
            PromptError: that is wrong, several images fit equally well, or a person has rejected this one.
        """
        reader = self._read()
        # by the very path is the rule for jsonl and csv: the names are then not needed in every worker
        entry = None if isinstance(reader, IndexReader) else reader.find(key)
        if entry is None:
            name, why = find_name(self._names(), key, self._blocked)
            if why:
                raise PromptError(f"{self.path.name}: {why}")
            entry = None if name is None else reader.find(name)
        if entry is not None and entry.status == "rejected":
            raise PromptError(f"{entry.reviewer or 'a reviewer'} rejected this image in {self.path.name}")
        return None if entry is not None and entry.status == "todo" else entry

    def _read(self) -> PromptReader:
        if self._reader is None:
            self._reader = open_reader(self.path, self.format, self.crowd, self.keypoints, self._database)
        return self._reader

    def _everything(self) -> Iterator[PromptRecord]:
        """All that the file says; pixels where parts of the image are meant are wrong."""
        for said in self._read().everything():
            yield _as_relative(said) if self.units == "relative" else said


def _as_relative(said: PromptRecord) -> PromptRecord:
    """What jsonl and csv say with `units: relative`."""
    try:
        if said.prompt is not None:
            said.prompt.to_pixels(1, 1)
    except PromptError as error:
        return replace(said, prompt=None, relative=True, fault=str(error))
    return replace(said, relative=True)


@hookimpl
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Offer `file`."""
    register("file", File)
