"""file: prompts from a file that people, other tools or an earlier run made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from maskmill import Image, ImageRef, PipelineError, Problem, Prompt, PromptError, PromptSource, hookimpl
from maskmill_plugins._shared.promptfiles import READERS, Entry, Reader

#: How many problems `check` tells one by one.
TOLD = 20


class File(PromptSource):
    """Prompts from a file; an image that it does not name is left to the next source."""

    path: Path = Field(description="the prompts file, relative to the pipeline file")
    format: Literal["auto", "jsonl", "csv"] = Field("auto", description="auto: by the ending of the name")
    units: Literal["pixels", "relative"] = Field(
        "pixels", description="of all coordinates; relative: 0..1 of the width and the height"
    )

    _reader: Reader | None = PrivateAttr(None)

    def check(self) -> list[Problem]:
        """The file must exist and be right in every line."""
        problems: list[Problem] = []
        empty = True
        try:
            for file, line, entry in self._read().entries():
                empty = False
                wrong = entry if isinstance(entry, PromptError) else self._fault(entry)
                if wrong is not None:
                    problems.append(Problem(str(wrong), file, line))
        except PipelineError as error:
            return list(error.problems)
        if empty:
            return [Problem("holds no prompts", str(self.path), warning=True)]
        if len(problems) > TOLD:
            problems[TOLD:] = [Problem(f"and {len(problems) - TOLD} more lines", str(self.path))]
        return problems

    def open(self) -> None:
        """Read where each image's prompts stand."""
        self._read()

    def prompts(self, image: Image) -> list[Prompt] | None:
        """The prompts of this image.

        Raises:
            PromptError: they are wrong, were made on another version of the picture, or a person has
                rejected the picture.
        """
        entry = self._find(image.ref.key)
        if entry is None:
            return None
        if entry.size not in (None, image.size):
            raise PromptError(
                f"its prompts in {self.path.name} were made on a picture of height and width {entry.size}, this one"
                f" has {image.size}; make them anew"
            )
        if entry.sha256 not in ("", image.sha256):
            raise PromptError(
                f"its prompts in {self.path.name} were made on another version of the picture (sha256"
                f" {entry.sha256[:12]}…, this one has {image.sha256[:12]}…); make them anew, or remove the sha256"
            )
        if self.units == "pixels":
            return list(entry.prompts)
        return [prompt.to_pixels(image.height, image.width) for prompt in entry.prompts]

    def has_answer(self, ref: ImageRef) -> bool:
        """Whether the file names this image."""
        try:
            return self._find(ref.key) is not None
        except PromptError:
            return True

    def fingerprint(self, ref: ImageRef) -> str:
        """A digest of this image's prompts: a change to another line, or of the file's place, redoes nothing."""
        said: Any
        try:
            entry = self._find(ref.key)
            said = None if entry is None else [prompt.to_json() for prompt in entry.prompts]
        except PromptError as error:
            said = str(error)
        return hashlib.sha256(json.dumps([self.version, self.units, said], sort_keys=True).encode()).hexdigest()[:16]

    def _find(self, key: str) -> Entry | None:
        """What the file says of an image, None also for one that a person is not done with."""
        entry = self._read().find(key)
        if entry is not None and entry.status == "rejected":
            raise PromptError(f"{entry.reviewer or 'a reviewer'} rejected this image in {self.path.name}")
        return None if entry is not None and entry.status == "todo" else entry

    def _read(self) -> Reader:
        if self._reader is None:
            name = self.path.suffix.lower().lstrip(".") if self.format == "auto" else self.format
            if not self.path.exists():
                raise PipelineError(f"the prompts file '{self.path}' does not exist")
            if name not in READERS:
                formats = " or ".join(READERS)
                raise PipelineError(f"the name {self.path.name!r} does not tell the format; write `format:` {formats}")
            self._reader = READERS[name](self.path)
        return self._reader

    def _fault(self, entry: Entry) -> PromptError | None:
        try:
            if self.units == "relative":
                for prompt in entry.prompts:
                    prompt.to_pixels(1, 1)
        except PromptError as error:
            return error
        return None


@hookimpl
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Offer `file`."""
    register("file", File)
