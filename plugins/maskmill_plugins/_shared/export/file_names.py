"""Names of the output files of an image, such that no two images share one.

Most writers create one file per image, `<key>.png`, or a folder of files per image, `a_jpg/000_cat.png` for `a.jpg`.
Keys are paths, so a folder of the dataset could have the same path as such a file or folder. To prevent this, an
image's own folder always ends with `_` and an image's suffix, and a folder of the dataset that ends in that way gets
`~` and a hash. So does a folder that ends like an image, `a.jpg`, because programs that look for pictures would take
it for one, or like the tables of the writers, `masks.csv`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

from maskmill.decoding.formats import SUFFIXES
from maskmill.files import safe_part, safe_path

_IMAGES = tuple(SUFFIXES)
_OTHER = "_image"
_OWN_FOLDERS = (*(f"_{suffix[1:]}" for suffix in _IMAGES), _OTHER)
Names = Literal["stem", "full"]
NAMES_MEANING = (
    "`stem`: `a.jpg` becomes `a`, as readers of the format expect; `full`: it becomes `a_jpg`, for datasets in which"
    " images differ only in their suffix"
)
SHARED_HINT = "set names: full for this writer (export: --set names=full), or rename one of the images"
Folders = Literal["nested", "flat"]
FOLDERS_MEANING = (
    "`nested`: the files of `sub/a.jpg` are in a folder `sub`; `flat`: they are called `sub__a`, for readers that do"
    " not look into subfolders"
)

_ROOM = ".-----"  # as long as the longest suffix that follows a stem
_RESERVED = (".txt", ".xml", ".json", ".png", ".csv")
_JOINT = "__"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")


def split_suffix(name: str) -> tuple[str, str]:
    """A file name without its suffix, and the suffix, as `pathlib` splits them; it would keep every name in memory."""
    at = name.rfind(".")
    return (name[:at], name[at:]) if 0 < at < len(name) - 1 else (name, "")


def name_image_file(key: str) -> str:
    """The name of an image's single output file, without the writer's suffix (".png"), for `maskmill.save`."""
    *folders, last = key.split("/")
    return "/".join([*map(_escape_folder, folders), last])


def name_object_file(key: str, number: int, label: str | None, suffix: str) -> str:
    """The name of one object's file in the image's own folder, such as `sub/a_jpg/000_cat.png` for `sub/a.jpg`.

    Args:
        key: the image's key.
        number: position of the mask among the kept masks of the image, from 0.
        label: the class name; made safe, it becomes part of the file name.
        suffix: for example ".png".
    """
    *folders, last = key.split("/")
    stem = f"{number:03d}_{label}" if label else f"{number:03d}"
    return "/".join([*map(_escape_folder, folders), _own_name(last), safe_part(stem, suffix)])


def name_class_file(key: str, number: int, label: str, suffix: str) -> str:
    """The name of one object's file in the folder of its class, such as `cat/sub__a_jpg_000.png` for `sub/a.jpg`."""
    *folders, last = key.split("/")
    own = _escape_folder(label.replace("/", "\0"))  # saving makes it safe
    return f"{own}/{safe_part(f'{_join(folders, _own_name(last))}_{number:03d}', suffix)}"


def _own_name(last: str) -> str:
    stem, suffix = split_suffix(last)
    return f"{stem}_{suffix[1:]}" if suffix.lower() in _IMAGES else f"{last}{_OTHER}"


def _escape_folder(name: str) -> str:
    # no real name contains a NUL; saving replaces it and adds a hash to the name
    return f"{name}\0" if name.lower().endswith((*_IMAGES, *_OWN_FOLDERS, ".csv")) else name


def _join(folders: Sequence[str], last: str) -> str:
    """A path as one name; one that could be taken for another path gets a hash."""
    parts = [*folders, last]
    joined = _JOINT.join(parts)
    if joined.split(_JOINT) == parts:
        return joined
    return f"{joined}~{hashlib.sha256('/'.join(parts).encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def stem_path(key: str, names: Names = "stem", folders: Folders = "nested", taken: str = "") -> str:
    """An image's POSIX path without its suffix, with names that every system accepts.

    Folders that end like the files next to them get a hash.

    Args:
        key: the image's key.
        names: whether the suffix becomes a part of the name.
        folders: whether folders are kept or become a part of the name.
        taken: the name of a folder that means something else in the format, and gets a hash, too.
    """
    *above, last = key.split("/")
    stem, suffix = split_suffix(last)
    stem = f"{stem}_{suffix[1:]}" if names == "full" and suffix else stem
    if folders == "flat":
        above, stem = [], _join(above, stem)
    marked = (f"{folder}\0" if folder == taken or folder.lower().endswith(_RESERVED) else folder for folder in above)
    return "/".join([*map(safe_part, marked), safe_part(stem, _ROOM)[: -len(_ROOM)]])


def image_path(key: str, folders: Folders = "nested") -> str:
    """An image's POSIX path with names that every system accepts."""
    *above, last = key.split("/")
    stem, suffix = split_suffix(last)
    stem, suffix = (stem, suffix) if _SUFFIX.fullmatch(suffix) else (last, "")
    if folders == "nested":
        return safe_path("/".join([*above, stem]), suffix)
    return safe_part(_join(above, stem), suffix)
