"""Create the picture of docs/report.md: run a pipeline on crops of photos, and open its report in Chromium.

    python docs/make_report_picture.py

Requires scikit-image, playwright and Chromium. Only photos with suitable licences: coffee and chelsea (CC0), rocket
(public domain).
"""

import io
import json
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
from playwright.sync_api import sync_playwright
from skimage import data

from maskmill import Pipeline

TARGET = Path(__file__).parent / "images" / "report.jpg"
COUNT = 60
PIPELINE = {
    "name": "kitchen and launch pad",
    "dataset": "photos",
    "prompts": [{"use": "file", "path": "prompts.jsonl"}],
    "backend": {"use": "grabcut"},
    "filters": [{"use": "score", "min_score": 0.3}, {"use": "nms", "iou": 0.6, "across_labels": True}],
    "writers": [{"use": "report"}],
    "output": "out",
}
#: Photo → boxes of its objects by label, in pixels of the photo.
OBJECTS = {
    "coffee": {"cup": (170, 40, 470, 300), "spoon": (380, 230, 560, 330)},
    "chelsea": {"猫": (60, 60, 400, 290)},
    "rocket": {"rocket": (305, 100, 345, 370), "tower": (440, 20, 560, 380)},
}


def make_project(folder: Path) -> Path:
    """Create crops with slightly inaccurate boxes, and one broken image file; returns the pipeline file."""
    chance = random.Random(4)  # noqa: S311 - for boxes
    lines = []
    for number in range(COUNT):
        name = chance.choice(list(OBJECTS))
        photo = np.asarray(getattr(data, name)())
        height, width = photo.shape[:2]
        w, h = chance.randint(width * 3 // 5, width), chance.randint(height * 3 // 5, height)
        x, y = chance.randint(0, width - w), chance.randint(0, height - h)
        file = folder / "photos" / name / f"{name}_{number:03d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(photo[y : y + h, x : x + w]).save(file, quality=88)
        prompts = []
        for label, box in OBJECTS[name].items():
            left, top, right, bottom = (
                edge - start + chance.uniform(-12, 12) for edge, start in zip(box, (x, y, x, y), strict=True)
            )
            left, top, right, bottom = max(0, left), max(0, top), min(w, right), min(h, bottom)
            if right - left > 12 and bottom - top > 12:
                prompts.append({"box": [left, top, right, bottom], "label": label})
        lines.append(json.dumps({"image": f"{name}/{file.name}", "prompts": prompts}) + "\n")
    (folder / "photos" / "coffee" / "broken.jpg").write_bytes(b"no picture")
    (folder / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    file = folder / "run.yaml"
    file.write_text(json.dumps(PIPELINE), encoding="utf-8")
    return file


def take_screenshots(page_file: Path) -> PIL.Image.Image:
    """Return the overview and, below it, the gallery, as seen in two browser windows."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1240, "height": 660}, locale="en-US")
        page.goto(page_file.as_uri())
        above = page.screenshot()
        page.evaluate("document.querySelector('#gallery').scrollIntoView()")
        page.select_option("#by-sort", "masks")
        page.wait_for_selector("#grid img")
        page.wait_for_timeout(500)
        below = page.screenshot(clip={"x": 0, "y": 54, "width": 1240, "height": 580})
        browser.close()
    parts = [PIL.Image.open(io.BytesIO(part)).convert("RGB") for part in (above, below)]
    sheet = PIL.Image.new("RGB", (parts[0].width, sum(part.height for part in parts)))
    sheet.paste(parts[0], (0, 0))
    sheet.paste(parts[1], (0, parts[0].height))
    return sheet.resize((1000, round(1000 * sheet.height / sheet.width)), PIL.Image.Resampling.LANCZOS)


def main() -> None:
    """Run the pipeline, take screenshots, save the picture."""
    with tempfile.TemporaryDirectory() as name:
        report = Pipeline.load(make_project(Path(name)), drop_ins=False).run()
        take_screenshots(report.output / "report" / "report.html").save(TARGET, quality=78, optimize=True)


if __name__ == "__main__":
    main()
