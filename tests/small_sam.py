"""SAMs of `segment_anything`'s own classes, small enough for tests, with random weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

SIDE = 256


def build(
    checkpoint: None = None,
    *,
    width: int = 32,
    channels: int = 32,
    depth: int = 3,
    window: int = 7,
    heads: int = 8,
    side: int = SIDE,
):
    """As the builders in `segment_anything.sam_model_registry`: no weights are read."""
    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    grid = side // 16
    encoder = ImageEncoderViT(
        depth=depth,
        embed_dim=width,
        img_size=side,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        num_heads=2,
        use_rel_pos=True,
        global_attn_indexes=(1,),
        window_size=window,  # 7 does not divide the grid, so that windows are padded, as in the real models
        out_chans=channels,
    )
    prompts = PromptEncoder(
        embed_dim=channels, image_embedding_size=(grid, grid), input_image_size=(side, side), mask_in_chans=16
    )
    decoder = MaskDecoder(
        transformer_dim=channels,
        transformer=TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=64, num_heads=heads),
        iou_head_hidden_dim=channels,
    )
    return Sam(encoder, prompts, decoder).eval()


def randomise(sam, seed: int = 0, logits: float = 40):
    """Set random weights where `segment_anything` starts with zeros, and multiply the mask logits by `logits`."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if "rel_pos" in name or name.endswith("pos_embed"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        for buffer in sam.prompt_encoder.buffers():
            buffer.copy_(torch.randn(buffer.shape, generator=generator))
        for mlp in sam.mask_decoder.output_hypernetworks_mlps:  # 40 gives some units, as in trained models
            mlp.layers[-1].weight.mul_(logits)
            mlp.layers[-1].bias.mul_(logits)
    return sam


def seeded(seed: int = 0, **size: int):
    """A small SAM whose weights depend on the seed alone."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return randomise(build(**size), seed)


def shallow_vit_b():
    """ViT-B with two of its twelve blocks, one with windows and one without; everything else is of its size."""
    import torch
    from segment_anything.build_sam import _build_sam

    with torch.random.fork_rng():
        torch.manual_seed(0)
        sam = _build_sam(encoder_embed_dim=768, encoder_depth=2, encoder_num_heads=12, encoder_global_attn_indexes=(1,))
        return randomise(sam, logits=1)


def save(sam, path: Path) -> Path:
    """Write the weights as Meta's checkpoints are written."""
    import torch

    torch.save(sam.state_dict(), path)
    return path


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random image with some noise, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / rng.uniform(9, 60) + y / rng.uniform(9, 60) + rng.uniform(0, 6)) for _ in range(3)]
    return (127 + 90 * np.stack(waves, -1) + rng.normal(0, 9, (height, width, 3))).clip(0, 255).astype(np.uint8)
