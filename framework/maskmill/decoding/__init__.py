"""From the bytes of an image file to pixels, with Pillow: formats, pages, bit depths, orientation."""
