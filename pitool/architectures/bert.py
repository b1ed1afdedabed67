"""BERT: an encoder, whose tokens see each other both ways; its text's vector is its product."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Biases, Description, Layout, Norm
from pitool.architectures.gguf import DecoderFile, tensor
from pitool.architectures.settings import Settings
from pitool.catalog import reading
from pitool.errors import BadInput

LAYOUT = Layout(
    embedding="embeddings.word_embeddings",
    positions="embeddings.position_embeddings",
    layer="encoder.layer.{}.",
    before_attention="",
    after_attention="attention.output.LayerNorm",
    before_mlp="",
    after_mlp="output.LayerNorm",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    gate="",
    up="intermediate.dense",
    down="output.dense",
    norm="embeddings.LayerNorm",
)
_WRAPPER = "bert."
# llama.cpp's numbers for how the vectors of tokens become one, by sentence-transformers' names.
POOLINGS = {
    "pooling_mode_mean_tokens": 1,
    "pooling_mode_cls_token": 2,
    "pooling_mode_lasttoken": 3,
}


def describe(settings: Settings) -> Description:
    """Return what the settings mean; BadInput for a model with a head instead of vectors."""
    heads = [n for n in settings.value("architectures") or [] if "Classification" in str(n)]
    if heads:
        raise BadInput(
            f"{settings.path}: {heads[0]} is not supported: it ranks texts and makes no vectors",
            "convert a BERT model for embeddings",
        )
    settings.only("position_embedding_type", "absolute", "another embedding of positions")
    settings.only("is_decoder", wanted=False, what="a decoder")
    settings.only("type_vocab_size", 2, "another number of segments")
    settings.note("max_position_embeddings")
    settings.ignore("num_key_value_heads", "head_dim", "tie_word_embeddings", "add_cross_attention")
    return read_decoder(
        settings,
        norm=Norm(settings.epsilon("layer_norm_eps", 1e-12), layer=True),
        biases=Biases(qkv=True, output=True, mlp=True),
        layout=LAYOUT,
        rope=None,
        tied=True,
        activation=settings.activation(default="gelu"),
        encoder=True,
    )


def pooling(folder: Path) -> int | None:
    """Return llama.cpp's number of how a text's vector is made, None where no file says it."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return None
    listed = reading.read_json(modules)
    paths = [
        str(each.get("path"))
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict) and str(each.get("type")).endswith("Pooling")
    ]
    if not paths or Path(paths[0]).is_absolute() or ".." in Path(paths[0]).parts:
        return None
    modes = reading.read_object(folder / paths[0] / "config.json")
    chosen = [number for name, number in POOLINGS.items() if modes.get(name) is True]
    if len(chosen) != 1:
        raise BadInput(
            f"{folder / paths[0]}: this pooling is not supported",
            "convert a model that pools by the mean, by [CLS] or by the last token",
        )
    return chosen[0]


class BertFile(DecoderFile):
    """Tensors in the order of the checkpoint, which llama.cpp's converter keeps."""

    architecture = "bert"
    activations = ("gelu",)
    more_biases = True

    def ends(self, model: Description) -> Iterator[Wanted]:
        """Yield the embeddings of tokens, positions and segments, and their norm."""
        sizes, layout = model.sizes, model.layout
        yield from _both("token_embd_norm", layout.norm, sizes.hidden)
        for target, source, rows in (
            ("position_embd", layout.positions, sizes.context),
            ("token_types", "embeddings.token_type_embeddings", 2),
            ("token_embd", layout.embedding, sizes.vocabulary),
        ):
            yield _one(f"{target}.weight", f"{source}.weight", rows, sizes.hidden)

    def layer(self, i: int, model: Description) -> Iterator[Wanted]:
        """Yield the tensors of one layer."""
        here, there, layout = model.layout.layer.format(i), f"blk.{i}", model.layout
        hidden, wide = model.sizes.hidden, model.sizes.feed_forward
        for target, source, shape in (
            ("attn_output_norm", layout.after_attention, (hidden,)),
            ("attn_output", layout.output, (hidden, hidden)),
            ("attn_k", layout.key, (hidden, hidden)),
            ("attn_q", layout.query, (hidden, hidden)),
            ("attn_v", layout.value, (hidden, hidden)),
            ("ffn_up", layout.up, (wide, hidden)),
            ("layer_output_norm", layout.after_mlp, (hidden,)),
            ("ffn_down", layout.down, (hidden, wide)),
        ):
            yield from _both(f"{there}.{target}", f"{here}{source}", *shape)

    def common(self, model: Description) -> dict[str, Any]:
        """Return the keys that its loader reads."""
        keys = super().common(model)
        del keys["attention.head_count_kv"], keys["attention.layer_norm_rms_epsilon"]
        return keys

    def special(self, model: Description) -> dict[str, Any]:
        """Return the epsilon of the norms, and how a text's vector is made."""
        pooled = pooling(model.path.parent)
        return {
            "attention.layer_norm_epsilon": model.norm.epsilon,
            "attention.causal": False,
            **({} if pooled is None else {"pooling_type": pooled}),
        }


def _both(target: str, source: str, *shape: int) -> Iterator[Wanted]:
    yield _one(f"{target}.bias", f"{source}.bias", shape[0])
    yield _one(f"{target}.weight", f"{source}.weight", *shape)


def _one(target: str, source: str, *shape: int) -> Wanted:
    return tensor(target, source, *shape, fallback=_WRAPPER + source)


ARCHITECTURE = Architecture("BERT (embeddings)", describe, BertFile())
