"""The mask decoder of SAM with less work: algebraically the same as the original, so only rounding differs.

Uses the weights of a `segment_anything` decoder unchanged. A prompt has a few tokens, an image
has thousands (N = 4096). In the attention between them the original projects all image tokens
for every prompt; here the projection moves to the few prompt tokens, by associativity:

    scores:  (image · Wᵀ) · tokensᵀ = image · (tokens · W)ᵀ
    values:  attention · (image · Wᵀ) = (attention · image) · Wᵀ

Besides, everything that depends on the image alone is computed once per image, transposed
convolutions with stride 2 and kernel 2 become matrix products (their output blocks do not
overlap, so nothing is summed across positions), and only the requested masks are computed.

Reference: Kirillov et al., Segment Anything, arXiv:2304.02643, appendix A.

Sizes: n prompts, T tokens per prompt (5 output tokens, then those of points and boxes),
G side of the image's token grid, N = G·G, C channels, H heads, d channels per head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from segment_anything.modeling import Sam as SamModel
    from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock

    from maskmill_plugins._shared.sam.prompts import WantedMasks

#: Which masks to compute: the one for unambiguous prompts, the three for ambiguous ones, or
#: the one of these three with the best predicted IoU.

#: With more tokens per prompt than this, the original's order of operations is cheaper.
MAX_TOKENS = 24
#: Image tokens to process at a time, so that intermediate results stay in the CPU's cache.
CHUNK = 512


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the decoder computes from an image independently of the prompts.

    Attributes:
        embedding: (1, C, G, G), the encoder's output.
        tokens: (N, C), the embedding plus the embedding for "no mask given".
        positioned: (N, C), `tokens` plus their positional encoding.
        key, value, query: (H, N, d), their projections in the first layer, contiguous.
    """

    embedding: Tensor
    tokens: Tensor
    positioned: Tensor
    key: Tensor
    value: Tensor
    query: Tensor


class FastDecoder:
    """Computes the same masks as the mask decoder of `segment_anything`.

    Not thread-safe: buffers are reused from call to call.

    Args:
        sam: the original model, in evaluation mode; its weights are shared, so it must stay on its device.
    """

    def __init__(self, sam: SamModel) -> None:
        self.sam = sam
        decoder = sam.mask_decoder
        with torch.inference_mode():
            self.positions: Tensor = sam.prompt_encoder.get_dense_pe()[0].flatten(1).t().contiguous()  # (N, C)
            self.grid: int = sam.prompt_encoder.image_embedding_size[0]
            self.output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
            first, self.norm, _, second, _ = decoder.output_upscaling
            self.first, self.second = _flatten_convolution(first), _flatten_convolution(second)
        self._buffers: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def prepare_image(self, embedding: Tensor) -> ImageFeatures:
        """Compute what all prompts of an image share.

        Args:
            embedding: the encoder's output, (1, C, G, G).
        """
        tokens = embedding[0].flatten(1).t().contiguous() + self.sam.prompt_encoder.no_mask_embed.weight
        positioned = tokens + self.positions
        layer = self.sam.mask_decoder.transformer.layers[0]
        to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        return ImageFeatures(
            embedding,
            tokens,
            positioned,
            key=_split_heads(to_image.k_proj(positioned), to_image).contiguous(),
            value=_split_heads(to_image.v_proj(tokens), to_image).contiguous(),
            query=_split_heads(to_tokens.q_proj(positioned), to_tokens).contiguous(),
        )

    @torch.inference_mode()
    def __call__(
        self, image: ImageFeatures, prompts: Tensor, wanted: WantedMasks, min_score: float = -math.inf
    ) -> tuple[Tensor, Tensor]:
        """Decode a batch of prompts that have the same number of tokens.

        Args:
            image: from `prepare_image`.
            prompts: (n, T - 5, C), the prompt encoder's sparse embeddings.
            wanted: which masks of each prompt.
            min_score: a mask index whose predicted IoU is not above this for any prompt of the batch is left out.

        Returns:
            Low-resolution logits (n, k, 4·G, 4·G) and predicted IoUs (n, k); k is 3 for "three"
            and 1 otherwise, minus the masks left out.
        """
        if prompts.shape[1] + len(self.output_tokens) > MAX_TOKENS:
            return self._decode_with_original(image, prompts, wanted, min_score)
        tokens, keys = self._transform(image, prompts)
        scores = self.sam.mask_decoder.iou_prediction_head(tokens[:, 0])
        chosen = select_masks(scores, wanted, min_score)
        if not chosen.numel():
            return keys.new_empty(*chosen.shape, 4 * self.grid, 4 * self.grid), scores.gather(1, chosen)
        weights = self._compute_mask_weights(tokens, chosen)
        return self._upscale(keys, weights), scores.gather(1, chosen)

    def _decode_with_original(
        self, image: ImageFeatures, prompts: Tensor, wanted: WantedMasks, min_score: float
    ) -> tuple[Tensor, Tensor]:
        decoder, encoder = self.sam.mask_decoder, self.sam.prompt_encoder
        masks, scores = decoder.predict_masks(
            image.embedding, encoder.get_dense_pe(), prompts, encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        )
        chosen = select_masks(scores, wanted, min_score)
        indices = chosen[:, :, None, None].expand(-1, -1, *masks.shape[2:])
        return masks.gather(1, indices), scores.gather(1, chosen)

    def _transform(self, image: ImageFeatures, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the two-way transformer: the resulting prompt tokens (n, T, C) and image tokens (n, N, C).

        All prompts enter the first layer with the same image tokens, so its projections of them
        come from `ImageFeatures`; from the second layer on, each prompt has image tokens of its own.
        """
        transformer = self.sam.mask_decoder.transformer
        keys, positioned = self._get_buffers(len(prompts))
        token_pe = torch.cat([self.output_tokens.expand(len(prompts), -1, -1), prompts], dim=1)
        first, *others = transformer.layers
        tokens = _self_attend(first, token_pe, token_pe)
        attended = _attend_to_shared_image(first.cross_attn_token_to_image, tokens + token_pe, image)
        tokens = _apply_mlp(first, tokens + attended)
        keys.copy_(image.tokens)
        _attend_to_tokens_shared(first.cross_attn_image_to_token, tokens, token_pe, image, keys)
        _norm_in_place(first.norm4, keys)
        for layer in others:
            torch.add(keys, self.positions, out=positioned)
            tokens = _self_attend(layer, tokens, token_pe)
            attended = _attend_to_image(layer.cross_attn_token_to_image, tokens + token_pe, positioned, keys)
            tokens = _apply_mlp(layer, tokens + attended)
            _attend_to_tokens(layer.cross_attn_image_to_token, tokens, token_pe, positioned, keys)
            _norm_in_place(layer.norm4, keys)
        torch.add(keys, self.positions, out=positioned)
        last = transformer.final_attn_token_to_image
        tokens = tokens + _attend_to_image(last, tokens + token_pe, positioned, keys)
        return transformer.norm_final_attn(tokens), keys

    def _get_buffers(self, count: int) -> tuple[Tensor, Tensor]:
        """Two buffers (count, N, C), reused because allocating them for each prompt would take as long as computing."""
        if self._buffers is None or len(self._buffers[0]) != count:
            self._buffers = None
            like = self.positions
            self._buffers = like.new_empty(count, *like.shape), like.new_empty(count, *like.shape)
        return self._buffers

    def _compute_mask_weights(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        """The weights of each chosen mask for the upscaled channels, (n, C / 8, k)."""
        networks = self.sam.mask_decoder.output_hypernetworks_mlps
        indices = chosen.tolist()
        needed = {index: networks[index](tokens[:, 1 + index]) for index in set().union(*indices)}
        rows = [torch.stack([needed[index][row] for index in wanted]) for row, wanted in enumerate(indices)]
        return torch.stack(rows).transpose(1, 2)

    def _upscale(self, keys: Tensor, weights: Tensor) -> Tensor:
        """Upscale image tokens (n, N, C) fourfold per side and combine their channels into masks (n, k, 4·G, 4·G)."""
        (first, first_bias), (second, second_bias), norm = self.first, self.second, self.norm
        count, size, wanted = len(keys), keys.shape[1], weights.shape[2]
        logits = keys.new_empty(count, size, 16, wanted)
        for start in range(0, size, CHUNK):
            part = keys[:, start : start + CHUNK].flatten(0, 1)
            pixels = torch.addmm(first_bias, part, first).view(-1, len(norm.weight))
            pixels = functional.layer_norm(pixels, norm.weight.shape, norm.weight, norm.bias, norm.eps)
            pixels = torch.addmm(second_bias, torch.ops.aten.gelu_(pixels), second)
            pixels = torch.ops.aten.gelu_(pixels).view(count, -1, weights.shape[1])
            logits[:, start : start + CHUNK] = torch.bmm(pixels, weights).view(count, -1, 16, wanted)
        grid = self.grid
        # Each upscaling step appended a 2×2 block: (row, column, row₁, column₁, row₂, column₂) per token.
        logits = logits.view(count, grid, grid, 2, 2, 2, 2, wanted).permute(0, 7, 1, 3, 5, 2, 4, 6)
        return logits.reshape(count, wanted, 4 * grid, 4 * grid)


def select_masks(scores: Tensor, wanted: WantedMasks, min_score: float = -math.inf) -> Tensor:
    """The indices of the masks to compute, int64 (n, k), from predicted IoUs (n, 4).

    Mask 0 is that for unambiguous prompts, masks 1 to 3 are the candidates for ambiguous ones.
    """
    if wanted == "best":
        chosen = 1 + scores[:, 1:].argmax(1, keepdim=True)
    else:
        indices = [0] if wanted == "one" else list(range(1, scores.shape[1]))
        chosen = torch.tensor(indices, device=scores.device).expand(len(scores), -1)
    return chosen[:, (scores.gather(1, chosen) > min_score).any(0)]


def _flatten_convolution(layer: torch.nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """The weight (in, 4·out) and bias (4·out,) of a transposed convolution with kernel 2 and stride 2.

    Each input position produces its own 2×2 block of outputs: one matrix product, laid out (row, column, channel).
    """
    weight = layer.weight.permute(0, 2, 3, 1).flatten(1).contiguous()
    assert layer.bias is not None, "SAM's upscaling layers have a bias"
    return weight, layer.bias.repeat(4)


def _split_heads(values: Tensor, attention: Attention) -> Tensor:
    """Reshape (..., T, H·d) to (..., H, T, d)."""
    result: Tensor = values.view(*values.shape[:-1], attention.num_heads, -1).transpose(-2, -3)
    return result


def _project_scaled(projection: torch.nn.Linear, tokens: Tensor, attention: Attention) -> Tensor:
    """Project tokens (n, T, C), split them into heads and divide by √d: (n, H, T, d)."""
    heads = _split_heads(projection(tokens), attention)
    return heads / math.sqrt(heads.shape[-1])


def _merge_heads(attention: Attention, values: Tensor) -> Tensor:
    """Apply the output projection: (n, H, T, d) to (n, T, C)."""
    result: Tensor = attention.out_proj(values.transpose(1, 2).flatten(2))
    return result


def _split_weight(weight: Tensor, attention: Attention) -> Tensor:
    """Split the weight (H·d, C) of a projection into heads: (H, d, C)."""
    heads: int = attention.num_heads
    return weight.view(heads, -1, weight.shape[1])


def _self_attend(layer: TwoWayAttentionBlock, tokens: Tensor, token_pe: Tensor) -> Tensor:
    """Self-attention among the tokens of a prompt, then its norm: (n, T, C)."""
    attention = layer.self_attn
    if layer.skip_first_layer_pe:
        tokens = attention(q=tokens, k=tokens, v=tokens)
    else:
        positioned = tokens + token_pe
        tokens = tokens + attention(q=positioned, k=positioned, v=tokens)
    result: Tensor = layer.norm1(tokens)
    return result


def _apply_mlp(layer: TwoWayAttentionBlock, tokens: Tensor) -> Tensor:
    """What follows the attention to the image: norm, two-layer network, norm."""
    tokens = layer.norm2(tokens)
    result: Tensor = layer.norm3(tokens + layer.mlp(tokens))
    return result


def _norm_in_place(norm: torch.nn.LayerNorm, keys: Tensor) -> None:
    """Normalise image tokens (n, N, C) in place, in chunks."""
    rows = keys.view(-1, keys.shape[-1])
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        part.copy_(norm(part))


def _multiply_shared(rows: Tensor, shared: Tensor) -> Tensor:
    """Multiply (n, H, T, a) by a matrix (H, a, b) that all prompts share: (n, H, T, b)."""
    count, heads, tokens, _ = rows.shape
    product = torch.bmm(rows.transpose(0, 1).reshape(heads, count * tokens, -1), shared)
    return product.view(heads, count, tokens, -1).transpose(0, 1)


def _attend_to_shared_image(attention: Attention, tokens: Tensor, image: ImageFeatures) -> Tensor:
    """As `_attend_to_image`, with keys and values that all prompts share: (n, T, C)."""
    query = _project_scaled(attention.q_proj, tokens, attention)
    weights = _multiply_shared(query, image.key.transpose(1, 2)).softmax(-1)  # (n, H, T, N)
    return _merge_heads(attention, _multiply_shared(weights, image.value))


def _attend_to_image(attention: Attention, tokens: Tensor, positioned: Tensor, keys: Tensor) -> Tensor:
    """Tokens (n, T, C) attend to the image: (n, T, C).

    The biases of both projections need not be applied to the image. The keys' bias adds the same
    number to all scores of a token, which softmax cancels. The attention weights of a token sum
    to 1, so the values' bias can be added once, to the result.

    Args:
        attention: the original layer.
        tokens: the queries.
        positioned: (n, N, C), image tokens with positional encoding.
        keys: (n, N, C), image tokens without.
    """
    query = _project_scaled(attention.q_proj, tokens, attention)
    query = torch.matmul(query, _split_weight(attention.k_proj.weight, attention))  # (n, H, T, C)
    scores = torch.bmm(query.flatten(1, 2), positioned.transpose(1, 2))  # (n, H·T, N)
    attended = torch.bmm(scores.softmax(-1), keys).view(query.shape)
    values = torch.matmul(attended, _split_weight(attention.v_proj.weight, attention).transpose(-1, -2))
    return _merge_heads(attention, values + attention.v_proj.bias.view(attention.num_heads, 1, -1))


def _attend_to_tokens(attention: Attention, tokens: Tensor, token_pe: Tensor, positioned: Tensor, keys: Tensor) -> None:
    """The image attends to the tokens; the result is added to keys (n, N, C) in place.

    Here the queries' bias does matter: it adds a different number for each token, `offset`.

    Args:
        attention: the original layer.
        tokens: (n, T, C).
        token_pe: (n, T, C), their positional encoding.
        positioned: (n, N, C), image tokens with positional encoding: the queries.
        keys: (n, N, C), image tokens without.
    """
    key = _project_scaled(attention.k_proj, tokens + token_pe, attention)
    weight = torch.matmul(key, _split_weight(attention.q_proj.weight, attention))  # (n, H, T, C)
    offset = torch.matmul(key, attention.q_proj.bias.view(attention.num_heads, -1, 1))  # (n, H, T, 1)
    scores = torch.baddbmm(offset.flatten(1, 2), weight.flatten(1, 2), positioned.transpose(1, 2))  # (n, H·T, N)
    _add_attended(attention, tokens, scores.view(*key.shape[:3], -1), keys)


def _attend_to_tokens_shared(
    attention: Attention, tokens: Tensor, token_pe: Tensor, image: ImageFeatures, keys: Tensor
) -> None:
    """As `_attend_to_tokens`, with queries that all prompts share."""
    key = _project_scaled(attention.k_proj, tokens + token_pe, attention)
    scores = _multiply_shared(key, image.query.transpose(1, 2))  # (n, H, T, N)
    _add_attended(attention, tokens, scores, keys)


def _add_attended(attention: Attention, tokens: Tensor, scores: Tensor, keys: Tensor) -> None:
    """Add the projected values of tokens (n, T, C), weighted by the softmax of scores (n, H, T, N) over T, to keys.

    The output projection is applied to the T values of each head instead of the N results.
    """
    value = _split_heads(attention.v_proj(tokens), attention)  # (n, H, T, d)
    outward = attention.out_proj.weight.view(len(attention.out_proj.weight), attention.num_heads, -1).permute(1, 2, 0)
    # The weights of an image token sum to 1 in each of the H heads: with bias / H in each, the bias is added once.
    attended = torch.matmul(value, outward) + attention.out_proj.bias / attention.num_heads
    weights = scores.softmax(2).flatten(1, 2)
    keys.baddbmm_(weights.transpose(1, 2), attended.flatten(1, 2))
