"""MatMulNBits' blocks by error feedback: symmetric, with float32 scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pitool.convert.feedback import Steps
from pitool.convert.lattice import Floats, inverse_of

# Scales that are tried, as shares of the one that keeps the largest weight.
SHRINKS = np.linspace(1.05, 0.6, 19, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class NBitsGrid:
    """Blocks of ``block`` columns with ``bits`` a weight, whose middle level is zero."""

    bits: int
    block: int

    @property
    def half(self) -> int:
        """Levels below zero; above it there is one less."""
        return 1 << (self.bits - 1)

    def steps(self, rows: Floats, importance: Floats) -> Steps:
        """Return the scale of each row of a block that loses least."""
        scales = self.scales(rows[:, None], importance)
        values = np.arange(-self.half, self.half, dtype=np.float32)
        return Steps(
            np.broadcast_to(scales.T, rows.T.shape), None, values, even=True, stored=scales[:, 0]
        )

    def scales(self, blocks: Floats, importance: Floats) -> Floats:
        """Return the scale of each block, (rows, blocks); blocks (rows, blocks, block)."""
        where = np.abs(blocks).argmax(-1)[..., None]
        extreme = np.take_along_axis(blocks, where, -1)[..., 0]
        base = extreme / np.float32(-self.half)
        best, least = base, np.full(base.shape, np.inf, np.float32)
        for shrink in SHRINKS:
            scales = base * shrink
            lost = ((self._rounded(blocks, scales) - blocks) ** 2 * importance).sum(-1)
            best, least = np.where(lost < least, scales, best), np.minimum(lost, least)
        return best

    def _rounded(self, blocks: Floats, scales: Floats) -> Floats:
        levels = np.rint(blocks * inverse_of(scales)[..., None])
        made: Floats = np.clip(levels, -self.half, self.half - 1) * scales[..., None]
        return made

    def nearest(self, rows: Floats, importance: Floats) -> Floats:
        """Return a matrix rounded to the nearest levels of its blocks' best scales."""
        blocks = rows.reshape(len(rows), -1, self.block)
        scales = self.scales(blocks, importance.reshape(-1, self.block))
        return self._rounded(blocks, scales).reshape(rows.shape)
