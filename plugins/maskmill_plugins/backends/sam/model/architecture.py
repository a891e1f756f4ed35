"""The sizes of a SAM, read from the shapes of its tensors, and the empty model of these sizes.

Reference: Kirillov et al., Segment Anything, arXiv:2304.02643; the classes are those of `segment_anything.modeling`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam as SamModel

Shapes = Mapping[str, Sequence[int]]

#: Of all published models. No tensor tells how many heads the decoder's attention has.
DECODER_HEADS = 8
#: Normalisation of all published models: mean and standard deviation of R, G, B.
PIXEL_MEAN, PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class NotSamError(ValueError):
    """The tensors are not those of a SAM; the text names the tensor and what was expected."""


@dataclass(frozen=True, slots=True)
class SamSizes:
    """The sizes of a model.

    Attributes:
        image: width and height of the encoder's input in pixels.
        patch: width and height of a patch in pixels.
        width: channels of the encoder.
        depth: blocks of the encoder.
        heads: of the encoder's attention.
        window: tokens along a side of a window.
        global_blocks: blocks whose attention sees all tokens.
        mlp_ratio: of the encoder's blocks.
        channels: of the embedding, the prompts and the decoder.
        mask_channels: of the encoder of mask prompts.
        candidates: masks that a prompt can choose from.
        decoder_depth: layers of the decoder.
        decoder_heads: of the decoder's attention.
        decoder_mlp: hidden channels of the decoder's layers.
        iou_depth: layers of the head that predicts the IoU.
        iou_width: its hidden channels.
    """

    image: int
    patch: int
    width: int
    depth: int
    heads: int
    window: int
    global_blocks: tuple[int, ...]
    mlp_ratio: float
    channels: int
    mask_channels: int
    candidates: int
    decoder_depth: int
    decoder_heads: int
    decoder_mlp: int
    iou_depth: int
    iou_width: int


def read_sizes(weights: Mapping[str, torch.Tensor], decoder_heads: int = DECODER_HEADS) -> SamSizes:
    """Read the sizes of a model from its tensors.

    Args:
        weights: by the names that `segment_anything` gives them.
        decoder_heads: heads of the decoder's attention.

    Raises:
        NotSamError: a tensor is missing or has an impossible shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    _, side, _, width = _shape(shapes, "image_encoder.pos_embed", 4)
    patch = _shape(shapes, "image_encoder.patch_embed.proj.weight", 4)[3]
    depth = _count(shapes, r"image_encoder\.blocks\.(\d+)\.")
    spans, head_width = _read_attention(shapes, depth)
    windows = {span for span in spans if span != side}
    if len(windows) > 1:
        raise NotSamError(f"the blocks of the encoder have windows of different sizes: {sorted(windows)}")
    if width % head_width:
        raise NotSamError(f"image_encoder.pos_embed has {width} channels, no multiple of the {head_width} of a head")
    channels = _shape(shapes, "image_encoder.neck.0.weight", 4)[0]
    if channels % (2 * decoder_heads):
        text = f"image_encoder.neck.0.weight has {channels} channels, which {decoder_heads} heads of the decoder"
        raise NotSamError(f"{text} cannot share; give their number: decoder_heads")
    return SamSizes(
        image=side * patch,
        patch=patch,
        width=width,
        depth=depth,
        heads=width // head_width,
        window=windows.pop() if windows else 0,
        global_blocks=tuple(index for index, span in enumerate(spans) if span == side),
        mlp_ratio=_shape(shapes, "image_encoder.blocks.0.mlp.lin1.weight", 2)[0] / width,
        channels=channels,
        mask_channels=_shape(shapes, "prompt_encoder.mask_downscaling.3.weight", 4)[0],
        candidates=_shape(shapes, "mask_decoder.mask_tokens.weight", 2)[0] - 1,
        decoder_depth=_count(shapes, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        decoder_heads=decoder_heads,
        decoder_mlp=_shape(shapes, "mask_decoder.transformer.layers.0.mlp.lin1.weight", 2)[0],
        iou_depth=_count(shapes, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\.weight"),
        iou_width=_shape(shapes, "mask_decoder.iou_prediction_head.layers.0.weight", 2)[0],
    )


def _read_attention(shapes: Shapes, depth: int) -> tuple[list[int], int]:
    """Tokens along a side that each block's attention sees, and the channels of a head.

    A table of relative positions has an entry for each distance of two tokens, 2 S - 1 for S tokens.
    """
    tables = [_shape(shapes, f"image_encoder.blocks.{index}.attn.rel_pos_h", 2) for index in range(depth)]
    return [(length + 1) // 2 for length, _ in tables], tables[0][1]


def _shape(shapes: Shapes, name: str, dimensions: int) -> Sequence[int]:
    if name not in shapes:
        raise NotSamError(f"{name} is missing")
    if len(shapes[name]) != dimensions:
        raise NotSamError(f"{name} has the shape {list(shapes[name])}; expected {dimensions} dimensions")
    return shapes[name]


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbered layers have names that begin like this."""
    numbers = {int(match[1]) for name in shapes if (match := re.match(pattern, name))}
    if numbers != set(range(len(numbers))) or not numbers:
        name = pattern.replace("\\", "").replace("(d+)", "0").rstrip(".")
        raise NotSamError(f"{name} is missing" if 0 not in numbers else f"layers beside {name} are missing")
    return len(numbers)


def build_empty(sizes: SamSizes) -> SamModel:
    """The model without memory for its weights."""
    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    grid = sizes.image // sizes.patch
    with torch.device("meta"):
        encoder = ImageEncoderViT(
            img_size=sizes.image,
            patch_size=sizes.patch,
            embed_dim=sizes.width,
            depth=sizes.depth,
            num_heads=sizes.heads,
            mlp_ratio=sizes.mlp_ratio,
            out_chans=sizes.channels,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=sizes.window,
            global_attn_indexes=sizes.global_blocks,
        )
        prompts = PromptEncoder(sizes.channels, (grid, grid), (sizes.image, sizes.image), sizes.mask_channels)
        transformer = TwoWayTransformer(
            depth=sizes.decoder_depth,
            embedding_dim=sizes.channels,
            num_heads=sizes.decoder_heads,
            mlp_dim=sizes.decoder_mlp,
        )
        decoder = MaskDecoder(
            transformer_dim=sizes.channels,
            transformer=transformer,
            num_multimask_outputs=sizes.candidates,
            iou_head_depth=sizes.iou_depth,
            iou_head_hidden_dim=sizes.iou_width,
        )
    # The normalisation is in no checkpoint: it needs memory of its own.
    return Sam(encoder, prompts, decoder, list(PIXEL_MEAN), list(PIXEL_STD))
