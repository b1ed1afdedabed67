"""What a shape tells of caches and of what a decode reads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pitool.catalog.model_shape import TensorShape
from pitool.planning.formats.gguf_memory import kv_cache_bytes
from tests.planning.shapes import shape


def test_every_layer_has_the_same_cache_unless_told() -> None:
    model = shape()  # 3 layers, 4 key-value heads of 32
    assert model.layer_caches() == ((0, 128),) * 3
    assert kv_cache_bytes(model, 256, "f16") == 3 * 256 * 128 * 2 * 2


def test_a_layer_without_attention_has_no_cache() -> None:
    model = replace(shape(), kv_rows=(128, 0, 64), windows=(0, 0, 512))
    assert model.layer_caches() == ((0, 128), (0, 0), (512, 64))
    assert kv_cache_bytes(model, 256, "f16") == 256 * (128 + 64) * 2 * 2


def test_a_decode_reads_the_experts_that_are_used() -> None:
    model = replace(shape(), experts=128, experts_used=8)
    assert model.read_share("blk.0.ffn_gate_exps.weight") == pytest.approx(1 / 16)
    assert model.read_share("blk.0.attn_q.weight") == 1.0
    assert model.read_share("token_embd.weight") == 1.0


@pytest.mark.parametrize(
    ("name", "layer", "part"),
    [
        ("blk.3.attn_v.weight", 3, "attn_v"),
        ("blk.12.shortconv.in_proj.weight", 12, "shortconv.in_proj"),
        ("token_embd.weight", -1, ""),
        ("per_layer_model_proj.weight", -1, ""),
    ],
)
def test_a_name_tells_layer_and_part(name: str, layer: int, part: str) -> None:
    tensor = TensorShape(name, (2, 2))
    assert (tensor.layer, tensor.part) == (layer, part)


@pytest.mark.parametrize(
    "name", ["per_layer_token_embd.weight", "position_embd.weight", "token_types.weight"]
)
def test_other_tables_give_one_row_as_well(name: str) -> None:
    assert shape().read_share(name) == 0.0


def test_an_untied_embedding_gives_one_row() -> None:
    model = shape(tie_word_embeddings=False)
    assert model.read_share("token_embd.weight") == 0.0
    assert model.read_share("output.weight") == 1.0
