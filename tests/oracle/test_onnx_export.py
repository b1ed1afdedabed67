"""Architectures that the writer does not support: exported by optimum, run by the engine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.catalog.bundles import choose
from pitool.checkpoint.config import read_config
from pitool.checkpoint.lora import Adapter
from pitool.convert.gguf.model import model_shape
from pitool.convert.onnx import exporter
from pitool.convert.onnx.export import export, write_exported
from pitool.engine.base import Settings
from pitool.engine.onnx import Onnx
from pitool.errors import PitoolError
from pitool.planning.onnx_weights import find_onnx_quantisation
from tests.convert.helpers import checkpoint_of
from tests.convert.onnx.test_onnx_artifacts import convert_onnx
from tests.tiny import write_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("optimum.exporters.onnx")
pytest.importorskip("peft")
from tests.oracle.test_lora import opened, train  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.engine]

SIZES: dict[str, Any] = {"vocab_size": 512, "eos_token_id": 2, "bos_token_id": None}
CASES: dict[str, dict[str, Any]] = {
    "gpt_neox": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "max_position_embeddings": 512,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "opt": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 128,
        "word_embed_proj_dim": 64, "max_position_embeddings": 512,
    },
}  # fmt: skip
IDS = np.random.default_rng(0).integers(0, 512, 60).tolist()


def saved(folder: Path, kind: str) -> NDArray[np.float32]:
    """Save a random model of transformers; return its logits for ``IDS``."""
    write_checkpoint(folder, vocab_size=512)
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **CASES[kind]})
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)
    return logits_of(model)


def logits_of(model: Any) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor([IDS])).logits[0].numpy()
    return logits


def load(folder: Path) -> Onnx:
    return Onnx(folder, Settings(256, 1, 1, micro_batch=16, outputs=16))


def rows(loaded: Onnx, ids: list[int]) -> NDArray[np.float32]:
    """Append tokens; return the logits after each."""
    made = loaded._graph.run(ids, len(ids))
    assert made is not None
    return made


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2"])
def test_a_bundle_of_an_exported_family(tmp_path: Path, kind: str) -> None:
    wanted = saved(tmp_path / "m", kind)
    made = convert_onnx(tmp_path / "m", tmp_path / "b", "FP32,INT8,INT8_DYNAMIC,INT4_HEAD8,INT4")
    sizes = {a.quantisation: sum(f.bytes for f in a.files) for a in made.manifest.artifacts}
    assert sizes["INT4"] < sizes["INT8"] < sizes["FP32"]
    losses = {
        a.quantisation: a.certificate.mean_kl for a in made.manifest.artifacts if a.certificate
    }
    assert losses["FP32"] < 1e-6 < losses["INT8"] < losses["INT4_HEAD8"] < 1
    loaded = load(choose(made, "FP32").entry)
    scale = np.abs(wanted).max()
    assert np.abs(loaded.logits(IDS) - wanted).max() / scale < 1e-4
    loaded._graph.length = 7  # rewound, then in a chunk and one by one
    assert np.abs(rows(loaded, IDS[7:20]) - wanted[7:20]).max() / scale < 1e-4
    for i in range(20, 30):
        assert np.abs(rows(loaded, IDS[i : i + 1])[-1] - wanted[i]).max() / scale < 1e-4
    loaded.close()


def test_a_saved_state_of_an_exported_graph(tmp_path: Path) -> None:
    wanted = saved(tmp_path / "m", "gpt_neox")
    exported = export(checkpoint_of(tmp_path / "m"), tmp_path / "x")
    config = read_config(tmp_path / "m")
    folder = write_exported(
        tmp_path / "f",
        checkpoint_of(tmp_path / "m"),
        exported,
        find_onnx_quantisation("FP32"),
        model_shape(config),
    )
    loaded = load(folder)
    assert loaded.forward(IDS[:10])
    loaded.save_state(tmp_path / "state")
    loaded.clear()
    assert loaded.forward(IDS[30:40])  # as many other tokens
    assert loaded.load_state(tmp_path / "state") == 10
    after = rows(loaded, IDS[10:11])[-1]
    assert np.abs(after - wanted[10]).max() / np.abs(wanted).max() < 1e-4
    loaded.close()


@pytest.mark.parametrize(("kind", "module"), [("gpt_neox", "query_key_value"), ("gpt2", "c_attn")])
def test_a_lora_is_merged_before_the_export(tmp_path: Path, kind: str, module: str) -> None:
    plain = saved(tmp_path / "m", kind)
    model = train(tmp_path / "m", tmp_path / "a", 5, r=4, lora_alpha=8, target_modules=[module])
    wanted = logits_of(model.merge_and_unload().eval())
    scale = np.abs(wanted).max()
    assert np.abs(wanted - plain).max() / scale > 1e-2
    checkpoint = opened(tmp_path / "m", Adapter(tmp_path / "a"))
    made = exporter._graph_logits(export(checkpoint, tmp_path / "x"), IDS, 40)
    assert np.abs(made - wanted).max() / scale < 1e-4


def test_a_family_that_llama_cpp_does_not_know_is_exported(tmp_path: Path) -> None:
    wanted = saved(tmp_path / "m", "opt")
    made = convert_onnx(tmp_path / "m", tmp_path / "b", "FP32,INT8")
    losses = [a.certificate.mean_kl for a in made.manifest.artifacts if a.certificate]
    assert losses[0] < 1e-6 < losses[1] < 0.1
    loaded = load(choose(made, "FP32").entry)
    assert np.abs(loaded.logits(IDS) - wanted).max() / np.abs(wanted).max() < 1e-4
    loaded.close()


def test_settings_of_transformers_5_are_not_lost(tmp_path: Path) -> None:
    source = tmp_path / "m"
    write_checkpoint(source, kind="F32", rope_theta=500_000.0)
    wanted = logits_of(transformers.AutoModelForCausalLM.from_pretrained(source).float().eval())
    path = source / "config.json"
    values = json.loads(path.read_text())
    values["rope_parameters"] = {"rope_type": "default", "rope_theta": values.pop("rope_theta")}
    path.write_text(json.dumps(values))
    lost = logits_of(transformers.AutoModelForCausalLM.from_pretrained(source).float().eval())
    assert np.abs(lost - wanted).max() > 1e-3
    folder = export(checkpoint_of(source), tmp_path / "x")
    made = exporter._graph_logits(folder, IDS, 40)
    assert np.abs(made - wanted).max() < 1e-4


def test_other_logits_than_the_checkpoints_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "m", "gpt2")
    exact = exporter._checkpoint_logits

    def other(checkpoint: Path) -> tuple[NDArray[np.float32], list[int]]:
        logits, ids = exact(checkpoint)
        logits[-1, 3] += 0.02 * np.abs(logits).max()
        return logits, ids

    monkeypatch.setattr(exporter, "_checkpoint_logits", other)
    with pytest.raises(SystemExit, match=r"run whole, differ from the checkpoint's by 0\.02"):
        exporter.export(tmp_path / "m", tmp_path / "x")


WRONG_EXPORT = """
import sys
if "pitool.convert.onnx.exporter" in sys.orig_argv:
    import onnx
    import optimum.exporters.onnx as exporters
    from onnx import numpy_helper
    exact = exporters.main_export
    def main_export(checkpoint, folder, **options):
        exact(checkpoint, folder, **options)
        model = onnx.load(folder / "model.onnx")
        matrix = max(model.graph.initializer, key=lambda each: len(each.raw_data))
        values = numpy_helper.to_array(matrix) * 1.1
        matrix.CopyFrom(numpy_helper.from_array(values, matrix.name))
        onnx.save(model, folder / "model.onnx")
    exporters.main_export = main_export
"""


def test_an_export_that_is_wrong_leaves_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "m", "gpt2")
    patched = tmp_path / "patched"
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(WRONG_EXPORT)
    paths = [str(patched), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    (tmp_path / "bundles").mkdir()
    with pytest.raises(PitoolError, match=r"differ from the checkpoint's by .*--format gguf"):
        convert_onnx(tmp_path / "m", tmp_path / "bundles" / "b", "INT8")
    assert not list((tmp_path / "bundles").iterdir())


def test_what_optimum_cannot_export(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", model_type="nonesuch")
    with pytest.raises(PitoolError, match=r"cannot export .* to ONNX \(.+\): convert it"):
        export(checkpoint_of(source), tmp_path / "x")
