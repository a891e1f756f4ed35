"""The layers of a mask decoder of the Segment Anything family, whatever package it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

#: A part of a model that maps tokens to tokens.
Network = Callable[[Tensor], Tensor]


class ChannelNorm(Protocol):
    """A layer norm over channels, weight and bias (C,)."""

    weight: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class Attention:
    """An attention layer: its projections, and how many heads they are split into."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    heads: int


@dataclass(frozen=True, slots=True)
class TwoWayLayer:
    """A layer of the two-way transformer.

    Attributes:
        self_attention: among the tokens of a prompt.
        to_image: the tokens attend to the image.
        to_tokens: the image attends to the tokens.
        mlp: applied to each token.
        norms: after self-attention, `to_image`, `mlp` and `to_tokens`.
        is_first: its self-attention has no positions and replaces the tokens.
    """

    self_attention: Attention
    to_image: Attention
    to_tokens: Attention
    mlp: Network
    norms: tuple[nn.LayerNorm, nn.LayerNorm, nn.LayerNorm, nn.LayerNorm]
    is_first: bool


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the decoder computes from an image independently of the prompts.

    Attributes:
        embedding: (1, C, G, G), the encoder's output.
        fine: SAM 2's outputs of higher resolution, (1, C/8, 4·G, 4·G) and (1, C/4, 2·G, 2·G); empty for SAM.
        tokens: (N, C), the embedding plus the embedding for "no mask given".
        positioned: (N, C), `tokens` plus their positional encoding.
        key, value, query: (H, N, d), their projections in the first layer, contiguous.
        second, first: `fine` in the order of the upscaled pixels of each token, (N, 16, C/8) and (N, 4, C/4); or None.
    """

    embedding: Tensor
    fine: tuple[Tensor, ...]
    tokens: Tensor
    positioned: Tensor
    key: Tensor
    value: Tensor
    query: Tensor
    second: Tensor | None
    first: Tensor | None


@dataclass(frozen=True, slots=True)
class DecoderParts:
    """A mask decoder and what it needs of the prompt encoder; the weights are those of the model, not copies.

    Attributes:
        layers: of the two-way transformer.
        final_attention, final_norm: what follows them.
        output_tokens: (k, C); the token at `score_row` predicts the IoUs, those after it give one mask each: first the
            one for unambiguous prompts, then the candidates.
        score_row: see `output_tokens`.
        score_head: from the first of these tokens to the predicted IoUs of all masks.
        mask_heads: from the token of each mask to its weights for the upscaled channels.
        first, norm, second: upscaling: a transposed convolution, its norm over channels, another convolution.
        no_mask: (1, C), the embedding for "no mask given".
        positions: (1, C, G, G), the positional encoding of the image.
        original: computes low-resolution logits (n, k, 4·G, 4·G) and predicted IoUs (n, k) with the model's own code,
            from an image, prompts, and whether the candidates are wanted or the mask for unambiguous prompts.
        stability: SAM 2 replaces the mask for unambiguous prompts by the best candidate if its IoU between the
            thresholds plus and minus the first number is below the second one; None if it is never replaced.
    """

    layers: Sequence[TwoWayLayer]
    final_attention: Attention
    final_norm: nn.LayerNorm
    output_tokens: Tensor
    score_row: int
    score_head: Network
    mask_heads: Sequence[Network]
    first: nn.ConvTranspose2d
    norm: ChannelNorm
    second: nn.ConvTranspose2d
    no_mask: Tensor
    positions: Tensor
    original: Callable[[ImageFeatures, Tensor, bool], tuple[Tensor, Tensor]]
    stability: tuple[float, float] | None = None
