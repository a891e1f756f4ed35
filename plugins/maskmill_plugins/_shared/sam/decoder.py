"""The mask decoder of SAM and SAM 2 with less work: algebraically the same as the originals, so only rounding differs.

Uses the weights of a model unchanged, see `decoder_parts`. A prompt has a few tokens, an image
has thousands (N = 4096). In the attention between them the original projects all image tokens
for every prompt; here the projection moves to the few prompt tokens, by associativity:

    scores:  (image · Wᵀ) · tokensᵀ = image · (tokens · W)ᵀ
    values:  attention · (image · Wᵀ) = (attention · image) · Wᵀ

Besides, everything that depends on the image alone is computed once per image, transposed
convolutions with stride 2 and kernel 2 become matrix products (their output blocks do not
overlap, so nothing is summed across positions), and only the requested masks are computed.

Reference: Kirillov et al., Segment Anything, arXiv:2304.02643, appendix A.

Sizes: n prompts, T tokens per prompt (the output tokens, then those of points and boxes),
G side of the image's token grid, N = G·G, C channels, H heads, d channels per head.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor
from torch.nn import functional

from .decoder_parts import Attention, DecoderParts, ImageFeatures, TwoWayLayer
from .prompts import WantedMasks

#: With more tokens per prompt than this, the original's order of operations is cheaper.
MAX_TOKENS = 24
#: Image tokens to process at a time, so that intermediate results stay in the CPU's cache.
CHUNK = 512


class FastDecoder:
    """Computes the same masks as the model's own mask decoder.

    May be used by several threads at once: the buffers, reused from call to call, are the thread's own.

    Args:
        parts: of a model in evaluation mode; its weights are shared, so it must stay on its device.
    """

    def __init__(self, parts: DecoderParts) -> None:
        self.parts = parts
        with torch.inference_mode():
            self.positions = parts.positions[0].flatten(1).t().contiguous()  # (N, C)
            self.grid = parts.positions.shape[-1]
            self.first, self.second = _flatten_convolution(parts.first), _flatten_convolution(parts.second)
        self._of_thread = threading.local()

    @torch.inference_mode()
    def prepare_image(self, embedding: Tensor, fine: tuple[Tensor, ...] = ()) -> ImageFeatures:
        """Compute what all prompts of an image share.

        Args:
            embedding: the encoder's output, (1, C, G, G).
            fine: SAM 2's outputs of higher resolution, finest first: (1, C/8, 4·G, 4·G) and (1, C/4, 2·G, 2·G).
        """
        tokens = embedding[0].flatten(1).t().contiguous() + self.parts.no_mask
        positioned = tokens + self.positions
        layer, grid = self.parts.layers[0], self.grid
        second = first = None
        if fine:
            finest, finer = fine
            second = finest[0].view(-1, grid, 2, 2, grid, 2, 2).permute(1, 4, 2, 5, 3, 6, 0).flatten(0, 1)
            second = second.reshape(grid * grid, 16, -1)
            first = finer[0].view(-1, grid, 2, grid, 2).permute(1, 3, 2, 4, 0).reshape(grid * grid, 4, -1)
        return ImageFeatures(
            embedding,
            fine,
            tokens,
            positioned,
            key=_split_heads(layer.to_image.key(positioned), layer.to_image).contiguous(),
            value=_split_heads(layer.to_image.value(tokens), layer.to_image).contiguous(),
            query=_split_heads(layer.to_tokens.query(positioned), layer.to_tokens).contiguous(),
            second=second,
            first=first,
        )

    @torch.inference_mode()
    def __call__(
        self, image: ImageFeatures, prompts: Tensor, wanted: WantedMasks, min_score: float = -math.inf
    ) -> tuple[Tensor, Tensor]:
        """Decode a batch of prompts that have the same number of tokens.

        Args:
            image: from `prepare_image`.
            prompts: (n, t, C), the prompt encoder's sparse embeddings.
            wanted: which masks of each prompt.
            min_score: a mask index whose predicted IoU is not above this for any prompt of the batch is left out.

        Returns:
            Low-resolution logits (n, k, 4·G, 4·G) and predicted IoUs (n, k); k is 3 for "three"
            and 1 otherwise, minus the masks left out.
        """
        if prompts.shape[1] + len(self.parts.output_tokens) > MAX_TOKENS:
            return self._decode_with_original(image, prompts, wanted, min_score)
        tokens, keys = self._transform(image, prompts)
        row = self.parts.score_row
        scores = self.parts.score_head(tokens[:, row])
        chosen = select_masks(scores, wanted, min_score)
        if not chosen.numel():
            return keys.new_empty(*chosen.shape, 4 * self.grid, 4 * self.grid), scores.gather(1, chosen)
        mask_tokens = tokens[:, row + 1 :]
        logits = self._upscale(keys, self._compute_mask_weights(mask_tokens, chosen), image)
        chosen_scores = scores.gather(1, chosen)
        if wanted == "one" and self.parts.stability is not None:
            for unstable in _find_unstable(logits[:, 0], *self.parts.stability):
                best = select_masks(scores[unstable : unstable + 1], "best")
                weights = self._compute_mask_weights(mask_tokens[unstable : unstable + 1], best)
                logits[unstable] = self._upscale(keys[unstable : unstable + 1], weights, image)[0]
                chosen_scores[unstable] = scores[unstable, best[0]]
        return logits, chosen_scores

    def _decode_with_original(
        self, image: ImageFeatures, prompts: Tensor, wanted: WantedMasks, min_score: float
    ) -> tuple[Tensor, Tensor]:
        masks, scores = self.parts.original(image, prompts, wanted != "one")
        chosen = scores.argmax(1, keepdim=True) if wanted == "best" else _count_up(scores)
        chosen = chosen[:, (scores.gather(1, chosen) > min_score).any(0)]
        indices = chosen[:, :, None, None].expand(-1, -1, *masks.shape[2:])
        return masks.gather(1, indices), scores.gather(1, chosen)

    def _transform(self, image: ImageFeatures, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the two-way transformer: the resulting prompt tokens (n, T, C) and image tokens (n, N, C).

        All prompts enter the first layer with the same image tokens, so its projections of them
        come from `ImageFeatures`; from the second layer on, each prompt has image tokens of its own.
        """
        parts, positions = self.parts, self.positions
        keys, positioned = self._get_buffers(len(prompts))
        token_pe = torch.cat([parts.output_tokens.expand(len(prompts), -1, -1), prompts], dim=1)
        first, *others = parts.layers
        tokens = _self_attend(first, token_pe, token_pe)
        attended = _attend_to_shared_image(first.to_image, tokens + token_pe, image)
        tokens = _apply_mlp(first, tokens + attended)
        keys.copy_(image.tokens)
        _attend_to_tokens_shared(first.to_tokens, tokens, token_pe, image, keys)
        _norm_in_place(first.norms[3], keys)
        for layer in others:
            torch.add(keys, positions, out=positioned)
            tokens = _self_attend(layer, tokens, token_pe)
            attended = _attend_to_image(layer.to_image, tokens + token_pe, positioned, keys)
            tokens = _apply_mlp(layer, tokens + attended)
            _attend_to_tokens(layer.to_tokens, tokens, token_pe, positioned, keys)
            _norm_in_place(layer.norms[3], keys)
        torch.add(keys, positions, out=positioned)
        tokens = tokens + _attend_to_image(parts.final_attention, tokens + token_pe, positioned, keys)
        return parts.final_norm(tokens), keys

    def _get_buffers(self, count: int) -> tuple[Tensor, Tensor]:
        """Two buffers (count, N, C), reused because allocating them for each prompt would take as long as computing."""
        buffers: tuple[Tensor, Tensor] | None = getattr(self._of_thread, "buffers", None)
        if buffers is None or len(buffers[0]) != count:
            self._of_thread.buffers = buffers = None
            like = self.positions
            self._of_thread.buffers = buffers = like.new_empty(count, *like.shape), like.new_empty(count, *like.shape)
        return buffers

    def _compute_mask_weights(self, mask_tokens: Tensor, chosen: Tensor) -> Tensor:
        """The weights of each chosen mask for the upscaled channels, (n, C / 8, k)."""
        indices = chosen.tolist()
        needed = {index: self.parts.mask_heads[index](mask_tokens[:, index]) for index in set().union(*indices)}
        rows = [torch.stack([needed[index][row] for index in wanted]) for row, wanted in enumerate(indices)]
        return torch.stack(rows).transpose(1, 2)

    def _upscale(self, keys: Tensor, weights: Tensor, image: ImageFeatures) -> Tensor:
        """Upscale image tokens (n, N, C) fourfold per side and combine their channels into masks (n, k, 4·G, 4·G)."""
        (first, first_bias), (second, second_bias), norm = self.first, self.second, self.parts.norm
        count, size, wanted = len(keys), keys.shape[1], weights.shape[2]
        channels = len(norm.weight)
        logits = keys.new_empty(count, size, 16, wanted)
        for start in range(0, size, CHUNK):
            rows = slice(start, start + CHUNK)
            pixels = torch.addmm(first_bias, keys[:, rows].flatten(0, 1), first)
            if image.first is not None:
                pixels.view(count, -1, 4, channels).add_(image.first[rows])
            pixels = pixels.view(-1, channels)
            pixels = functional.layer_norm(pixels, norm.weight.shape, norm.weight, norm.bias, norm.eps)
            pixels = torch.addmm(second_bias, torch.ops.aten.gelu_(pixels), second)
            if image.second is not None:
                pixels.view(count, -1, 16, weights.shape[1]).add_(image.second[rows])
            pixels = torch.ops.aten.gelu_(pixels).view(count, -1, weights.shape[1])
            logits[:, rows] = torch.bmm(pixels, weights).view(count, -1, 16, wanted)
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


def _count_up(scores: Tensor) -> Tensor:
    """The index of each score in its row, int64 (n, k)."""
    return torch.arange(scores.shape[1], device=scores.device).expand(scores.shape)


def _find_unstable(logits: Tensor, offset: float, lowest: float) -> list[int]:
    """The rows of logits (n, S, S) whose IoU between the masks at plus and minus `offset` is below `lowest`."""
    high = (logits > offset).flatten(1).sum(1).float()
    low = (logits > -offset).flatten(1).sum(1).float()
    unstable = (low > 0) & (high / low < lowest)
    rows: list[int] = unstable.nonzero()[:, 0].tolist()
    return rows


def _flatten_convolution(layer: torch.nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """The weight (in, 4·out) and bias (4·out,) of a transposed convolution with kernel 2 and stride 2.

    Each input position produces its own 2×2 block of outputs: one matrix product, laid out (row, column, channel).
    """
    weight = layer.weight.permute(0, 2, 3, 1).flatten(1).contiguous()
    assert layer.bias is not None, "SAM's upscaling layers have a bias"
    return weight, layer.bias.repeat(4)


def _split_heads(values: Tensor, attention: Attention) -> Tensor:
    """Reshape (..., T, H·d) to (..., H, T, d)."""
    result: Tensor = values.view(*values.shape[:-1], attention.heads, -1).transpose(-2, -3)
    return result


def _project_scaled(projection: torch.nn.Linear, tokens: Tensor, attention: Attention) -> Tensor:
    """Project tokens (n, T, C), split them into heads and divide by √d: (n, H, T, d)."""
    heads = _split_heads(projection(tokens), attention)
    return heads / math.sqrt(heads.shape[-1])


def _merge_heads(attention: Attention, values: Tensor) -> Tensor:
    """Apply the output projection: (n, H, T, d) to (n, T, C)."""
    result: Tensor = attention.output(values.transpose(1, 2).flatten(2))
    return result


def _split_weight(weight: Tensor, attention: Attention) -> Tensor:
    """Split the weight (H·d, C) of a projection into heads: (H, d, C)."""
    heads: int = attention.heads
    return weight.view(heads, -1, weight.shape[1])


def _self_attend(layer: TwoWayLayer, tokens: Tensor, token_pe: Tensor) -> Tensor:
    """Self-attention among the tokens of a prompt, then its norm: (n, T, C)."""
    attention = layer.self_attention
    positioned = tokens if layer.is_first else tokens + token_pe
    query, key = (_split_heads(part(positioned), attention) for part in (attention.query, attention.key))
    scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
    attended = torch.matmul(scores.softmax(-1), _split_heads(attention.value(tokens), attention))
    merged = _merge_heads(attention, attended)
    result: Tensor = layer.norms[0](merged if layer.is_first else tokens + merged)
    return result


def _apply_mlp(layer: TwoWayLayer, tokens: Tensor) -> Tensor:
    """What follows the attention to the image: norm, two-layer network, norm."""
    tokens = layer.norms[1](tokens)
    result: Tensor = layer.norms[2](tokens + layer.mlp(tokens))
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
    query = _project_scaled(attention.query, tokens, attention)
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
    query = _project_scaled(attention.query, tokens, attention)
    query = torch.matmul(query, _split_weight(attention.key.weight, attention))  # (n, H, T, C)
    scores = torch.bmm(query.flatten(1, 2), positioned.transpose(1, 2))  # (n, H·T, N)
    attended = torch.bmm(scores.softmax(-1), keys).view(query.shape)
    values = torch.matmul(attended, _split_weight(attention.value.weight, attention).transpose(-1, -2))
    return _merge_heads(attention, values + attention.value.bias.view(attention.heads, 1, -1))


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
    key = _project_scaled(attention.key, tokens + token_pe, attention)
    weight = torch.matmul(key, _split_weight(attention.query.weight, attention))  # (n, H, T, C)
    offset = torch.matmul(key, attention.query.bias.view(attention.heads, -1, 1))  # (n, H, T, 1)
    scores = torch.baddbmm(offset.flatten(1, 2), weight.flatten(1, 2), positioned.transpose(1, 2))  # (n, H·T, N)
    _add_attended(attention, tokens, scores.view(*key.shape[:3], -1), keys)


def _attend_to_tokens_shared(
    attention: Attention, tokens: Tensor, token_pe: Tensor, image: ImageFeatures, keys: Tensor
) -> None:
    """As `_attend_to_tokens`, with queries that all prompts share."""
    key = _project_scaled(attention.key, tokens + token_pe, attention)
    scores = _multiply_shared(key, image.query.transpose(1, 2))  # (n, H, T, N)
    _add_attended(attention, tokens, scores, keys)


def _add_attended(attention: Attention, tokens: Tensor, scores: Tensor, keys: Tensor) -> None:
    """Add the projected values of tokens (n, T, C), weighted by the softmax of scores (n, H, T, N) over T, to keys.

    The output projection is applied to the T values of each head instead of the N results.
    """
    value = _split_heads(attention.value(tokens), attention)  # (n, H, T, d)
    outward = attention.output.weight.view(len(attention.output.weight), attention.heads, -1).permute(1, 2, 0)
    # The weights of an image token sum to 1 in each of the H heads: with bias / H in each, the bias is added once.
    attended = torch.matmul(value, outward) + attention.output.bias / attention.heads
    weights = scores.softmax(2).flatten(1, 2)
    keys.baddbmm_(weights.transpose(1, 2), attended.flatten(1, 2))
