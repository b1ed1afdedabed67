"""OLMo 2: norms after attention and MLP instead of before, and over all queries and keys."""

from __future__ import annotations

from pitool.convert.gguf.families.base import Sizes
from pitool.convert.gguf.families.decoder import POST_NORMS, Decoder


class Olmo2(Decoder):
    """``model_type`` olmo2."""

    architecture = "olmo2"
    norms = POST_NORMS

    def qk_norms(self, sizes: Sizes) -> tuple[int, int]:
        """Return one norm over all heads."""
        return sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim


FAMILY = Olmo2()
