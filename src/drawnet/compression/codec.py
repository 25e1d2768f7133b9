"""Lossless coding of images by a step model: bits back (Townsend et al. 2019, arXiv 1901.04866).

The coder is a stack of bits.  For a batch of images the encoder

    pops   z_1, …, z_T    by q(z_t | x, z_<t)      what lies on the stack chooses the latents
    pushes x              by p(x | z)
    pushes z_T, …, z_1    by the prior             log2(bins) bits each: bins have equal mass

and the decoder does the same backwards, whereby it gets back the bits that chose z.  What is paid is
-log p(x | z) - log p(z) + log q(z | x), the bound.  A batch needs the bits of its latents before it can
begin: the first images, packed by bz2, are these bits, and batches grow with the stack.
"""

import bz2
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drawnet.compression import tables
from drawnet.compression.exact import Exact
from drawnet.errors import UserError
from drawnet.models.sequential import StepModel
from drawnet.nn.distributions import Gaussian, Pixels

try:
    import constriction
except ImportError as why:
    raise UserError("compression needs constriction: pip install 'drawnet[compression]'") from why

Array = NDArray[Any]
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Sizes of batches."""
SPARE = 512
"""Bits that stay on the stack whatever is popped."""
BINS = 64
"""Bins of a latent."""
SILENT = 1e-3
"""The share of the rate that all channels together may have that are not coded."""
CHUNK = 1 << 23
"""Frequencies that are in memory at a time."""


class Stack:
    """A stack of bits, on which symbols are pushed, and off which they are popped, by frequencies."""

    def __init__(self, content: bytes, *, seal: bool) -> None:
        """seal: keep the content's zeros at the end, which `content(unseal=True)` gives back."""
        words = np.frombuffer(content, "<u4").astype(np.uint32)
        self.coder = constriction.stream.stack.AnsCoder(words, seal)
        self.family = constriction.stream.model.Categorical(perfect=False)

    def __len__(self) -> int:
        """Bits on the stack."""
        return int(self.coder.num_valid_bits())

    def push(self, symbols: Tensor, table: Tensor) -> None:
        """Push symbols (…), by frequencies (…, L)."""
        flat = symbols.reshape(-1).numpy().astype(np.int32)
        self.coder.encode_reverse(flat, self.family, self._rows(table))

    def pop(self, table: Tensor) -> Tensor:
        """Pop symbols, int64 (…), by frequencies (…, L)."""
        flat = self.coder.decode(self.family, self._rows(table))
        return torch.from_numpy(flat.astype(np.int64)).view(table.shape[:-1])

    def push_uniform(self, symbols: Tensor, n: int) -> None:
        """Push symbols out of 0 .. n-1, which cost log2 n bits each."""
        uniform = constriction.stream.model.Uniform(n)
        self.coder.encode_reverse(symbols.reshape(-1).numpy().astype(np.int32), uniform)

    def pop_uniform(self, n: int, *shape: int) -> Tensor:
        """Pop symbols out of 0 .. n-1, int64."""
        flat = self.coder.decode(constriction.stream.model.Uniform(n), math.prod(shape))
        return torch.from_numpy(flat.astype(np.int64)).view(shape)

    def content(self, *, unseal: bool = False) -> bytes:
        """Return the bits on the stack as bytes, four by four."""
        try:
            words = self.coder.get_compressed(unseal)
        except AssertionError:
            raise ValueError("its content is not what was written") from None
        return bytes(words.astype("<u4").tobytes())

    @staticmethod
    def _rows(table: Tensor) -> Array:
        return table.reshape(-1, table.shape[-1]).contiguous().numpy()


@dataclass(frozen=True)
class Coded:
    """Images as bits, and what is needed beside the model to get them back."""

    images: int
    bins: int
    """Bins of a latent, of equal mass under the prior."""
    used: tuple[int, ...]
    """The channels of z that are coded; the others say nothing and are at the prior's mean."""
    packed: int
    """How many of the images, the first ones, are packed by bz2."""
    batches: list[tuple[int, int]]
    """(size, number) of the batches of the others, in order."""
    content: bytes
    model_bits: int = 0
    """What the others added to the stack."""


class Codec:
    """Codes images by one model."""

    def __init__(
        self, model: StepModel, levels: int, used: Sequence[int] = (), bins: int = BINS
    ) -> None:
        """model: in float64 on the CPU, without kernels; levels: values of a pixel, 2 or 256.

        used: channels of z that are coded; none: all.
        """
        self.model, self.levels, self.bins = model, levels, bins
        self.used = torch.tensor(used or range(model.latents[0]))
        self.latents = (len(self.used), *model.latents[1:])
        latents = model.steps * math.prod(self.latents)
        self.need = math.ceil(1.1 * latents * math.log2(bins))
        """Bits that an image's latents take off the stack: these on the average, at most, + 10 %."""
        self.most = max(1, CHUNK // (bins * math.prod(self.latents)))
        """Images in a batch."""

    # ---- a batch --------------------------------------------------------------------------------

    def push(self, stack: Stack, pixels: Tensor, labels: Tensor) -> None:
        """Push images, uint8 (B, C, H, W), with labels int64 (B,)."""
        model, chosen = self.model, []
        x, y = self._inputs(pixels, labels)
        state = model.observe(x, model.start(y))
        for _ in range(model.steps):
            q, state = model.infer(x, state)
            p = model.prior(state)
            k = stack.pop(tables.latent_table(self.relative(q, p), self.bins))
            chosen.append(k)
            state = model.advance(self.place(k, p), state)
        self._push_pixels(stack, model.likelihood(state), x, pixels.long())
        for k in reversed(chosen):
            stack.push_uniform(k, self.bins)
        if model.classes > 1:
            stack.push_uniform(labels, model.classes)

    def pop(self, stack: Stack, n: int) -> tuple[Tensor, Tensor]:
        """Pop the n images and labels that `push` pushed last."""
        model, chosen, posteriors = self.model, [], []
        labels = torch.zeros(n, dtype=torch.int64)
        if model.classes > 1:
            labels = stack.pop_uniform(model.classes, n)
        pixels = torch.zeros(n, *model.shape, dtype=torch.uint8)
        _, y = self._inputs(pixels, labels)
        state = model.start(y)
        for _ in range(model.steps):
            k = stack.pop_uniform(self.bins, n, *self.latents)
            chosen.append(k)
            state = model.advance(self.place(k, model.prior(state)), state)
        pixels = self._pop_pixels(stack, model.likelihood(state), pixels)
        x, _ = self._inputs(pixels, labels)
        state = model.observe(x, model.start(y))
        for k in chosen:
            q, state = model.infer(x, state)
            p = model.prior(state)
            posteriors.append(self.relative(q, p))
            state = model.advance(self.place(k, p), state)
        for k, q in zip(reversed(chosen), reversed(posteriors), strict=True):
            stack.push(k, tables.latent_table(q, self.bins))
        return pixels, labels

    def relative(self, q: Gaussian, p: Gaussian | None) -> Gaussian:
        """q of the channels that are coded, in the prior's units: of (z - mu_p) / sigma_p."""
        if p is not None:
            q = Gaussian(p.standardise(q.mu), q.log_sigma - p.log_sigma)
        return Gaussian(q.mu[:, self.used], q.log_sigma[:, self.used])

    def place(self, k: Tensor, p: Gaussian | None) -> Tensor:
        """z at the centres of its bins k, int64; the prior's mean in channels that are not coded."""
        u = torch.zeros(len(k), *self.model.latents, dtype=torch.float64)
        u[:, self.used] = tables.bins(self.bins)[1][k]
        return u if p is None else p.sample(u)

    def _inputs(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        x = pixels.double() / (self.levels - 1)
        return x, self.model.encode_labels(labels, self.model.classes).double()

    def _parts(self, p: Pixels, n: int) -> list[tuple[int, slice]]:
        """(stage, images) of what is coded at a time, in the decoder's order."""
        some = max(1, CHUNK // (math.prod(self.model.shape) * self.levels))
        slices = [slice(first, first + some) for first in range(0, n, some)]
        return [(stage, part) for stage in range(tables.stages(p)) for part in slices]

    def _push_pixels(self, stack: Stack, p: Pixels, x: Tensor, levels: Tensor) -> None:
        for stage, part in reversed(self._parts(p, len(x))):
            table = tables.pixel_table(_images(p, part), x[part], stage)
            chosen = levels[part] if table.dim() == 5 else levels[part, stage]
            stack.push(chosen, table)

    def _pop_pixels(self, stack: Stack, p: Pixels, pixels: Tensor) -> Tensor:
        for stage, part in self._parts(p, len(pixels)):
            x = pixels[part].double() / (self.levels - 1)
            found = stack.pop(tables.pixel_table(_images(p, part), x, stage)).to(torch.uint8)
            if found.dim() == 4:
                pixels[part] = found
            else:
                pixels[part, stage] = found
        return pixels

    # ---- all images -----------------------------------------------------------------------------

    @torch.no_grad()
    def encode(
        self, pixels: Array, labels: Array, progress: Callable[[int], object] = lambda n: None
    ) -> Coded:
        """Code images, uint8 (n, C, H, W) of 0 .. levels - 1, with labels int64 (n,)."""
        done, packed = self._pack(pixels, labels)
        stack, first, sizes = Stack(packed, seal=True), done, []
        progress(done)
        images, numbers = torch.from_numpy(pixels), torch.from_numpy(labels)
        start = len(stack)
        with Exact(self.model):
            while done < len(pixels):
                size = self._size(stack)
                part = slice(done, min(done + size, len(pixels)))
                self.push(stack, images[part], numbers[part])
                sizes.append(part.stop - done)
                progress(sizes[-1])
                done = part.stop
        runs = [(size, len(list(same))) for size, same in groupby(sizes)]
        bits = len(stack) - start
        used = tuple(self.used.tolist())
        return Coded(len(pixels), self.bins, used, first, runs, stack.content(), bits)

    @torch.no_grad()
    def decode(
        self, coded: Coded, progress: Callable[[int], object] = lambda n: None
    ) -> tuple[Array, Array]:
        """Return the images and labels of which `encode` made this; ValueError if there are none."""
        stack = Stack(coded.content, seal=False)
        pixels = np.empty((coded.images, *self.model.shape), np.uint8)
        labels = np.empty(coded.images, np.int64)
        end = coded.images
        with Exact(self.model):
            for size in _backwards(coded.batches):
                part = slice(end - size, end)
                found, numbers = self.pop(stack, size)
                pixels[part], labels[part] = found.numpy(), numbers.numpy()
                if len(stack) < SPARE:
                    raise ValueError("its content ends too early")
                progress(size)
                end = part.start
        pixels[:end], labels[:end] = self._unpack(stack.content(unseal=True), end)
        progress(end)
        return pixels, labels

    def _size(self, stack: Stack) -> int:
        """How many images are coded next: the stack has the bits for their latents."""
        affordable = (len(stack) - SPARE) // self.need
        if affordable < 1:
            raise UserError("the images cost next to nothing: the coder has no bits to go on with")
        return max(b for b in BATCHES if b <= max(1, min(self.most, affordable)))

    # ---- the first images -----------------------------------------------------------------------

    def _pack(self, pixels: Array, labels: Array) -> tuple[int, bytes]:
        """Pack as many images as it takes to begin: their number, and bytes in fours."""
        count, packed = 0, b""
        need = self.need + SPARE
        while 8 * len(packed) < need and count < len(pixels):
            missing = need / max(8 * len(packed), 1)
            count = min(len(pixels), max(count + 1, int(count * min(missing, 2))))
            text = pixels[:count].tobytes() + labels[:count].astype("<u2").tobytes()
            packed = bz2.compress(text)
        return count, packed + bytes(-len(packed) % 4)

    def _unpack(self, packed: bytes, count: int) -> tuple[Array, Array]:
        size = count * math.prod(self.model.shape)
        unpacker = bz2.BZ2Decompressor()
        text = unpacker.decompress(packed, size + 2 * count + 1) if count else b""
        if len(text) != size + 2 * count:
            raise ValueError("the first images are not there")
        pixels = np.frombuffer(text[:size], np.uint8).reshape(-1, *self.model.shape)
        labels = np.frombuffer(text[size:], "<u2").astype(np.int64)
        if (pixels >= self.levels).any():
            raise ValueError("pixels are out of range")
        return pixels, labels


@torch.no_grad()
def used_channels(model: StepModel, x: Tensor, y: Tensor) -> list[int]:
    """Return the channels of z that say something of images x (B, C, H, W) with labels y.

    The others, in the order of their KL, have together at most a share `SILENT` of the rate: for the
    decoder they are as good as constant.  With z at the mean of q, which is near enough.
    """
    state = model.observe(x, model.start(y))
    rate = torch.zeros(model.latents[0], dtype=torch.float64)
    for _ in range(model.steps):
        q, state = model.infer(x, state)
        p = model.prior(state)
        for c in range(len(rate)):
            rate[c] += _channel(q, c).kl(p and _channel(p, c)).mean()
        state = model.advance(q.mu, state)
    order = rate.argsort()
    silent = rate[order].cumsum(0) <= SILENT * rate.sum()
    return sorted(order[~silent].tolist()) or [0]


def _channel(q: Gaussian, c: int) -> Gaussian:
    return Gaussian(q.mu[:, c : c + 1], q.log_sigma[:, c : c + 1])


def _images(p: Any, part: slice) -> Any:
    """The distribution over some of the images."""
    return type(p)(*(_images(v, part) if isinstance(v, tuple) else v[part] for v in p))


def _backwards(batches: list[tuple[int, int]]) -> Iterator[int]:
    for size, number in reversed(batches):
        yield from [size] * number
