"""The annotation page as a person uses it: in pixels of the image, with a real mouse."""

import json


class AnnotatePage:
    """A tab with the page.

    Attributes:
        page: Playwright's.
        complaints: errors that the browser logged, of scripts and of the content security policy; refused requests.
        expected: statuses of refused requests that are no complaint.
    """

    def __init__(self, page):
        self.page = page
        self.complaints = []
        self.expected = set()
        page.on("response", self._answered)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._said)

    def _said(self, message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def _answered(self, response):
        if 400 <= response.status < 500 and response.status not in self.expected:
            self.complaints.append(f"HTTP {response.status}: {response.url}")

    def ready(self):
        self.page.wait_for_selector("body[data-ready=true]")

    def opened(self, name):
        """Wait until an image is open."""
        self.page.wait_for_function(
            """name => document.getElementById("name").textContent === name
                && document.getElementById("canvas").dataset.scale""",
            arg=name,
        )

    def place(self, x, y):
        """Where a point of the image is on the screen."""
        return self.page.evaluate(
            """([x, y]) => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
                const canvas = document.getElementById("canvas");
                const { left, top } = canvas.getBoundingClientRect();
                const { scale, x: offsetX, y: offsetY } = canvas.dataset;
                done([left + x * scale + Number(offsetX), top + y * scale + Number(offsetY)]);
            })))""",
            [x, y],
        )

    def drag(self, x1, y1, x2, y2, steps=6, **options):
        begin, end = self.place(x1, y1), self.place(x2, y2)
        self.page.mouse.move(*begin)
        self.page.mouse.down(**options)
        self.page.mouse.move(*end, steps=steps)
        self.page.mouse.up(**options)

    def click(self, x, y, key=None, **options):
        if key:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.place(x, y), **options)
        if key:
            self.page.keyboard.up(key)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def color(self, x, y):
        """(red, green, blue) shown at a point of the image."""
        left, top = self.place(x, y)
        return tuple(
            self.page.evaluate(
                """([x, y]) => {
                const canvas = document.getElementById("canvas");
                const { left, top } = canvas.getBoundingClientRect();
                const at = [(x - left) * devicePixelRatio, (y - top) * devicePixelRatio];
                return [...canvas.getContext("2d").getImageData(...at, 1, 1).data].slice(0, 3);
            }""",
                [left, top],
            )
        )

    def saved(self):
        """Wait until the page says so."""
        self.state("saved")

    def state(self, state):
        self.page.wait_for_selector(f"#save-state[data-state={state}]")

    def objects(self, count):
        """Wait for so many objects, each with its mask; gives their names."""
        self.page.wait_for_function(
            """count => document.querySelectorAll("#objects li").length === count
                && !document.querySelector("#objects .wait")""",
            arg=count,
        )
        return self.page.locator("#objects .name").all_inner_texts()

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def says(self, text, where="#toast"):
        """Wait for a text in sight."""
        self.page.wait_for_function(
            "([where, text]) => { const { hidden, textContent } = document.querySelector(where);"
            " return !hidden && textContent.includes(text); }",
            arg=[where, text],
        )

    def status(self, status):
        self.page.wait_for_selector(f"#status[data-status={status}]")


def entries(file):
    """What the prompts file says: key -> last line."""
    if not file.exists():
        return {}
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {line["image"]: line for line in lines}


def near(numbers, expected, within=1.5):
    return len(numbers) == len(expected) and all(
        abs(one - other) <= within for one, other in zip(numbers, expected, strict=True)
    )
