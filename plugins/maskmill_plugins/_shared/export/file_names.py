"""Names of the output files of an image, such that no two images share one.

Most writers create one file per image, `<key>.png`, or a folder of files per image, `<key>/000_cat.png`.
Keys are paths, so a folder of the dataset could have the same path as such a file or folder. To prevent
this, an image's own folder always ends like an image, `a.jpg`, and a dataset folder called `a.jpg` becomes
`a.jpg_~` and a hash.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from maskmill.decoding.formats import SUFFIXES
from maskmill.files import safe_part

_IMAGES = tuple(SUFFIXES)
_OTHER = ".image"
Names = Literal["stem", "full"]
NAMES_MEANING = (
    "`stem`: `a.jpg` becomes `a`, as readers of the format expect; `full`: it becomes `a_jpg`, for datasets in which"
    " images differ only in their suffix"
)

_ROOM = ".-----"  # as long as the longest suffix that follows a stem
_RESERVED = (".txt", ".xml", ".json", ".png")


def name_image_file(key: str) -> str:
    """The name of an image's single output file, without the writer's suffix (".png"), for `maskmill.save`."""
    *folders, last = key.split("/")
    return "/".join([*map(_escape_folder, folders), last])


def name_object_file(key: str, number: int, label: str | None, suffix: str) -> str:
    """The name of one object's file in the image's own folder, `<key>/<number>_<label><suffix>`.

    Args:
        key: the image's key.
        number: position of the mask among the kept masks of the image, from 0.
        label: the class name; made safe, it becomes part of the file name.
        suffix: for example ".png".
    """
    folder = name_image_file(key)
    if not folder.lower().endswith(_IMAGES):
        folder += _OTHER
    stem = f"{number:03d}_{label}" if label else f"{number:03d}"
    return f"{folder}/{safe_part(stem, suffix)}"


def _escape_folder(name: str) -> str:
    # no real name contains a NUL; saving replaces it and adds a hash to the name
    return f"{name}\0" if name.lower().endswith((*_IMAGES, _OTHER)) else name


def stem_path(key: str, names: Names = "stem") -> str:
    """An image's POSIX path without its suffix, with names that every system accepts.

    Folders called `images` get a hash, because Ultralytics finds labels by replacing the last `/images/`
    of the path. So do folders that end like the files next to them.
    """
    *folders, last = key.split("/")
    path = PurePosixPath(last)
    stem = f"{path.stem}_{path.suffix[1:]}" if names == "full" and path.suffix else path.stem
    marked = (
        f"{folder}\0" if folder == "images" or folder.lower().endswith(_RESERVED) else folder for folder in folders
    )
    return "/".join([*map(safe_part, marked), safe_part(stem, _ROOM)[: -len(_ROOM)]])
