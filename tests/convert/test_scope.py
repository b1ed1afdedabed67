"""What of a model the text of a certificate cannot show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pitool.checkpoint.config import Config
from pitool.convert.scope import routed, unseen
from tests.convert.helpers import checkpoint_of, convert_folder
from tests.planning.shapes import config
from tests.tiny import write_checkpoint

LONGROPE = {"type": "longrope", "long_factor": [2.0] * 16, "short_factor": [1.0] * 16}
WINDOW: dict[str, Any] = {"model_type": "mistral", "max_position_embeddings": 8192}
PHI = {"model_type": "phi3", "max_position_embeddings": 8192, "rope_scaling": LONGROPE}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({**WINDOW, "sliding_window": 511}, ""),
        ({**WINDOW, "sliding_window": 512}, "the sliding window of 512"),
        ({**WINDOW, "sliding_window": 8192}, ""),
        ({"sliding_window": 600, "use_sliding_window": False, "model_type": "qwen2"}, ""),
        (
            {**PHI, "original_max_position_embeddings": 4096},
            "LongRoPE's factors for more than 4096",
        ),
        (
            {**PHI, "original_max_position_embeddings": 4096, "sliding_window": 2047},
            "the sliding window of 2047 and LongRoPE's factors for more than 4096",
        ),
        ({**PHI, "original_max_position_embeddings": 8192}, ""),
    ],
)
def test_what_texts_of_512_tokens_are_too_short_for(changes: dict[str, Any], said: str) -> None:
    found = unseen(config(**changes), 512)
    assert found == (f"not seen in texts of 512 tokens: {said} tokens" if said else "")


@pytest.mark.parametrize("scaling", ["rope_scaling", "rope_parameters"])
def test_longrope_of_a_family_that_only_llama_cpps_converter_knows(
    tmp_path: Path, scaling: str
) -> None:
    table = {"rope_type": "longrope", "long_factor": [2.0], "short_factor": [1.0],
             "original_max_position_embeddings": 4096}  # fmt: skip
    folder = write_checkpoint(tmp_path / "c", model_type="minicpm", max_position_embeddings=32768)
    values = {**checkpoint_of(folder).config.values, "rope_parameters": None, scaling: table}
    said = unseen(Config(values, folder / "config.json"), 512)
    assert said == "not seen in texts of 512 tokens: LongRoPE's factors for more than 4096 tokens"


@pytest.mark.parametrize(
    ("changes", "is_routed"),
    [({}, False), ({"num_experts": 8}, True), ({"num_local_experts": 1}, False)],
)
def test_a_mixture_of_experts(changes: dict[str, Any], *, is_routed: bool) -> None:
    assert routed(config(**changes)) is is_routed


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize(("window", "tokens"), [(600, 512), (200, 200)])
def test_a_certificate_reads_no_further_than_the_artifact_reaches(
    tmp_path: Path, window: int, tokens: int
) -> None:
    folder = write_checkpoint(tmp_path / "c", **(WINDOW | {"sliding_window": window}))
    (artifact,) = convert_folder(folder, tmp_path / "b", "F16").manifest.artifacts
    assert artifact.certificate
    assert artifact.certificate.mean_kl < 1e-4
    assert artifact.certificate.unseen == unseen(checkpoint_of(folder).config, tokens) != ""
