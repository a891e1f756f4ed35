"""Names of the files that belong to an image, so that no two images ever share one.

Most writers make either one file an image, `<key>.png`, or a folder of files an image,
`<key>/000_cat.png`. Keys are paths themselves, so a folder of the dataset could stand
where such a file or folder is to be. That cannot happen here: an image's own folder
always ends like an image, `a.jpg`, and a folder of the dataset never does, because one
that is called `a.jpg` becomes `a.jpg_~` and a hash.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from maskmill.files import safe_part
from maskmill.images import SUFFIXES

_IMAGES = tuple(SUFFIXES)
_OTHER = ".image"
Names = Literal["stem", "full"]
NAMES_MEANING = (
    "`stem`: `a.jpg` becomes `a`, as readers of the format expect; `full`: it becomes `a_jpg`, for datasets in which"
    " images differ in their suffix alone"
)

_ROOM = ".-----"  # as long as the longest suffix that follows a stem
_RESERVED = (".txt", ".xml", ".json", ".png")


def name_image_file(key: str) -> str:
    """The name of an image's only file, without what the writer appends (".png"), for `maskmill.save`."""
    *folders, last = key.split("/")
    return "/".join([*map(_escape_folder, folders), last])


def name_object_file(key: str, number: int, label: str | None, suffix: str) -> str:
    """The name of one object's file in the image's own folder, `<key>/<number>_<label><suffix>`.

    Args:
        key: the image's key.
        number: position of the mask among the kept masks of the image, from 0.
        label: the class name; it becomes part of the file name, made safe.
        suffix: for example ".png".
    """
    folder = name_image_file(key)
    if not folder.lower().endswith(_IMAGES):
        folder += _OTHER
    stem = f"{number:03d}_{label}" if label else f"{number:03d}"
    return f"{folder}/{safe_part(stem, suffix)}"


def _escape_folder(name: str) -> str:
    # no real name holds a NUL; saving replaces it and marks the name with a hash
    return f"{name}\0" if name.lower().endswith((*_IMAGES, _OTHER)) else name


def stem_path(key: str, names: Names = "stem") -> str:
    """An image's POSIX path without its suffix, under names that every system accepts.

    A folder called `images` is marked with a hash: Ultralytics looks for the labels by replacing the
    last `/images/` of the path. So are folders that end as the files beside them do.
    """
    *folders, last = key.split("/")
    path = PurePosixPath(last)
    stem = f"{path.stem}_{path.suffix[1:]}" if names == "full" and path.suffix else path.stem
    marked = (
        f"{folder}\0" if folder == "images" or folder.lower().endswith(_RESERVED) else folder for folder in folders
    )
    return "/".join([*map(safe_part, marked), safe_part(stem, _ROOM)[: -len(_ROOM)]])
