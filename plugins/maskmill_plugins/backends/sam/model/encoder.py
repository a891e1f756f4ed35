"""The image encoder of SAM with less memory traffic: algebraically the same as the original, only rounding differs.

Uses the weights of a `segment_anything` encoder without copying them. The original builds
attention matrices of hundreds of megabytes in every block. This one

- projects only real tokens. The original pads the windows at the right and bottom edge with
  zeros before the projection, so each padding token has queries, keys and values equal to the
  bias: one extra row, from which all of them are gathered;
- computes all relative-position terms of a block as one matrix product with the flipped tables,
  and reads each query's terms from it through a strided view (see `_view_relative_terms`);
- writes their sum into a reused buffer, which fused attention adds to the scores as its mask;
- applies norms, activations and residuals, which work on each token separately, to chunks of
  tokens, into buffers that are reused for every image.

References: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection,
arXiv:2203.16527 (windows); Li et al., MViTv2, arXiv:2112.01526 (decomposed relative
positions); Dao et al., FlashAttention, arXiv:2205.14135.

Sizes: S side of the input in pixels, G side of the token grid, N = G·G tokens,
D channels, H heads, d = D / H channels per head; W windows of T = side·side tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear, functional

from maskmill import ImageError

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT
    from segment_anything.modeling.image_encoder import Attention, Block

#: Tokens that pass through norm, linear layer and activation at a time: few enough for their
#: temporaries to stay in the CPU's cache, and enough for matrix products to run at full speed.
CHUNK = 1024
#: Windows whose attention is computed at a time.
WINDOWS = 5
#: Queries that fused attention gives to one thread.
QUERIES_PER_THREAD = 256


class FastEncoder:
    """Computes the same embedding as the `ImageEncoderViT` of `segment_anything`, one image at a time.

    Not thread-safe: buffers are reused from call to call.

    Args:
        encoder: the original, in evaluation mode; its weights are shared, so it must stay on its device.

    Raises:
        ValueError: not an encoder as SAM's: without relative positions, or with tables for another grid.
    """

    def __init__(self, encoder: ImageEncoderViT) -> None:
        self.encoder = encoder
        self.blocks = [_Block(block, encoder.pos_embed.shape[1]) for block in encoder.blocks]
        self._buffers: _Buffers | None = None

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Encode one image.

        Args:
            pixels: float (1, 3, S, S), normalised and padded by `Sam.preprocess`.

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
            block.apply_mlp(buffers)
        return self._apply_neck(buffers.tokens, grid)

    def _apply_neck(self, tokens: Tensor, grid: int) -> Tensor:
        """Apply two convolutions, each followed by a norm over channels: (N, D) to (1, C, G, G).

        The first has kernel 1, so it is a matrix product with the tokens as they lie.
        """
        point_wise, norm, convolution, last_norm = self.encoder.neck
        rows = tokens @ point_wise.weight.flatten(1).t()
        rows = functional.layer_norm(rows, norm.weight.shape, norm.weight, norm.bias, norm.eps)
        result: Tensor = last_norm(convolution(rows.t().reshape(1, -1, grid, grid)))
        return result


class GpuEncoder(FastEncoder):
    """The fast encoder in half precision, compiled, or both; input and output stay float32.

    The decoder always computes in float32: it takes little of the time, and its logits decide every pixel.

    Args:
        encoder: the original, on its device; its weights are converted in place.
        half: compute in float16.
        compiled: use `torch.compile`, which takes up to minutes at the first image.
        backend: of `torch.compile`.
    """

    def __init__(self, encoder: ImageEncoderViT, half: bool, compiled: bool, backend: str = "inductor") -> None:
        self.dtype = torch.float16 if half else torch.float32
        super().__init__(encoder.to(self.dtype))
        for block in self.blocks:
            block.relative = block.relative.clone()  # compilers refuse tensors made in inference mode
        encode = FastEncoder.__call__.__wrapped__  # type: ignore[attr-defined]  # without inference mode
        self._encode = torch.compile(encode, backend=backend, dynamic=False) if compiled else encode

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `FastEncoder.__call__`.

        Raises:
            ImageError: the values of this image exceed the range of float16.
        """
        with torch.inference_mode(False), torch.no_grad():
            embedding: Tensor = self._encode(self, pixels.to(self.dtype, copy=True)).float()
        if self.dtype == torch.float16 and not embedding.isfinite().all():
            raise ImageError("this image exceeds the range of half precision; use `half: false`")
        return embedding


@dataclass(frozen=True, slots=True)
class _Buffers:
    """Memory that every image and every block reuses.

    Attributes:
        tokens: (N, D), the residual stream.
        qkv: (N + 1, 3·D), queries, keys and values; the last row is that of every padding token.
        attended: (N, D), the result of attention, before its output projection.
        hidden: (CHUNK, M), the hidden layer of the two-layer network.
        head: (3, N, d), queries, keys and values of one head.
        products: queries times the tables of relative positions, flat.
        bias: the relative-position terms of the scores computed at a time, flat.
        gathered: (WINDOWS·T, 3·D), the rows of qkv of the windows computed at a time.
        windows: (W·T, D), the result of attention, window by window.
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
            hidden=empty(min(CHUNK, count), max(block.width for block in blocks)),
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
        self.relative = _flip_tables(attention, side)
        self.width: int = self.lin1.weight.shape[0]
        on_cpu = self.proj.weight.device.type == "cpu"
        self.queries = min(grid * grid, QUERIES_PER_THREAD * 2 * torch.get_num_threads()) if on_cpu else grid * grid

    @property
    def scores_at_a_time(self) -> int:
        """How many attention scores are computed at once: the size of the bias buffer."""
        if self.windows is None:
            return self.queries * self.grid**2
        return WINDOWS * self.heads * self.windows.tokens**2

    @property
    def products_at_a_time(self) -> int:
        """How many products of queries with `relative` are computed at once: the size of their buffer."""
        queries = self.grid**2 if self.windows is None else WINDOWS * self.heads * self.windows.tokens
        return queries * self.relative.shape[1]

    def attend(self, buffers: _Buffers) -> None:
        """Add attention to the residual stream: x += proj(attention(norm1(x)))."""
        tokens, qkv = buffers.tokens, buffers.qkv
        for part in _split(len(tokens), CHUNK):
            normed = self.norm1(tokens[part])
            torch.addmm(self.qkv.bias, normed, self.qkv.weight.t(), out=qkv[part])
        if self.windows is None:
            self._attend_grid(buffers)
        else:
            self._attend_windows(buffers, self.windows)
        tokens.add_(self.proj.bias).addmm_(buffers.attended, self.proj.weight.t())

    def apply_mlp(self, buffers: _Buffers) -> None:
        """Add the two-layer network to the residual stream: x += lin2(gelu(lin1(norm2(x))))."""
        for part in _split(len(buffers.tokens), CHUNK):
            tokens = buffers.tokens[part]
            hidden = buffers.hidden[: len(tokens), : self.width]
            torch.addmm(self.lin1.bias, self.norm2(tokens), self.lin1.weight.t(), out=hidden)
            torch.ops.aten.gelu_(hidden)  # the exact GELU in place, for which torch has no public function
            tokens.add_(self.lin2.bias).addmm_(hidden, self.lin2.weight.t())

    def _attend_grid(self, buffers: _Buffers) -> None:
        """Every token attends to every token, for one head and some rows of the grid at a time.

        The bias is as large as the scores (N² numbers per head), so it is built for these rows only.
        """
        grid, count = self.grid, self.grid**2
        by_head = buffers.qkv[:count].view(count, 3, self.heads, -1)
        attended = buffers.attended.view(count, self.heads, -1)
        for head in range(self.heads):
            buffers.head.copy_(by_head[:, :, head].transpose(0, 1))
            query, key, value = buffers.head  # (N, d) each
            vertical, horizontal = _view_relative_terms(self._multiply_tables(query, buffers), 1, grid)
            for part in _split(grid, max(1, self.queries // grid)):
                lines = part.stop - part.start
                bias = buffers.bias[: lines * grid * count].view(lines, grid, grid, grid)
                torch.add(vertical[0, part, :, :, None], horizontal[0, part, :, None, :], out=bias)
                queries = slice(part.start * grid, part.stop * grid)
                attended[queries, head] = _attend(
                    query[None, None, queries], key[None, None], value[None, None], bias.view(1, 1, -1, count)
                )[0, 0]

    def _attend_windows(self, buffers: _Buffers, windows: _Windows) -> None:
        """Every token attends to the tokens of its window, some windows at a time.

        Padding tokens attend, too, as in the original; `place` leaves their results out.
        """
        buffers.qkv[-1] = self.qkv.bias
        side, size = windows.side, windows.tokens
        for part in _split(windows.count, WINDOWS):
            members = windows.members[part]  # (w, T)
            count = len(members)
            gathered = buffers.gathered[: members.numel()]
            torch.index_select(buffers.qkv, 0, members.flatten(), out=gathered)
            # Three views (w, H, T, d).
            query, key, value = gathered.view(count, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            vertical, horizontal = _view_relative_terms(self._multiply_tables(query, buffers), count * self.heads, side)
            bias = buffers.bias[: count * self.heads * size * size]
            shape = (count * self.heads, side, side, side, side)
            torch.add(vertical[..., None], horizontal[..., None, :], out=bias.view(shape))
            result = _attend(query, key, value, bias.view(count, self.heads, size, size))
            buffers.windows.view(-1, size, self.heads, result.shape[-1])[part] = result.transpose(1, 2)
        torch.index_select(buffers.windows, 0, windows.place, out=buffers.attended)

    def _multiply_tables(self, query: Tensor, buffers: _Buffers) -> Tensor:
        """Multiply queries (..., d) by the flipped tables: (queries, 2·(2·side - 1))."""
        rows = query.reshape(-1, query.shape[-1])
        width = self.relative.shape[1]
        return torch.mm(rows, self.relative, out=buffers.products[: len(rows) * width].view(-1, width))


class _Windows:
    """Which tokens each window holds.

    Attributes:
        side: tokens along one side of a window.
        tokens: T, tokens in a window.
        count: W, windows that cover the grid.
        members: int64 (W, T), the indices of each window's tokens; N stands for padding.
        place: int64 (N,), the position of each token of the grid among the W·T tokens of all windows.
    """

    def __init__(self, grid: int, side: int, device: torch.device) -> None:
        across = -(-grid // side)
        numbers = torch.full((across * side, across * side), grid * grid)
        numbers[:grid, :grid] = torch.arange(grid * grid).view(grid, grid)
        members = numbers.view(across, side, across, side).transpose(1, 2).reshape(across**2, side**2)
        self.side, self.tokens, self.count = side, side**2, across**2
        self.members = members.to(device)
        # Sorting `members` inverts it: the first N entries are the positions of tokens 0 to N - 1.
        self.place = members.flatten().argsort(stable=True)[: grid * grid].to(device)


def _split(count: int, size: int) -> list[slice]:
    """Split `range(count)` into slices of at most `size`."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _flip_tables(attention: Attention, side: int) -> Tensor:
    """Flip both tables of relative positions and join them, (d, 2·(2·side - 1)): first vertical, then horizontal.

    Raises:
        ValueError: the attention has no such tables, or tables for another side.
    """
    tables = [getattr(attention, name, None) for name in ("rel_pos_h", "rel_pos_w")]
    if any(table is None or len(table) != 2 * side - 1 for table in tables) or attention.qkv.bias is None:
        raise ValueError(f"not an encoder of SAM: no relative positions for a grid of {side}×{side} tokens")
    with torch.inference_mode():
        return torch.cat([table.flip(0) for table in tables if table is not None]).t().contiguous()


def _view_relative_terms(products: Tensor, batch: int, side: int) -> tuple[Tensor, Tensor]:
    """Views of the relative-position terms, (batch, side, side, side) each.

    `vertical[b, y, x, j]` belongs to the query at (y, x) and all keys in row j,
    `horizontal[b, y, x, j]` to all keys in column j.

    Between a query in row y and a key in row j, the original multiplies the query by entry
    y - j + side - 1 of the table. In the flipped table, which has 2·side - 1 entries, that is entry
    side - 1 - y + j. So the terms of a query are `side` neighbouring entries of its row of products,
    starting one entry earlier for each further y. A view does exactly that: base offset side - 1,
    stride 1 for j, and a stride for y that is one less than the distance between rows. The same
    holds for x and the second half of each row.

    Args:
        products: (batch·side·side, 2·(2·side - 1)), contiguous: queries times `_flip_tables`.
        batch: independent grids.
        side: tokens along one side.
    """
    width = 2 * side - 1
    row = 2 * width
    shape = (batch, side, side, side)
    vertical = products.as_strided(shape, (side * side * row, side * row - 1, row, 1), side - 1)
    horizontal = products.as_strided(shape, (side * side * row, side * row, row - 1, 1), width + side - 1)
    return vertical, horizontal


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """softmax(query · keyᵀ / √d + bias) · value, batched over the first two axes; the scores are never stored whole."""
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
