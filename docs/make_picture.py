"""Create the picture at the top of the README from the output of the quickstart in outputs/quickstart.

Only photos with suitable licences: coffee and chelsea (CC0), rocket (public domain).
"""

from pathlib import Path

import PIL.Image

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "outputs" / "quickstart"
HEIGHT = 300
CHECKS = 12
OBJECTS = (
    "coffee_png/000_cup and saucer.png",
    "coffee_png/001_coffee.png",
    "coffee_png/002_spoon.png",
    "chelsea_png/000_eye.png",
    "rocket_jpg/000_rocket.png",
)


def scale(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Scale the picture to the common height."""
    return picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT), PIL.Image.Resampling.LANCZOS)


def put_on_checkerboard(cutout: PIL.Image.Image) -> PIL.Image.Image:
    """Put a cut-out on a checkerboard, which marks transparency; it is enlarged by 1.25 at most."""
    zoom = min(1.25, HEIGHT / cutout.height)
    cutout = cutout.resize((round(cutout.width * zoom), round(cutout.height * zoom)), PIL.Image.Resampling.LANCZOS)
    ground = PIL.Image.new("RGBA", (cutout.width, HEIGHT), "white")
    gray = PIL.Image.new("RGBA", (CHECKS, CHECKS), (205, 205, 205, 255))
    for y in range(0, HEIGHT, CHECKS):
        for x in range(CHECKS * ((y // CHECKS) % 2), cutout.width, 2 * CHECKS):
            ground.paste(gray, (x, y))
    ground.alpha_composite(cutout.convert("RGBA"), (0, (HEIGHT - cutout.height) // 2))
    return ground


def main() -> None:
    """Save overlays in the first row, cut-outs in the second."""
    photos = "skimage/data/"
    above = [
        scale(PIL.Image.open(OUTPUT / "overlay" / photos / f"{name}.jpg")) for name in ("coffee.png", "chelsea.png")
    ]
    below = [put_on_checkerboard(PIL.Image.open(OUTPUT / "cutout" / photos / name)) for name in OBJECTS]
    gap = 8
    width = max(sum(picture.width for picture in row) + gap * (len(row) - 1) for row in (above, below))
    sheet = PIL.Image.new("RGB", (width, 2 * HEIGHT + gap), "white")
    for number, row in enumerate((above, below)):
        x = 0
        for picture in row:
            sheet.paste(picture.convert("RGB"), (x, number * (HEIGHT + gap)))
            x += picture.width + gap
    sheet.save(ROOT / "docs" / "images" / "quickstart.jpg", quality=88)


if __name__ == "__main__":
    main()
