"""Masks as they travel: COCO run-length encoding, PNG, or the object itself on a transparent ground."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from maskmill import Image, Mask
from maskmill_plugins._shared.drawing.pixels import crop_mask, encode_png
from maskmill_plugins._shared.http.wire import MaskFormat, MaskModel, MasksReply

from ..compute.jobs import Done


def reply(done: Done, format_: MaskFormat) -> bytes:
    """A `MasksReply` as JSON."""
    same = {id(prompt): number for number, prompt in enumerate(done.prompts)}
    equal = {prompt: number for number, prompt in reversed(list(enumerate(done.prompts)))}
    masks = []
    for mask in done.masks:
        assert mask.prompt is not None, "the masks were checked"
        masks.append(_model(mask, same.get(id(mask.prompt), equal[mask.prompt]), format_))
    return MasksReply(masks=masks, seconds=done.seconds).model_dump_json(exclude_none=True).encode()


def _model(mask: Mask, prompt: int, format_: MaskFormat) -> MaskModel:
    png = encode_png(mask.array.astype(np.uint8) * 255, flat=True) if format_ == "png" else None
    drawn = None if png is None else base64.b64encode(png).decode()
    return MaskModel(
        prompt=prompt,
        size=mask.size,
        counts=mask.counts if drawn is None else None,
        png=drawn,
        score=mask.score,
        stability=mask.stability,
        box=None if mask.box is None else mask.box.xyxy,
        area=mask.area,
    )


def cut_out(image: Image, masks: Sequence[Mask]) -> bytes:
    """The object as an RGBA PNG of the image's size, transparent and black around it.

    Args:
        image: where it is cut out of.
        masks: that together are the object.
    """
    rgba = np.zeros((*image.size, 4), np.uint8)
    if masks:
        merged = coco_mask.merge([mask.rle for mask in masks])
        whole = Mask(image.size, bytes(merged["counts"]).decode("ascii"))
        if (crop := crop_mask(whole)) is not None:
            pixels, x, y = crop
            height, width = pixels.shape
            inside = rgba[y : y + height, x : x + width]
            inside[pixels, :3] = image.pixels[y : y + height, x : x + width][pixels]
            inside[pixels, 3] = 255
    return encode_png(rgba)
