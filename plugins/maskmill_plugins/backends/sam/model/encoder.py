"""The image encoder of SAM, computed with less memory traffic: the same sums, another order.

Takes over the weights of a `segment_anything` encoder without copying them. Where the
original builds attention matrices of hundreds of megabytes, layer by layer, this one

- projects the real tokens only: windows at the right and bottom edge are padded with
  zeros, whose queries, keys and values are the bias, one extra row to gather from;
- computes the relative-position terms of a block as one product with the flipped tables,
  from which each query's row is a shifted view (no index tables);
- lays them into one reused buffer, which fused attention adds as its mask;
- applies norms, activations and residuals to slices, into buffers kept from image to image.

References: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection,
arXiv:2203.16527 (windows); Li et al., MViTv2, arXiv:2112.01526 (decomposed relative
positions); Dao et al., FlashAttention, arXiv:2205.14135.

Names of sizes: S side of the input in pixels, G side of the token grid, N = G·G tokens,
D channels, H heads, d = D / H; W windows with T = side·side tokens each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear, functional

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT
    from segment_anything.modeling.image_encoder import Attention, Block

#: Tokens that pass through norm, linear layer and activation at a time: their temporaries
#: stay in the cache, and the products are still large enough to run at full speed.
ROWS = 1024
#: Windows whose attention is computed at a time.
WINDOWS = 5
#: Rows of queries that fused attention gives to one thread.
ROWS_A_THREAD = 256


class FastEncoder:
    """Computes what a `segment_anything` `ImageEncoderViT` computes, for one image at a time.

    Not safe to share among threads: its buffers are reused from call to call.

    Args:
        encoder: the original, in evaluation mode; its weights are shared, so they must not move.

    Raises:
        ValueError: an encoder of another build than SAM's (without relative positions, or with
            tables for another size of grid).
    """

    def __init__(self, encoder: ImageEncoderViT) -> None:
        self.encoder = encoder
        self.blocks = [_Block(block, encoder.pos_embed.shape[1]) for block in encoder.blocks]
        self._buffers: _Buffers | None = None

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Encode one image.

        Args:
            pixels: float (1, 3, S, S), normalised and padded as by `Sam.preprocess`.

        Returns:
            The embedding, float (1, C, G, G); C is 256 and G is 64 for the published models.
        """
        encoder = self.encoder
        grid, channels = encoder.pos_embed.shape[1], encoder.pos_embed.shape[3]
        if self._buffers is None:
            self._buffers = _Buffers.for_encoder(self.blocks, grid, channels, encoder.pos_embed)
        buffers = self._buffers
        patches = encoder.patch_embed.proj(pixels)  # (1, D, G, G)
        positions = encoder.pos_embed.view(grid * grid, channels)
        torch.add(patches[0].flatten(1).t(), positions, out=buffers.tokens)
        for block in self.blocks:
            block.attend(buffers)
            block.transform(buffers)
        return self._neck(buffers.tokens, grid)

    def _neck(self, tokens: Tensor, grid: int) -> Tensor:
        """Two convolutions, each with a norm over channels: (N, D) to (1, C, G, G)."""
        point_wise, norm, convolution, last_norm = self.encoder.neck
        rows = tokens @ point_wise.weight.flatten(1).t()
        rows = functional.layer_norm(rows, norm.weight.shape, norm.weight, norm.bias, norm.eps)
        result: Tensor = last_norm(convolution(rows.t().reshape(1, -1, grid, grid)))
        return result


@dataclass(frozen=True, slots=True)
class _Buffers:
    """Memory that every image and every block uses again.

    Attributes:
        tokens: (N, D), the residual stream.
        qkv: (N + 1, 3·D), queries, keys and values; the last row is for padding tokens.
        attended: (N, D), what attention gives back, before its last projection.
        hidden: (ROWS, M), inside the two-layer network.
        head: (3, N, d), queries, keys and values of one head.
        products: queries times the tables of relative positions.
        bias: for the relative positions of as many scores as are computed at a time.
        gathered: (WINDOWS·T, 3·D), the rows of qkv of as many windows as are computed at a time.
        windows: (W·T, D), what attention gives back, window by window.
    """

    tokens: Tensor
    qkv: Tensor
    attended: Tensor
    hidden: Tensor
    head: Tensor
    products: Tensor
    bias: Tensor
    gathered: Tensor
    windows: Tensor

    @classmethod
    def for_encoder(cls, blocks: list[_Block], grid: int, channels: int, like: Tensor) -> _Buffers:
        count = grid * grid
        slots = max((block.windows.members.numel() for block in blocks if block.windows), default=0)
        gathered = max((WINDOWS * block.windows.tokens for block in blocks if block.windows), default=0)

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=like.dtype, device=like.device)

        return cls(
            tokens=empty(count, channels),
            qkv=empty(count + 1, 3 * channels),
            attended=empty(count, channels),
            hidden=empty(min(ROWS, count), max(block.width for block in blocks)),
            head=empty(3, count, channels // blocks[0].heads),
            products=empty(max(block.products_at_a_time for block in blocks)),
            bias=empty(max(block.scores_at_a_time for block in blocks)),
            gathered=empty(gathered, 3 * channels),
            windows=empty(slots, channels),
        )


class _Block:
    """One transformer block: attention over the whole grid or within windows, then a two-layer network."""

    def __init__(self, block: Block, grid: int) -> None:
        attention = block.attn
        self.norm1: LayerNorm = block.norm1
        self.qkv: Linear = attention.qkv
        self.proj: Linear = attention.proj
        self.norm2: LayerNorm = block.norm2
        self.lin1: Linear = block.mlp.lin1
        self.lin2: Linear = block.mlp.lin2
        self.heads: int = attention.num_heads
        self.grid = grid
        self.windows = _Windows(grid, block.window_size, self.proj.weight.device) if block.window_size else None
        side = block.window_size or grid
        self.relative = _flipped_tables(attention, side)
        self.width: int = self.lin1.weight.shape[0]
        on_cpu = self.proj.weight.device.type == "cpu"
        self.rows = min(grid * grid, ROWS_A_THREAD * 2 * torch.get_num_threads()) if on_cpu else grid * grid

    @property
    def scores_at_a_time(self) -> int:
        """How many attention scores are computed at once; bounds the bias buffer."""
        if self.windows is None:
            return self.rows * self.grid**2
        return WINDOWS * self.heads * self.windows.tokens**2

    @property
    def products_at_a_time(self) -> int:
        """How many products of queries with `relative` are computed at once."""
        queries = self.grid**2 if self.windows is None else WINDOWS * self.heads * self.windows.tokens
        return queries * self.relative.shape[1]

    def attend(self, buffers: _Buffers) -> None:
        """Add attention to the residual stream: x += proj(attention(norm1(x)))."""
        tokens, qkv = buffers.tokens, buffers.qkv
        for part in _slices(len(tokens), ROWS):
            normed = self.norm1(tokens[part])
            torch.addmm(self.qkv.bias, normed, self.qkv.weight.t(), out=qkv[part])
        if self.windows is None:
            self._attend_grid(buffers)
        else:
            self._attend_windows(buffers, self.windows)
        tokens.add_(self.proj.bias).addmm_(buffers.attended, self.proj.weight.t())

    def transform(self, buffers: _Buffers) -> None:
        """Add the two-layer network to the residual stream: x += lin2(gelu(lin1(norm2(x))))."""
        for part in _slices(len(buffers.tokens), ROWS):
            tokens = buffers.tokens[part]
            hidden = buffers.hidden[: len(tokens), : self.width]
            torch.addmm(self.lin1.bias, self.norm2(tokens), self.lin1.weight.t(), out=hidden)
            torch.ops.aten.gelu_(hidden)
            tokens.add_(self.lin2.bias).addmm_(hidden, self.lin2.weight.t())

    def _attend_grid(self, buffers: _Buffers) -> None:
        """Every token attends to every token, one head and some rows of queries at a time."""
        grid, count = self.grid, self.grid**2
        by_head = buffers.qkv[:count].view(count, 3, self.heads, -1)
        attended = buffers.attended.view(count, self.heads, -1)
        for head in range(self.heads):
            buffers.head.copy_(by_head[:, :, head].transpose(0, 1))
            query, key, value = buffers.head  # (N, d) each
            vertical, horizontal = _relative_terms(self._products(query, buffers), 1, grid)
            for part in _slices(grid, max(1, self.rows // grid)):
                lines = part.stop - part.start
                bias = buffers.bias[: lines * grid * count].view(lines, grid, grid, grid)
                torch.add(vertical[0, part, :, :, None], horizontal[0, part, :, None, :], out=bias)
                queries = slice(part.start * grid, part.stop * grid)
                attended[queries, head] = _attention(
                    query[None, None, queries], key[None, None], value[None, None], bias.view(1, 1, -1, count)
                )[0, 0]

    def _attend_windows(self, buffers: _Buffers, windows: _Windows) -> None:
        """Every token attends to the tokens of its window, some windows at a time."""
        buffers.qkv[-1] = self.qkv.bias
        side, size = windows.side, windows.tokens
        for part in _slices(windows.count, WINDOWS):
            members = windows.members[part]  # (w, T)
            count = len(members)
            gathered = buffers.gathered[: members.numel()]
            torch.index_select(buffers.qkv, 0, members.flatten(), out=gathered)
            # three views of (w, H, T, d)
            query, key, value = gathered.view(count, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            vertical, horizontal = _relative_terms(self._products(query, buffers), count * self.heads, side)
            bias = buffers.bias[: count * self.heads * size * size]
            lattice = (count * self.heads, side, side, side, side)
            torch.add(vertical[..., None], horizontal[..., None, :], out=bias.view(lattice))
            answer = _attention(query, key, value, bias.view(count, self.heads, size, size))
            buffers.windows.view(-1, size, self.heads, answer.shape[-1])[part] = answer.transpose(1, 2)
        torch.index_select(buffers.windows, 0, windows.place, out=buffers.attended)

    def _products(self, query: Tensor, buffers: _Buffers) -> Tensor:
        """Queries (..., d) times the flipped tables: (queries, 2·(2·side - 1))."""
        rows = query.reshape(-1, query.shape[-1])
        width = self.relative.shape[1]
        return torch.mm(rows, self.relative, out=buffers.products[: len(rows) * width].view(-1, width))


class _Windows:
    """Which tokens each window holds.

    Attributes:
        side: tokens along one side of a window.
        tokens: T, tokens in a window.
        count: W, windows that cover the grid.
        members: int64 (W, T), the number of each window's tokens; N stands for padding.
        place: int64 (N,), where among all windows' tokens, W·T, each token of the grid is.
    """

    def __init__(self, grid: int, side: int, device: torch.device) -> None:
        across = -(-grid // side)
        numbers = torch.full((across * side, across * side), grid * grid)
        numbers[:grid, :grid] = torch.arange(grid * grid).view(grid, grid)
        members = numbers.view(across, side, across, side).transpose(1, 2).reshape(across**2, side**2)
        self.side, self.tokens, self.count = side, side**2, across**2
        self.members = members.to(device)
        self.place = members.flatten().argsort(stable=True)[: grid * grid].to(device)


def _slices(count: int, size: int) -> list[slice]:
    """Slices of at most `size` that cover `range(count)`."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _flipped_tables(attention: Attention, side: int) -> Tensor:
    """Both tables of relative positions, flipped, (d, 2·(2·side - 1)): first vertical, then horizontal.

    Raises:
        ValueError: the attention has no such tables, or for another side.
    """
    tables = [getattr(attention, name, None) for name in ("rel_pos_h", "rel_pos_w")]
    if any(table is None or len(table) != 2 * side - 1 for table in tables) or attention.qkv.bias is None:
        raise ValueError(f"not an encoder of SAM: no relative positions for a grid of {side}×{side} tokens")
    with torch.inference_mode():
        return torch.cat([table.flip(0) for table in tables if table is not None]).t().contiguous()


def _relative_terms(products: Tensor, batch: int, side: int) -> tuple[Tensor, Tensor]:
    """Views of the relative-position terms, (batch, side, side, side) each.

    `vertical[b, y, x, j]` belongs to the query at (y, x) and keys in row j, `horizontal[b, y, x, j]`
    to keys in column j. A query at row y meets the key at row j in column `side - 1 - y + j` of its
    products with the flipped table, so a view with one stride shortened by one does it all.

    Args:
        products: (batch·side·side, 2·(2·side - 1)), contiguous: queries times `_flipped_tables`.
        batch: independent grids.
        side: tokens along one side.
    """
    width = 2 * side - 1
    row = 2 * width
    shape = (batch, side, side, side)
    vertical = products.as_strided(shape, (side * side * row, side * row - 1, row, 1), side - 1)
    horizontal = products.as_strided(shape, (side * side * row, side * row, row - 1, 1), width + side - 1)
    return vertical, horizontal


def _attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """softmax(query · keyᵀ / √d + bias) · value, batched over the first two axes."""
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
