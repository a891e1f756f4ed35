"""What writers of data sets with images and splits have in common."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, PrivateAttr

from maskmill import Artifact, Image, ImageResult, Problem, Writer
from maskmill.plugins.stage import digest

from .file_names import FOLDERS_MEANING, NAMES_MEANING, Folders, Names, stem_path
from .image_files import IMAGES_MEANING, Images, image_suffix, save_image
from .splits import LIST_MEANING, TEST_MEANING, VAL_MEANING, Split, Splitter, check_splits, state_of


class DatasetWriter(Writer):
    """A writer whose options decide the split of each image, the name of its files, and whether it is copied."""

    needs_pixels: ClassVar[bool] = False

    val: float = Field(0.2, ge=0, lt=1, description=VAL_MEANING)
    test: float = Field(0.0, ge=0, lt=1, description=TEST_MEANING)
    splits: Path | None = Field(None, description=LIST_MEANING)
    images: Images = Field("none", description=IMAGES_MEANING)
    names: Names = Field("stem", description=NAMES_MEANING)
    folders: Folders = Field("nested", description=FOLDERS_MEANING)

    _splitter: Splitter | None = PrivateAttr(None)

    def check(self) -> list[Problem]:
        """Some images must be left for training, and `splits` must be readable."""
        return check_splits(self.val, self.test, self.splits)

    def digest(self) -> str:
        """The digest includes the content of `splits`."""
        return digest([super().digest(), state_of(self.splits)]) if self.splits else super().digest()

    def find_split(self, key: str) -> Split:
        """The split of the image with this key."""
        if self._splitter is None:
            self._splitter = Splitter(self.val, self.test, self.splits)
        return self._splitter.choose(key)

    def name_stem(self, key: str) -> str:
        """The path of an image's files in their folders, without suffix."""
        return stem_path(key, self.names, self.folders)

    def name_picture(self, key: str) -> str:
        """The path of the image in its folder; without copies its key, unless `folders` asks for another."""
        if self.images == "none" and self.folders == "nested":
            return key
        return f"{self.name_stem(key)}{image_suffix(key, self.images)}"

    def save_picture(self, image: Image, result: ImageResult, folder: Path, path: str) -> list[Artifact]:
        """Copy or link the image to `path`, if one is given.

        Raises:
            ImageError: the image file changed during the run.
            ImageReadError: the image file cannot be read.
        """
        return [save_image(image, result, folder, path, self.images)] if path else []
