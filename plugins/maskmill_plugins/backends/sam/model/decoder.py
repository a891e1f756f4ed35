"""The mask decoder of SAM, computed with less work: the same sums, another order.

Takes over the weights of a `segment_anything` decoder without changing them. Between the
few tokens of a prompt and the thousands of an image, the original projects the image's
side; this one moves the projection to the tokens' side, which is the same by associativity:

    (image · Wᵀ) · tokᵀ = image · (tok · W)ᵀ        attn · (image · Wᵀ) = (attn · image) · Wᵀ

What depends on the image alone is computed once an image, transposed convolutions with
stride 2 and kernel 2 are products, and only the masks that are asked for are made.

References: Kirillov et al., Segment Anything, arXiv:2304.02643, appendix A.

Names of sizes: n prompts, T tokens a prompt (5 of output, the rest of points and boxes),
G side of the image's token grid, N = G·G, C channels, H heads, d channels a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from segment_anything.modeling import Sam as SamModel
    from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock

#: Which masks to make: the one for unambiguous prompts, all three for ambiguous ones, or
#: of these three the one with the best predicted IoU.
Wanted = Literal["one", "three", "best"]

#: Above so many tokens a prompt the original's order of work is the cheaper one.
MOST_TOKENS = 24
#: Tokens of the image that pass through the upscaling at a time, so that it stays in the cache.
ROWS = 512


@dataclass(frozen=True, slots=True)
class ImageSide:
    """What the decoder needs of an image, whatever the prompt.

    Attributes:
        embedding: (1, C, G, G), the encoder's output.
        tokens: (N, C), the embedding with the embedding of "no mask given" added.
        placed: (N, C), tokens with their positions added.
        key, value, query: (H, N, d), the first layer's projections of them, contiguous.
    """

    embedding: Tensor
    tokens: Tensor
    placed: Tensor
    key: Tensor
    value: Tensor
    query: Tensor


class FastDecoder:
    """Computes what a `segment_anything` prompt encoder and mask decoder compute.

    Not safe to share among threads: its buffers are reused from call to call.

    Args:
        sam: the original, in evaluation mode; its weights are shared, so they must not move.
    """

    def __init__(self, sam: SamModel) -> None:
        self.sam = sam
        decoder = sam.mask_decoder
        with torch.inference_mode():
            self.positions: Tensor = sam.prompt_encoder.get_dense_pe()[0].flatten(1).t().contiguous()  # (N, C)
            self.grid: int = sam.prompt_encoder.image_embedding_size[0]
            self.output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
            first, self.norm, _, second, _ = decoder.output_upscaling
            self.first, self.second = _as_product(first), _as_product(second)
        self._buffers: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def image_side(self, embedding: Tensor) -> ImageSide:
        """Prepare an image for any number of prompts.

        Args:
            embedding: the encoder's output, (1, C, G, G).
        """
        tokens = embedding[0].flatten(1).t().contiguous() + self.sam.prompt_encoder.no_mask_embed.weight
        placed = tokens + self.positions
        layer = self.sam.mask_decoder.transformer.layers[0]
        to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        return ImageSide(
            embedding,
            tokens,
            placed,
            key=_heads(to_image.k_proj(placed), to_image).contiguous(),
            value=_heads(to_image.v_proj(tokens), to_image).contiguous(),
            query=_heads(to_tokens.q_proj(placed), to_tokens).contiguous(),
        )

    @torch.inference_mode()
    def __call__(
        self, image: ImageSide, prompts: Tensor, wanted: Wanted, least: float = -math.inf
    ) -> tuple[Tensor, Tensor]:
        """Decode prompts with equally many points, together.

        Args:
            image: from `image_side`.
            prompts: (n, T - 5, C), the prompt encoder's sparse embeddings.
            wanted: which masks of each prompt.
            least: of the masks wanted, those are left out whose predicted IoU is not above it for
                any of these prompts.

        Returns:
            Low-resolution logits (n, k, 4·G, 4·G) and predicted IoUs (n, k), with k = 3 for
            "three" and k = 1 otherwise, less what was left out.
        """
        if prompts.shape[1] + len(self.output_tokens) > MOST_TOKENS:
            return self._original(image, prompts, wanted, least)
        tokens, keys = self._transform(image, prompts)
        scores = self.sam.mask_decoder.iou_prediction_head(tokens[:, 0])
        chosen = choose(scores, wanted, least)
        if not chosen.numel():
            return keys.new_empty(*chosen.shape, 4 * self.grid, 4 * self.grid), scores.gather(1, chosen)
        weights = self._mask_weights(tokens, chosen)
        return self._masks(keys, weights), scores.gather(1, chosen)

    def _original(self, image: ImageSide, prompts: Tensor, wanted: Wanted, least: float) -> tuple[Tensor, Tensor]:
        decoder, encoder = self.sam.mask_decoder, self.sam.prompt_encoder
        masks, scores = decoder.predict_masks(
            image.embedding, encoder.get_dense_pe(), prompts, encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        )
        chosen = choose(scores, wanted, least)
        places = chosen[:, :, None, None].expand(-1, -1, *masks.shape[2:])
        return masks.gather(1, places), scores.gather(1, chosen)

    def _transform(self, image: ImageSide, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """The two-way transformer: the prompts' tokens (n, T, C) and the image's (n, N, C), after it."""
        transformer = self.sam.mask_decoder.transformer
        keys, placed = self._buffers_for(len(prompts))
        places = torch.cat([self.output_tokens.expand(len(prompts), -1, -1), prompts], dim=1)
        first, *others = transformer.layers
        tokens = _look_at_each_other(first, places, places)
        tokens = _think(first, tokens + _attend_shared(first.cross_attn_token_to_image, tokens + places, image))
        keys.copy_(image.tokens)
        _answer_shared(first.cross_attn_image_to_token, tokens, places, image, keys)
        _norm_in_place(first.norm4, keys)
        for layer in others:
            torch.add(keys, self.positions, out=placed)
            tokens = _look_at_each_other(layer, tokens, places)
            tokens = _think(layer, tokens + _attend(layer.cross_attn_token_to_image, tokens + places, placed, keys))
            _answer(layer.cross_attn_image_to_token, tokens, places, placed, keys)
            _norm_in_place(layer.norm4, keys)
        torch.add(keys, self.positions, out=placed)
        last = transformer.final_attn_token_to_image
        tokens = tokens + _attend(last, tokens + places, placed, keys)
        return transformer.norm_final_attn(tokens), keys

    def _buffers_for(self, count: int) -> tuple[Tensor, Tensor]:
        """Two of (count, N, C): asking the system for new memory at each prompt costs as much as the sums."""
        if self._buffers is None or len(self._buffers[0]) != count:
            self._buffers = None
            like = self.positions
            self._buffers = like.new_empty(count, *like.shape), like.new_empty(count, *like.shape)
        return self._buffers

    def _mask_weights(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        """Each chosen mask's weights for the upscaled channels, (n, C / 8, k)."""
        networks = self.sam.mask_decoder.output_hypernetworks_mlps
        indices = chosen.tolist()
        needed = {index: networks[index](tokens[:, 1 + index]) for index in set().union(*indices)}
        rows = [torch.stack([needed[index][row] for index in wanted]) for row, wanted in enumerate(indices)]
        return torch.stack(rows).transpose(1, 2)

    def _masks(self, keys: Tensor, weights: Tensor) -> Tensor:
        """Upscale the image's tokens (n, N, C) four times a side, and weigh their channels: (n, k, 4·G, 4·G)."""
        (first, first_bias), (second, second_bias), norm = self.first, self.second, self.norm
        count, size, wanted = len(keys), keys.shape[1], weights.shape[2]
        logits = keys.new_empty(count, size, 16, wanted)
        for start in range(0, size, ROWS):
            part = keys[:, start : start + ROWS].flatten(0, 1)
            pixels = torch.addmm(first_bias, part, first).view(-1, len(norm.weight))
            pixels = functional.layer_norm(pixels, norm.weight.shape, norm.weight, norm.bias, norm.eps)
            pixels = torch.addmm(second_bias, torch.ops.aten.gelu_(pixels), second)
            pixels = torch.ops.aten.gelu_(pixels).view(count, -1, weights.shape[1])
            logits[:, start : start + ROWS] = torch.bmm(pixels, weights).view(count, -1, 16, wanted)
        grid = self.grid
        # Each step of upscaling has put its rows and columns, two and two, behind the ones before.
        logits = logits.view(count, grid, grid, 2, 2, 2, 2, wanted).permute(0, 7, 1, 3, 5, 2, 4, 6)
        return logits.reshape(count, wanted, 4 * grid, 4 * grid)


def choose(scores: Tensor, wanted: Wanted, least: float = -math.inf) -> Tensor:
    """Which masks to make, int64 (n, k), by their predicted IoUs (n, 4); mask 0 is the unambiguous one."""
    if wanted == "best":
        chosen = 1 + scores[:, 1:].argmax(1, keepdim=True)
    else:
        indices = [0] if wanted == "one" else list(range(1, scores.shape[1]))
        chosen = torch.tensor(indices, device=scores.device).expand(len(scores), -1)
    return chosen[:, (scores.gather(1, chosen) > least).any(0)]


def _as_product(layer: torch.nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """A transposed convolution with kernel 2 and stride 2 as weight (in, 4·out) and bias (4·out,)."""
    weight = layer.weight.permute(0, 2, 3, 1).flatten(1).contiguous()
    assert layer.bias is not None, "SAM's upscaling layers have a bias"
    return weight, layer.bias.repeat(4)


def _heads(values: Tensor, attention: Attention) -> Tensor:
    """(..., T, H·d) to (..., H, T, d)."""
    result: Tensor = values.view(*values.shape[:-1], attention.num_heads, -1).transpose(-2, -3)
    return result


def _scaled_queries(projection: torch.nn.Linear, tokens: Tensor, attention: Attention) -> Tensor:
    """Tokens (n, T, C), projected, by head and divided by √d: (n, H, T, d)."""
    heads = _heads(projection(tokens), attention)
    return heads / math.sqrt(heads.shape[-1])


def _merged(attention: Attention, values: Tensor) -> Tensor:
    """The attention's last projection: (n, H, T, d) to (n, T, C)."""
    result: Tensor = attention.out_proj(values.transpose(1, 2).flatten(2))
    return result


def _by_head(weight: Tensor, attention: Attention) -> Tensor:
    """A projection's weight (H·d, C) by head: (H, d, C)."""
    heads: int = attention.num_heads
    return weight.view(heads, -1, weight.shape[1])


def _look_at_each_other(layer: TwoWayAttentionBlock, tokens: Tensor, places: Tensor) -> Tensor:
    """Self-attention among the tokens of a prompt, with its norm: (n, T, C)."""
    attention = layer.self_attn
    if layer.skip_first_layer_pe:
        tokens = attention(q=tokens, k=tokens, v=tokens)
    else:
        placed = tokens + places
        tokens = tokens + attention(q=placed, k=placed, v=tokens)
    result: Tensor = layer.norm1(tokens)
    return result


def _think(layer: TwoWayAttentionBlock, tokens: Tensor) -> Tensor:
    """What follows the tokens' attention to the image: norm, two-layer network, norm."""
    tokens = layer.norm2(tokens)
    result: Tensor = layer.norm3(tokens + layer.mlp(tokens))
    return result


def _norm_in_place(norm: torch.nn.LayerNorm, keys: Tensor) -> None:
    """Normalise the image's tokens (n, N, C), some at a time."""
    rows = keys.view(-1, keys.shape[-1])
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        part.copy_(norm(part))


def _with_shared(rows: Tensor, shared: Tensor) -> Tensor:
    """Product of (n, H, T, a) and (H, a, b), which all prompts share: (n, H, T, b)."""
    count, heads, tokens, _ = rows.shape
    product = torch.bmm(rows.transpose(0, 1).reshape(heads, count * tokens, -1), shared)
    return product.view(heads, count, tokens, -1).transpose(0, 1)


def _attend_shared(attention: Attention, tokens: Tensor, image: ImageSide) -> Tensor:
    """As `_attend`, with keys and values that all prompts share: (n, T, C)."""
    query = _scaled_queries(attention.q_proj, tokens, attention)
    weights = _with_shared(query, image.key.transpose(1, 2)).softmax(-1)  # (n, H, T, N)
    return _merged(attention, _with_shared(weights, image.value))


def _attend(attention: Attention, tokens: Tensor, placed: Tensor, keys: Tensor) -> Tensor:
    """Tokens (n, T, C) attend to the image: (n, T, C).

    The bias of the keys' projection adds the same to all scores of a token, so softmax forgets
    it; the weights sum to 1, so the bias of the values' projection is added as it is.

    Args:
        attention: its weights.
        tokens: the queries' side.
        placed: (n, N, C), the image's tokens with their positions.
        keys: (n, N, C), without.
    """
    query = _scaled_queries(attention.q_proj, tokens, attention)
    query = torch.matmul(query, _by_head(attention.k_proj.weight, attention))  # (n, H, T, C)
    scores = torch.bmm(query.flatten(1, 2), placed.transpose(1, 2))  # (n, H·T, N)
    heard = torch.bmm(scores.softmax(-1), keys).view(query.shape)
    values = torch.matmul(heard, _by_head(attention.v_proj.weight, attention).transpose(-1, -2))
    return _merged(attention, values + attention.v_proj.bias.view(attention.num_heads, 1, -1))


def _answer(attention: Attention, tokens: Tensor, places: Tensor, placed: Tensor, keys: Tensor) -> None:
    """The image attends to the tokens: what it hears is added to keys (n, N, C), in place.

    Args:
        attention: its weights.
        tokens: (n, T, C).
        places: (n, T, C), their positions.
        placed: (n, N, C), the image's tokens with their positions: the queries' side.
        keys: (n, N, C), without.
    """
    key = _scaled_queries(attention.k_proj, tokens + places, attention)
    weight = torch.matmul(key, _by_head(attention.q_proj.weight, attention))  # (n, H, T, C)
    offset = torch.matmul(key, attention.q_proj.bias.view(attention.num_heads, -1, 1))  # (n, H, T, 1)
    scores = torch.baddbmm(offset.flatten(1, 2), weight.flatten(1, 2), placed.transpose(1, 2))  # (n, H·T, N)
    _add_heard(attention, tokens, scores.view(*key.shape[:3], -1), keys)


def _answer_shared(attention: Attention, tokens: Tensor, places: Tensor, image: ImageSide, keys: Tensor) -> None:
    """As `_answer`, with queries that all prompts share."""
    key = _scaled_queries(attention.k_proj, tokens + places, attention)
    scores = _with_shared(key, image.query.transpose(1, 2))  # (n, H, T, N)
    _add_heard(attention, tokens, scores, keys)


def _add_heard(attention: Attention, tokens: Tensor, scores: Tensor, keys: Tensor) -> None:
    """Add the tokens' projected values, weighed by softmax of scores (n, H, T, N) over T, to keys (n, N, C)."""
    value = _heads(attention.v_proj(tokens), attention)  # (n, H, T, d)
    outward = attention.out_proj.weight.view(len(attention.out_proj.weight), attention.num_heads, -1).permute(1, 2, 0)
    # In each head the weights of a pixel sum to 1, so that all heads together add the bias once.
    heard = torch.matmul(value, outward) + attention.out_proj.bias / attention.num_heads
    weights = scores.softmax(2).flatten(1, 2)
    keys.baddbmm_(weights.transpose(1, 2), heard.flatten(1, 2))
