"""Settings of checkpoints: typed getters, and rope in both layouts of transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pitool.checkpoint.config import Config, read_config
from pitool.checkpoint.tensors import Tensor
from pitool.errors import BadInput

PATH = Path("model/config.json")


def config(**values: Any) -> Config:
    return Config(values, PATH)


def test_getters_return_what_is_there() -> None:
    c = config(model_type="llama", n=3, x=1, y=2.5, f=True, architectures=["LlamaForCausalLM"])
    assert (c.model_type, c.architecture) == ("llama", "LlamaForCausalLM")
    assert c.count("n") == 3
    assert (c.number("x"), c.number("y")) == (1.0, 2.5)
    assert c.flag("f", default=False) is True


def test_getters_take_their_default_for_what_is_missing_or_null() -> None:
    c = config(null=None)
    assert c.count("null", 5) == c.count("gone", 5) == 5
    assert c.number("null", 0.5) == c.number("gone", 0.5) == 0.5
    assert c.flag("gone", default=True) is True
    assert c.flag("null", default=True) is False  # as transformers takes it


@pytest.mark.parametrize("names", [None, [], "LlamaForCausalLM", {}])
def test_an_architecture_without_a_name_is_unknown(names: object) -> None:
    assert config(architectures=names).architecture == "unknown"


COUNT: list[object] = [None, 0, -1, 2.0, True, "3", [3], 1 << 31, float("nan")]
NUMBER: list[object] = [None, True, "3", [3], float("nan"), float("inf"), -float("inf"), 10**400]
TEXT: list[object] = [None, "", 3, [], {}]
FLAG: list[object] = [0, 1, "true", []]
REFUSED: list[tuple[str, Callable[[Config], object], object]] = [
    *(("count", lambda c: c.count("key"), value) for value in COUNT),
    *(("number", lambda c: c.number("key"), value) for value in NUMBER),
    *(("text", lambda c: c.text("key"), value) for value in TEXT),
    *(("flag", lambda c: c.flag("key", default=False), value) for value in FLAG),
]


@pytest.mark.parametrize(
    ("get", "value"), [pytest.param(g, v, id=f"{name}-{v!r}") for name, g, v in REFUSED]
)
def test_what_cannot_be_is_refused_by_name(get: Callable[[Config], object], value: object) -> None:
    with pytest.raises(BadInput, match=r"config\.json: 'key' is .*, but .* is needed"):
        get(config(key=value))


# -- the file ------------------------------------------------------------------------------


def test_read_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    read = read_config(tmp_path)
    assert read.values == {"model_type": "llama"}
    assert read.path == tmp_path / "config.json"


def test_a_folder_without_settings(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is not a checkpoint: it has no config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"[1, 2]", b"null", b'"text"', b"3"],
    ids=["empty", "cut", "no UTF-8", "nested", "list", "null", "text", "number"],
)
def test_settings_that_are_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(
        BadInput, match=r"cannot read .*config\.json|config\.json is (not a JSON object|empty)"
    ):
        read_config(tmp_path)


def test_settings_that_are_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(BadInput, match=r"config\.json is a folder, not a file"):
        read_config(tmp_path)


def test_an_adapter_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"is a LoRA adapter, not a checkpoint.*--lora"):
        read_config(tmp_path)


def test_real_settings_are_read(shared_data: Path) -> None:
    folders = sorted((shared_data / "configs").iterdir())
    assert len(folders) >= 10
    for folder in folders:
        read = read_config(folder)
        assert read.model_type
        assert read.count("vocab_size") > 1000


WHOLE = "tie_word_embeddings"


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("kind", ["gemma3", "gemma3n", "gemma4", "mistral3", "qwen3_5"])
@pytest.mark.parametrize(
    ("whole", "text"), [({}, {}), ({WHOLE: True}, {}), ({WHOLE: False}, {}), ({}, {WHOLE: False})]
)
def test_the_weights_of_a_multimodal_model_say_whether_it_has_a_head(
    kind: str, whole: dict[str, Any], text: dict[str, Any], there: bool
) -> None:
    """transformers 4 reads the text model's setting, transformers 5 the whole one's."""
    names = ["model.embed_tokens.weight", *(["lm_head.weight"] if there else [])]
    index = {n: Tensor(n, "F32", (4, 4), Path("m.safetensors"), 0, 64) for n in names}
    values = {"model_type": kind, "text_config": text, **whole}
    assert Config(values, Path("c.json"), index).text_model().tied is not there


@pytest.mark.parametrize(("text", "tied"), [({WHOLE: True}, True), ({WHOLE: False}, False)])
def test_before_there_are_weights_its_text_models_setting_counts(
    text: dict[str, Any], tied: bool
) -> None:
    values = {"model_type": "gemma3", "text_config": text, WHOLE: not tied}
    assert Config(values, Path("nowhere/c.json")).text_model().tied is tied
