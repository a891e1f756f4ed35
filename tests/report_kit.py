"""A run with a report, and its page taken apart, for the tests of the writer `report`."""

import base64
import json
import re
from html.parser import HTMLParser

from maskmill import Pipeline, testing

#: Fails on one image with a message that tries to end its element, scores by the image's name, notes a format's IoU.
DROP_IN = """
import hashlib
from dataclasses import replace

from maskmill import ImageError, Writer, hookimpl
from maskmill.testing import FakeSource, FillAnything


class Source(FakeSource):
    def prompts(self, image):
        found = super().prompts(image)
        if "none" in image.ref.key:
            return []
        return [replace(prompt, label=prompt.label + "</script><img src=x>") for prompt in found]


class Scores(FillAnything):
    def masks(self, image, prompts, embedding=None):
        if "fails" in image.ref.key:
            raise ImageError(f"{image.ref.key}: gave up </script><script>alert(1)</script> \\u2028 after 3 tries")
        part = hashlib.sha256(image.ref.key.encode()).digest()[0] / 256
        made = super().masks(image, prompts)
        return [replace(mask, score=(0.99, part)[n % 2], stability=0.97) for n, mask in enumerate(made)]


class Lossy(Writer):
    def write(self, image, result, folder):
        if result.kept:
            self.note("iou", {"mean": 0.98, "min": 0.95, "masks": len(result.kept)})
        return []


@hookimpl
def register_prompt_sources(register):
    register("source", Source)


@hookimpl
def register_backends(register):
    register("scores", Scores)


@hookimpl
def register_writers(register):
    register("lossy", Lossy)
"""

KEYS = [
    "照片/猫 '1'.png",
    "a&b.png",
    "fails 1.png",
    "fails 2.png",
    "none.png",
    *(f"sub/photo_{number:02d}.png" for number in range(20)),
]


class Page(HTMLParser):
    """The elements of a page and its data.

    Attributes:
        tags: (name, attributes) of each element, in order.
        data: content of the data blocks, by id.
        script: the program.
    """

    def __init__(self, file):
        super().__init__(convert_charrefs=True)
        self.tags = []
        self.data = {}
        self.script = ""
        self._into = None
        self.text = file.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._into = dict(attrs).get("id", "program") if tag == "script" else None
        if tag == "script" and "id" in dict(attrs):
            self.data[self._into] = ""

    def handle_data(self, data):
        if self._into == "program":
            self.script += data
        elif self._into is not None:
            self.data[self._into] += data

    def handle_endtag(self, tag):
        self._into = None

    @property
    def summary(self):
        return json.loads(self.data["summary"])

    @property
    def rows(self):
        return json.loads(self.data["rows"])

    @property
    def thumbnails(self):
        """The bytes of each row's thumbnail, b"" without one."""
        return [base64.b64decode(thumbnail) for thumbnail, _ in self._lines()]

    @property
    def layers(self):
        """What is drawn over each row's photo."""
        return [json.loads(layers) for _, layers in self._lines()]

    def _lines(self):
        names = sorted((name for name in self.data if re.fullmatch(r"t\d+", name)), key=lambda name: int(name[1:]))
        return [line.split("\t") for name in names for line in self.data[name].split("\n")]


def make_run(folder, keys=KEYS, writers=("lossy", "report"), **run_options):
    """A run over small pictures; returns its report."""
    for number, key in enumerate(keys):
        if not (folder / "photos" / key).exists():
            testing.write_picture(folder / "photos" / key, seed=number)
    (folder / "drop.py").write_text(DROP_IN, encoding="utf-8")
    document = {
        "name": "<b>试验</b> & co",
        "dataset": "photos",
        "prompts": [{"use": "source"}],
        "backend": {"use": "scores"},
        "filters": [{"use": "score", "min_score": 0.3}],
        "writers": [{"use": name} for name in writers],
        "output": "out",
        "run": {"engine": "inline"},
    }
    file = folder / "run.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    return Pipeline.load(file, plugins=[folder / "drop.py"], drop_ins=False).run(quiet=True, **run_options)


def eventually(page, expression):
    """Wait until an expression is true. Playwright's own way breaks the page's Content-Security-Policy."""
    for _ in range(250):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never true: {expression}")
