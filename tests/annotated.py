"""The same two boxes on one image, as each format writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maskmill_plugins.prompts.file import File

KEY = "sub/猫 1.jpg"
HEIGHT, WIDTH = 100, 200
BOXES = {"车辆": (10.0, 20.0, 30.0, 40.0), "person": (50.0, 60.0, 70.0, 80.0)}


def save(folder: Path, files: dict[str, Any]) -> Path:
    """Write files; other values than text are written as JSON."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            path.write_text(text, encoding="utf-8")
    return folder


def coco(**more: Any) -> dict[str, Any]:
    boxes = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in BOXES.values()]
    document = {
        "images": [{"id": 7, "file_name": KEY, "width": WIDTH, "height": HEIGHT}],
        "annotations": [
            {"id": 93 + n, "image_id": 7, "category_id": 3 + n, "bbox": box} for n, box in enumerate(boxes)
        ],
        "categories": [{"id": 3 + n, "name": label} for n, label in enumerate(BOXES)],
    }
    return {**document, **more}


def region(**of: Any) -> dict[str, Any]:
    """COCO with one annotation."""
    return coco(annotations=[{"id": 1, "image_id": 7, "category_id": 3, **of}])


def yolo(width: int = WIDTH, height: int = HEIGHT) -> str:
    lines = []
    for number, (x1, y1, x2, y2) in enumerate(BOXES.values()):
        middle = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
        lines.append(f"{number} {middle[0]} {middle[1]} {(x2 - x1) / width} {(y2 - y1) / height}\n")
    return "".join(lines)


def voc(objects: str | None = None, size: str | None = None, name: str = KEY.rpartition("/")[2]) -> str:
    if objects is None:
        objects = "".join(
            f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1:g}</xmin>"
            f"<ymin>{y1 + 1:g}</ymin><xmax>{x2:g}</xmax><ymax>{y2:g}</ymax></bndbox></object>\n"
            for label, (x1, y1, x2, y2) in BOXES.items()
        )
    if size is None:
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return f'<?xml version="1.0"?>\n<annotation><filename>{name}</filename>{size}\n{objects}</annotation>\n'


def labelme(shapes: Any = None, **more: Any) -> dict[str, Any]:
    if shapes is None:
        (a, (x1, y1, x2, y2)), (b, (x3, y3, x4, y4)) = BOXES.items()
        shapes = [
            {"label": a, "points": [[x2, y1], [x1, y2]], "shape_type": "rectangle", "group_id": None},
            {"label": b, "points": [[x3, y3], [x4, y3], [x4, y4], [x3, y4]], "shape_type": "polygon"},
        ]
    about = {"imagePath": KEY.rpartition("/")[2], "imageHeight": HEIGHT, "imageWidth": WIDTH, "imageData": None}
    return {"version": "5.5.0", "flags": {}, "shapes": shapes, **about, **more}


def csv_rows() -> str:
    rows = [f"{KEY},{label},{','.join(map(str, box))}\n" for label, box in BOXES.items()]
    return "image,label,x1,y1,x2,y2\n" + "".join(rows)


def jsonl() -> str:
    prompts = [{"box": box, "label": label} for label, box in BOXES.items()]
    return json.dumps({"image": KEY, "prompts": prompts}, ensure_ascii=False) + "\n"


DATA_YAML = "path: .\ntrain: images/train\nval: images/val\nnames: {0: 车辆, 1: person}\n"
#: format -> (what to read, files), each with the boxes above
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "coco": ("instances.json", {"instances.json": coco()}),
    "coco in a folder": ("json", {"json/instances.json": coco()}),
    "yolo": ("labels", {"labels/sub/猫 1.txt": yolo(), "labels/classes.txt": "车辆\nperson\n"}),
    "yolo of one image": ("猫 1.txt", {"猫 1.txt": yolo(), "classes.txt": "车辆\nperson\n"}),
    "yolo data.yaml": (
        "data.yaml",
        {
            "data.yaml": DATA_YAML,
            "labels/train/猫 1.txt": yolo(),
            "images/train/猫 1.jpg": "",
            "images/val/b.jpg": "",
            "labels/val/b.txt": "",
        },
    ),
    "yolo list": (
        "data.yaml",
        {
            "data.yaml": "train: train.txt\nnames: [车辆, person]\n",
            "train.txt": "./images/猫 1.jpg\n",
            "labels/猫 1.txt": yolo(),
        },
    ),
    "yolo names alone": (".", {"data.yaml": "names: [车辆, person]\n", "labels/sub/猫 1.txt": yolo()}),
    "voc": ("Annotations", {"Annotations/sub/猫 1.xml": voc()}),
    "voc of one image": ("a.xml", {"a.xml": voc()}),
    "labelme": ("json", {"json/sub/猫 1.json": labelme()}),
    "labelme of one image": ("猫 1.json", {"猫 1.json": labelme()}),
    "csv": ("boxes.csv", {"boxes.csv": csv_rows()}),
    "jsonl": ("boxes.jsonl", {"boxes.jsonl": jsonl()}),
}


def source(folder: Path, path: str, files: dict[str, Any], **options: Any) -> File:
    """A `file` source over files that are written first."""
    return File.from_options({"path": path, **options}, save(folder, files))


def told(stage: File) -> str:
    return "\n".join(str(problem) for problem in stage.check())
