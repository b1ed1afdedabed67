"""``pitool plan`` as a user calls it: what it says, its exit codes, its one JSON document."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Pitool, check_failure
from tests.convert.helpers import convert_folder
from tests.tiny import LLAMA, write_checkpoint
from tests.tiny_bert import write_bert


@pytest.fixture
def pitool(call: Pitool) -> Pitool:
    """Run a command in this process."""
    return call


def document(pitool: Pitool, *arguments: object, code: int = 0) -> dict[str, Any]:
    result = pitool("plan", *arguments, "--json")
    assert result.code == code, result.err
    made: dict[str, Any] = json.loads(result.out)
    return made


def verdicts(made: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(row["quantisation"], row["place"]): row["verdict"] for row in made["rows"]}


@pytest.mark.thorough
def test_14b_with_an_adapter(pitool: Pitool, shared_data: Path) -> None:
    """What rented machines and boards were seen to do with this model."""
    folder = shared_data / "configs" / "Qwen2.5-14B-Instruct"
    made = document(pitool, folder, "--lora", 16)
    said = verdicts(made)
    assert said["Q8_0", "16gb"] == "no"
    assert said["Q4_K_M", "16gb"] == "fits"
    assert [q for (q, place), v in said.items() if place == "8gb" and v != "no"] == ["Q2_K"]
    by_hand = 16 * 2 * 48 * (4 * 5120 + 2 * (5120 + 1024) + 3 * (5120 + 13824))
    row = next(row for row in made["rows"] if row["place"] == "16gb")
    assert row["memory"]["LoRA adapter"] == by_hand


def test_the_text_model_of_a_multimodal_one_says_what_is_left_out(
    pitool: Pitool, tmp_path: Path
) -> None:
    text = {**LLAMA, "head_dim": 32, "query_pre_attn_scalar": 32}
    whole = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 8}}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    said = "the text model alone is converted, which takes no pictures"
    assert said in document(pitool, tmp_path, "--ram", "1gb")["notes"]
    (tmp_path / "config.json").write_text(json.dumps({**text, "model_type": "gemma3_text"}))
    assert said not in document(pitool, tmp_path, "--ram", "1gb")["notes"]


def test_a_model_for_embeddings_reads_and_writes_nothing(pitool: Pitool, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "embeds")
    made = document(pitool, folder, "--board", "pi5", "--ram", "1gb")
    for row in made["rows"]:
        speed = row["speed"]["pi5"]
        assert speed["decode"] == speed["prefill"]  # a token is read, and that is all
        assert speed["decode_range"] == speed["prefill_range"]
        assert speed["speculative"] == {}
    assert made["onnx_rows"] == []
    shown = pitool("plan", folder, "--board", "pi5", "--ram", "1gb", "--details").out
    assert "decode" not in shown and "guessed" not in shown and "onnxruntime" not in shown
    refused = pitool("plan", folder, "--format", "onnx")
    assert "embeddings" in check_failure(refused, 2)


def test_a_mixture_of_experts_is_planned_as_onnx_where_the_writer_writes_it(
    pitool: Pitool, tmp_path: Path
) -> None:
    """The largest part of both is its experts; 8 bits are twice as many as 4."""
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None}
    settings = {**LLAMA, **experts, "model_type": "mixtral"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    made = document(pitool, tmp_path, "--ram", "1gb", "--quant", "INT8,INT4")
    sizes = {row["quantisation"]: row["tensor_bytes"] for row in made["rows"]}
    assert 1.5 < sizes["INT8"] / sizes["INT4"] < 2.0
    other = {**LLAMA, "model_type": "olmoe", "num_key_value_heads": 8}
    (tmp_path / "config.json").write_text(json.dumps(other))
    failed = pitool("plan", tmp_path, "--quant", "INT4")
    assert "does not support this mixture of experts" in check_failure(failed, 2)


def test_the_sum_is_that_of_its_lines(pitool: Pitool) -> None:
    for row in document(pitool, "1.5B", "--lora", "8")["rows"]:
        assert row["memory_bytes"] == sum(row["memory"].values())
        assert row["left_bytes"] == row["room_bytes"] - row["peak_bytes"]
        assert all(size > 0 for size in row["memory"].values())
        tight = row["budget_bytes"] < row["peak_bytes"] <= row["room_bytes"]
        fits = row["peak_bytes"] <= row["budget_bytes"]
        assert row["verdict"] == ("fits" if fits else "tight" if tight else "no")


def test_answers_at_once_have_a_context_each(pitool: Pitool) -> None:
    asked = ("1B", "--quant", "Q4_K_M", "--context", 4096, "--ram")
    one, four = (
        document(pitool, *asked, "4gb", "--parallel", n)["rows"][0]["memory"] for n in (1, 4)
    )
    assert four["KV cache"] == 4 * one["KV cache"]
    assert four["weights"] == one["weights"]
    result = pitool("plan", *asked, "2gb", "--parallel", 4, "--details")
    assert result.code == 3
    assert "planned for 4 answers at once, each with 4096 tokens" in " ".join(result.out.split())
    assert re.search(r"--parallel [123] ", result.err)


@pytest.mark.thorough
def test_a_gguf_is_planned_with_its_own_tensors(pitool: Pitool, bundle: Path) -> None:
    (file,) = bundle.glob("*Q8_0.gguf")
    loose = document(pitool, file, "--ram", "1gb", "--quant", "Q8_0")
    whole = document(pitool, bundle, "--ram", "1gb", "--quant", "Q8_0")
    assert loose["rows"][0]["bytes"] == whole["rows"][0]["bytes"] == file.stat().st_size
    assert loose["rows"][0]["tensor_bytes"] < loose["rows"][0]["bytes"]
    assert loose["parameters"] == whole["parameters"]


@pytest.mark.engine
def test_the_sum_has_what_a_bundle_holds(pitool: Pitool, one_layer: Path, tmp_path: Path) -> None:
    """Beside the usual types, which it could be converted to."""
    made = convert_folder(one_layer, tmp_path / "b", "Q4_0").path
    shown = pitool("plan", made, "--board", "pi5", "--ram", "4gb", "--details").out
    after = shown[shown.index("Memory on pi5-4gb") :].splitlines()
    assert after[1].split() == ["F16", "Q8_0", "Q4_K_M", "Q4_0"]


@pytest.mark.thorough
def test_text_stays_within_80_columns_and_markdown_has_tables(pitool: Pitool) -> None:
    for call in ("3B", "3B --ram 4gb --details", "14B --board pi5 --details",
                 "3B --details --buy --rent", "7B --target-tps 3"):  # fmt: skip
        lines = pitool("plan", *call.split(), columns=80).out.splitlines()
        assert max(map(len, lines)) <= 80
    assert "| --- | --:" in pitool("plan", "3B", "--markdown").out


def test_profiles_leave_more_or_less_free(pitool: Pitool) -> None:
    names = ("conservative", "balanced", "aggressive")
    made = [document(pitool, "3B", "--ram", "8gb", "--profile", name) for name in names]
    budgets = [m["rows"][0]["budget_bytes"] for m in made]
    assert budgets == sorted(set(budgets))
    assert [m["context"] for m in made] == [2048, 4096, 8192]


def test_what_was_named_and_does_not_fit_ends_with_3(pitool: Pitool) -> None:
    result = pitool("plan", "14B", "--ram", "8gb", "--quant", "Q8_0")
    assert result.code == 3
    assert "Q8_0 needs" in result.sentence and "more memory than 8gb has" in result.sentence
    assert "choose a smaller model" in result.sentence


def test_auto_says_why(pitool: Pitool) -> None:
    made = document(pitool, "1.5B", "--board", "pi5", "--ram", "8gb", "--quant", "auto")
    assert len(made["rows"]) == 1
    assert made["rows"][0]["verdict"] == "fits"
    assert made["reason"].startswith(made["rows"][0]["quantisation"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["3B", "--board", "pi6"], 2, "did you mean 'pi5'"),
        (["3B", "--board", "pi500", "--ram", "2gb"], 2, "has no 2gb; choose from: 8gb"),
        (["3B", "--context", "0"], 2, "0 is not in the range"),
        (["3B", "--profile", "balance"], 2, "did you mean 'balanced'"),
        (["3B", "--quant", "Q4KM"], 2, "did you mean 'Q4_K_M'"),
        (["1B", "--lora", "0"], 2, "between 1 and 1024"),
        (["1B", "--lora", "nowhere"], 4, "contains no adapter_model"),
        (["3B", "--buy", "--price", "pi5-8gb=-1"], 2, "is not a price"),
        (["3B", "--price", "pi5-8gb=0"], 2, "is not a price"),
        (["3B", "--target-tps", "0"], 2, "0 is not in the range"),
        (["5M"], 4, "between 30M and 1000B"),
        (["no-such-thing"], 4, "'no-such-thing' is not a folder"),
    ],
)
def test_wrong_calls(pitool: Pitool, arguments: list[str], code: int, says: str) -> None:
    assert says in check_failure(pitool("plan", *arguments), code)


def test_absurd_settings(pitool: Pitool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": -4}')
    check_failure(pitool("plan", tmp_path), 4)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    check_failure(pitool("plan", tmp_path), 4)
    endless = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}
    endless |= {"num_hidden_layers": 10**9, "intermediate_size": 64, "vocab_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(endless))
    assert "up to 1000 is needed" in check_failure(pitool("plan", tmp_path), 4)


def test_the_headers_of_a_folder_are_looked_at(pitool: Pitool, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", num_hidden_layers=1)
    (folder / "tokenizer.json").unlink()
    assert pitool("plan", folder, "--ram", "1gb").code == 0
    (folder / "config.json").write_text(json.dumps({**LLAMA, "num_hidden_layers": 2}))
    sentence = check_failure(pitool("plan", folder, "--ram", "1gb"), 4)
    assert "has no tensor 'model.layers.1.input_layernorm.weight'" in sentence


def test_more_context_than_trained_for_is_said(pitool: Pitool) -> None:
    made = document(pitool, "3B", "--ram", "4gb", "--context", 999_999)
    assert made["context"] == made["trained_context"]
    assert made["notes"] == ["999999 tokens were requested, but the model was trained for fewer"]


@pytest.mark.thorough
def test_buy_and_rent_have_every_number_in_json(pitool: Pitool) -> None:
    made = document(pitool, "3B", "--buy", "--rent", "--price", "pi5-8gb=160")
    board = next(b for b in made["boards"] if b["board"] == "pi5-8gb")
    assert board["price_usd"] == 160
    assert {c["purpose"] for c in made["choices"]} == {"tight budget", "quality", "headroom"}
    assert {c["card"] for c in made["rented"]} >= {"A10G", "T4_SMALL"}
    assert made["payback"]["boards"]["pi5-8gb"]["hours"] > 0
    assert document(pitool, "3B", "--target-tps", 6)["reaching"]


def test_what_reaches_a_rate_is_looked_for_among_the_named(pitool: Pitool) -> None:
    found = document(pitool, "3B", "--target-tps", 5, "--ram", "8gb")["reaching"]
    assert {r["board"] for r in found} == {"pi5-8gb", "cm5-8gb", "pi500-8gb"}
    found = document(pitool, "3B", "--target-tps", 5, "--board", "pi5", "--price", "pi5-4gb=1")
    assert [r["board"] for r in found["reaching"]] == ["pi5-4gb", "pi5-8gb", "pi5-16gb"]
    assert (
        "the best is Q4_0 on pi4b-4gb"
        in pitool("plan", "3B", "--target-tps", "5", "--board", "pi4b").out
    )


def test_what_loads_nowhere_has_no_speed(pitool: Pitool) -> None:
    text = pitool("plan", "14B", "--board", "pi5", "--ram", "8gb", "--details").out
    line, guessed = [line for line in text.splitlines() if line.startswith("pi5  ")]
    assert line.split()[1:-1] == ["-"] * 4
    assert "Decode of Q2_K with guessed tokens" in text  # which is all that loads
    assert len(guessed.split()) == 5
    rows = [line for line in text.splitlines() if line.startswith("Q") and " no " in line]
    assert len(rows) > 4
    assert all(row.split()[-1] in "-–" for row in rows if len(row.split()) == 8)


def test_this_machine_is_a_place(pitool: Pitool) -> None:
    made = document(pitool, "1B", "--board", "here")
    assert {row["place"] for row in made["rows"]} == {"here"}
    assert any("available of" in note for note in made["notes"])
    assert any("pitool tune --probe" in note for note in made["notes"])
    assert pitool("plan", "1B", "--board", "here").out.count("no speed is predicted") == 1
    text = pitool("plan", "1B", "--board", "here", "--details").out
    assert text.count("not a known board, so no speed is predicted") == 2
    assert "it does not fit any board" not in text


def test_onnx_is_planned_as_well(pitool: Pitool) -> None:
    made = document(pitool, "1.5B", "--format", "onnx", "--ram", "4gb")
    by_name = {row["quantisation"]: row for row in made["rows"]}
    assert by_name["INT4"]["verdict"] == "fits"
    assert by_name["FP32"]["verdict"] == "no"
    for row in made["rows"]:
        assert row["memory_bytes"] == sum(row["memory"].values())
    text = pitool("plan", "1.5B", "--format", "onnx", "--details", columns=80).out
    assert "prepacked copies" in text
    assert max(map(len, text.splitlines())) <= 80
    wrong = pitool("plan", "1.5B", "--format", "onnx", "--quant", "Q4_K_M")
    check_failure(wrong, 2)
    row = by_name["INT4"]
    assert set(row["assumed_speed"]) == {"pi4b", "pi400", "cm4", "pi5", "cm5"}
    low, high = row["assumed_speed"]["pi5"]["decode_range"]
    assert low < row["assumed_speed"]["pi5"]["decode"] < high
    assert "onnxruntime speeds are estimates" in text
    assert row["longest_context"] >= made["context"]
    assert by_name["FP32"]["would_fit"][0].startswith("--quant")


def test_onnx_that_does_not_fit_ends_with_3(pitool: Pitool) -> None:
    result = pitool("plan", "14B", "--ram", "8gb", "--quant", "INT8")
    assert result.code == 3
    assert "INT8 needs" in result.sentence and "more memory than 8gb has" in result.sentence
    tight = pitool("plan", "7B", "--ram", "8gb", "--quant", "INT4", "--context", 32768)
    assert "--context" in tight.sentence
    assert pitool("plan", "14B", "--quant", "INT8").code == 0
    for flag in ("--buy", "--rent", "--target-tps=3", "--plot=x.svg"):
        wrong = pitool("plan", "3B", "--format", "onnx", flag)
        assert "cannot be used with ONNX" in check_failure(wrong, 2)


def test_both_formats_are_judged_where_none_is_named(pitool: Pitool) -> None:
    both = document(pitool, "1.5B", "--ram", "4gb")
    onnx = document(pitool, "1.5B", "--quant", "INT8,INT4", "--ram", "4gb")
    named = [r for r in both["onnx_rows"] if r["quantisation"] in ("INT8", "INT4")]
    assert named == onnx["rows"]
    text = pitool("plan", "1.5B", "--details", columns=80).out
    assert "Verdicts with onnxruntime" in text
    assert max(map(len, text.splitlines())) <= 80
    assert document(pitool, "1.5B", "--format", "gguf", "--ram", "4gb")["onnx_rows"] == []
    assert "onnxruntime" not in pitool("plan", "1.5B", "--quant", "Q8_0").out
    mixed = pitool("plan", "1.5B", "--quant", "Q4_K_M,INT4")
    assert (
        "INT4 is a quantisation of ONNX, not of GGUF; plan one format at a time"
        in check_failure(mixed, 2)
    )


@pytest.mark.thorough
def test_a_card_that_is_rented_says_what_changing_saves(pitool: Pitool) -> None:
    made = document(pitool, "14B", "--from", "ada_80_pro")
    assert made["changes"]["from"] == "ADA_80_PRO"
    first = made["changes"]["to"][0]
    assert first["usd_day_saved"] == pytest.approx(24 * first["usd_hour_saved"])
    text = pitool("plan", "14B", "--rent", "--from", "ADA_80_PRO", columns=80).out
    assert "Saved in USD by changing from ADA_80_PRO" in text
    assert "RunPod serverless, prices of 2025-11" in text
    assert "did you mean" in check_failure(pitool("plan", "14B", "--from", "ADA_80"), 2)


def test_buying_says_what_the_lane_is_good_for(pitool: Pitool) -> None:
    text = " ".join(pitool("plan", "3B", "--buy", columns=80).out.split())
    assert "AI HAT+ 2 (Hailo-10H, 8 GB): 200 USD (2026-09); no faster than the board's CPU" in text
    assert "192 W for the whole system" in text


@pytest.mark.thorough
def test_what_fits_nowhere_has_a_smaller_one_named(pitool: Pitool) -> None:
    named = r"has room for [\w.-]+ \([\d.]+ [GM]B, [\d.]+ tokens/s\): pitool pull"
    for call in ("72B --buy", "72B", "72B --details", "14B --board pi5 --ram 2gb"):
        text = " ".join(pitool("plan", *call.split(), columns=80).out.split())
        assert re.search(named, text), call


def test_the_answer_comes_first(pitool: Pitool) -> None:
    made = document(pitool, "3B", "--board", "pi5", "--ram", "4gb")
    auto = document(pitool, "3B", "--board", "pi5", "--ram", "4gb", "--quant", "auto")["rows"][0]
    text = " ".join(pitool("plan", "3B", "--board", "pi5", "--ram", "4gb").out.split())
    assert len(made["answer"]) <= 3
    for line in made["answer"]:
        assert " ".join(line.split()) in text
    assert f"On pi5-4gb take {auto['quantisation']} (" in text
    speed = auto["speed"]["pi5"]
    assert f"pi5 {speed['decode']:.1f} tokens/s" in text
    assert f"a prompt of 512 tokens waits {512 / speed['prefill']:.0f} s" in text
    assert "--details" in text and "Memory on" not in text
    details = pitool("plan", "3B", "--board", "pi5", "--ram", "4gb", "--details").out
    assert "Memory on pi5-4gb" in details and "Ways to load" in details


def test_the_answer_names_what_each_memory_takes(pitool: Pitool) -> None:
    made = document(pitool, "1.5B")
    fits = {row["place"] for row in made["rows"]
            if row["verdict"] == "fits" and row["quantisation"] == "Q4_K_M"}  # fmt: skip
    assert fits == {"2gb", "3gb", "4gb", "8gb", "16gb"}
    first = made["answer"][0]
    assert first.startswith("Take ") and "Q4_K_M (986 MB) with 2 GB" in first
    assert first.endswith("512 MB or 1 GB is too little.")


def test_no_quantisation_is_suggested_that_nobody_would_use(pitool: Pitool) -> None:
    made = document(pitool, "14B", "--ram", "8gb", "--quant", "Q8_0", code=3)
    assert not [r for r in made["rows"][0]["would_fit"] if "Q2_K" in r or "Q3_K" in r]
    text = " ".join(pitool("plan", "14B", "--ram", "8gb").out.split())
    assert "does not fit a board with 8 GB with four bits per weight or more" in text
    assert "A board with 8 GB has room for" in text


def test_what_streams_from_the_disk_is_possible_at_the_speed_of_the_disk(pitool: Pitool) -> None:
    made = document(pitool, "14B", "--board", "pi5", "--ram", "8gb")
    (found,) = [m for m in made["load_methods"]
                if (m["quantisation"], m["mode"]) == ("Q4_K_M", "mmap")]  # fmt: skip
    row = next(row for row in made["rows"] if row["quantisation"] == "Q4_K_M")
    # All tensors but the embedding, of which a token reads one row; NVMe of the Pi 5: 450 MB/s.
    embedding = 152064 * 5120 * 4.5 / 8
    seconds = (row["tensor_bytes"] - embedding) / 450e6
    assert 1 / found["streamed_decode"]["nvme"] == pytest.approx(seconds, rel=0.02)
    assert set(found["streamed_decode"]) == {"sd", "usb", "nvme"}
    text = " ".join(pitool("plan", "14B", "--board", "pi5", "--ram", "8gb").out.split())
    assert f"with mmap every token of Q4_K_M takes {seconds:.0f} s from an NVMe SSD" in text
    fitting = document(pitool, "3B", "--board", "pi5", "--ram", "8gb")["load_methods"]
    assert not any(m["streamed_decode"] for m in fitting if m["verdict"] == "fits")


def test_a_model_over_several_boards(pitool: Pitool) -> None:
    boards = ("--boards", "pi5-8gb,pi5-8gb,pi4-4gb")
    made = document(pitool, "14B", *boards)
    assert made["shown"] == "Q8_0"  # the best quality that they hold together
    rows = {row["quantisation"]: row for row in made["rows"]}
    assert not rows["F16"]["fits"] and rows["F16"]["missing_bytes"] > 10e9
    assert rows["Q4_K_M"]["unused"] == ["pi4b-4gb"]
    for row in rows.values():
        assert sum(each["layers"] for each in row["machines"]) == 48
    text = " ".join(pitool("plan", "14B", *boards, "--quant", "Q4_K_M").out.split())
    assert "not needed, and slower with: pi4b-4gb" in text
    assert "cross the network for a token" in text
    # A slower network is said beforehand.
    slow = document(pitool, "14B", *boards, "--quant", "Q4_K_M", "--network", "10")
    (row,) = slow["rows"]
    assert row["first_load_seconds"] > 50 * rows["Q4_K_M"]["first_load_seconds"]
    document(pitool, "14B", *boards, "--quant", "F16", code=3)
    check_failure(pitool("plan", "14B", *boards, "--buy"), 2)
    # Keys and values apart: 48 layers of 8 heads of 128, in cells of 256 and blocks of 32 values.
    one, two = (
        document(pitool, "14B", *boards, "--quant", "Q8_0", "--context", "2048", "--kv-type", kind)
        for kind in ("q8_0", "q8_0,q4_0")
    )
    assert (two["kv_type"], two["value_type"]) == ("q8_0", "q4_0")
    for made, block in ((one, 34 + 34), (two, 34 + 18)):
        kept = [each["memory"].get("KV cache", 0) for each in made["rows"][0]["machines"]]
        assert sum(kept) == 48 * 2048 * (8 * 128 // 32) * block
    check_failure(pitool("plan", "14B", *boards, "--format", "onnx"), 2)


def test_a_prompt_is_told_how_long_it_waits(pitool: Pitool) -> None:
    said = pitool("plan", "3B", "--board", "pi5", "--ram", "8gb", "--prompt", 20_000)
    assert said.code == 0, said.err
    words = " ".join(said.out.split())
    assert "a prompt of 20000 tokens waits" in words
    assert "read before with pitool prefill, it is" in words and "from an SD card" in words
    table = pitool("plan", "3B", "--board", "pi5", "--ram", "8gb", "--prompt", 20_000, "--details")
    assert "How long a prompt of 20000 tokens waits" in table.out
    failed = pitool("plan", "3B", "--prompt", 5000, "--context", 4096)
    assert "does not fit 4096 tokens of context" in check_failure(failed, 2)
