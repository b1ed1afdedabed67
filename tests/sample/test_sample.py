"""The sample model: its text, the sides of its text, its checkpoint files and its training."""

import json
import random
import re
import struct
from pathlib import Path
from typing import Any, cast

import board_turns
import dialogue
import facts
import figures
import make_text
import pytest
import topic_turns
from facts import Board
from grammar import as_typed, expand, normal
from turns import asked

SAMPLE = Path(__file__).resolve().parents[2] / "recipes" / "sample"
CHECKPOINT = SAMPLE / "checkpoint"
MESSAGE = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", re.DOTALL)


def said(text: str, role: str) -> set[str]:
    return {normal(content) for who, content in MESSAGE.findall(text) if who == role}


@pytest.fixture(scope="module")
def train_text() -> str:
    return "".join(make_text.make(make_text.SEED, 6000, held_out=False))


@pytest.fixture(scope="module")
def held_out_text() -> str:
    return (SAMPLE / "heldout.txt").read_text(encoding="utf-8")


class TestText:
    def test_same_seed_same_text(self) -> None:
        assert make_text.make(7, 60, held_out=False) == make_text.make(7, 60, held_out=False)

    def test_other_seed_other_text(self) -> None:
        assert make_text.make(7, 60, held_out=False) != make_text.make(8, 60, held_out=False)

    @pytest.mark.thorough
    def test_stored_held_out_text_is_what_the_generator_writes(self, held_out_text: str) -> None:
        made = make_text.make(make_text.SEED, make_text.HELD_OUT_CONVERSATIONS, held_out=True)
        assert held_out_text == "".join(made)

    def test_is_whole_chat_messages(self, held_out_text: str) -> None:
        assert MESSAGE.sub("", held_out_text) == ""
        assert 60_000 < len(held_out_text) < 200_000

    @pytest.mark.parametrize("role", ["user", "assistant"])
    def test_held_out_and_training_have_no_message_in_common(
        self, train_text: str, held_out_text: str, role: str
    ) -> None:
        assert len(said(train_text, role)) > 1000
        assert not said(train_text, role) & said(held_out_text, role)

    def test_every_question_is_on_its_side(self, train_text: str, held_out_text: str) -> None:
        assert all(dialogue.held_out(question) for question in said(held_out_text, "user"))
        assert not any(dialogue.held_out(question) for question in said(train_text, "user"))

    def test_patterns_leave_no_marks(self, train_text: str) -> None:
        code_free = re.sub(r"`[^`]*`", "", train_text)
        assert not re.search(r"[{}()|](?!im_)", re.sub(r"<\|im_\w+\|>", "", code_free))


class TestGrammar:
    def test_nested_alternatives(self) -> None:
        made = {expand(random.Random(seed), "(a( b|)|c) d.") for seed in range(40)}
        assert made == {"a b d.", "a d.", "c d."}

    def test_typing_keeps_most_questions_readable(self) -> None:
        rng = random.Random(1)
        clean = "how much RAM does the Pi 5 have?"
        typed = [as_typed(rng, clean) for _ in range(200)]
        assert len(set(typed)) > 20
        assert sum(normal(item) == normal(clean) for item in typed) > 80

    def test_a_question_gets_its_mark_and_a_phrase_none(self) -> None:
        assert asked("what is a tier") == "what is a tier?"
        assert asked("compare the Pi 4 and the Pi 5") == "compare the Pi 4 and the Pi 5"


class TestFacts:
    @pytest.mark.parametrize("board", facts.BOARDS, ids=lambda board: board.short)
    @pytest.mark.parametrize("key", ["ram", "usb", "video", "supply", "bandwidth", "storage"])
    def test_answers_state_the_fact(self, board: Board, key: str) -> None:
        for seed in range(12):
            answer = board_turns.attribute(random.Random(seed), board, key, "?").answer
            assert getattr(board, key).lower() in answer.lower()
            assert board.short in answer

    @pytest.mark.parametrize("board", facts.BOARDS, ids=lambda board: board.short)
    def test_only_cortex_a76_has_dotprod(self, board: Board) -> None:
        answer = board_turns.attribute(random.Random(0), board, "dotprod", "?").answer
        assert answer.startswith("Yes" if board.core == "Cortex-A76" else "No")

    def test_the_faster_board_wins_whatever_the_order(self) -> None:
        slow, fast = facts.board("Raspberry Pi 4B"), facts.board("Raspberry Pi 5")
        for seed in range(12):
            for pair in ((slow, fast), (fast, slow)):
                turn = board_turns.compare(random.Random(seed), *pair, "faster", "?")
                assert re.match(r"The (Raspberry )?Pi 5 is", turn.answer)

    def test_speeds_name_known_boards(self) -> None:
        for item in figures.SPEEDS:
            assert facts.board(item.board).name == item.board

    def test_sizes_follow_from_bits(self) -> None:
        assert figures.model_gb(8, "Q4_0") == 4.5
        assert figures.fits(3, "Q4_0", 4)
        assert not figures.fits(7, "Q4_0", 4)

    def test_the_model_knows_its_own_shape(self) -> None:
        config = json.loads((CHECKPOINT / "config.json").read_text())
        talk = json.dumps(topic_turns.TALK)
        assert f"{config['num_hidden_layers']} layers" in talk
        assert f"hidden size of {config['hidden_size']}" in talk
        assert f"vocabulary of {config['vocab_size']}" in talk


class TestCheckpoint:
    @pytest.fixture(scope="class")
    def config(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads((CHECKPOINT / "config.json").read_text()))

    def test_llama_with_tied_embeddings_and_grouped_queries(self, config: dict[str, Any]) -> None:
        assert config["architectures"] == ["LlamaForCausalLM"]
        assert config["model_type"] == "llama"
        assert config["tie_word_embeddings"] is True
        assert config["num_key_value_heads"] < config["num_attention_heads"]

    def test_sizes_suit_k_quants(self, config: dict[str, Any]) -> None:
        assert config["hidden_size"] % 256 == 0
        assert config["intermediate_size"] % 256 == 0
        assert config["hidden_size"] == config["num_attention_heads"] * config["head_dim"]
        assert config["vocab_size"] % 64 == 0

    def test_weights_are_bfloat16_below_ten_megabytes(self, config: dict[str, Any]) -> None:
        path = CHECKPOINT / "model.safetensors"
        assert path.stat().st_size < 10_000_000
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        assert {entry["dtype"] for entry in tensors.values()} == {"BF16"}
        assert "lm_head.weight" not in tensors
        assert tensors["model.embed_tokens.weight"]["shape"][0] == config["vocab_size"]

    def test_report_belongs_to_the_text(self) -> None:
        report = json.loads((SAMPLE / "report.json").read_text())
        assert report["seed"] == make_text.SEED
        assert report["conversations"] == make_text.TRAIN_CONVERSATIONS
        assert report["heldout"]["answers_perplexity"] < 3


class TestTokenizer:
    @pytest.fixture(scope="class")
    def tokenizer(self) -> Any:
        tokenizers = pytest.importorskip("tokenizers", reason="needs the tokenizers package")
        return tokenizers.Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))

    @pytest.mark.parametrize(
        "text",
        ["How much RAM?", "  two  spaces\n\ttab", "Grüße, 温度 80 °C 🍓🔥", "```\nfree -h\n```"],
    )
    def test_round_trip(self, tokenizer: Any, text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text

    def test_each_digit_is_a_token(self, tokenizer: Any) -> None:
        tokens = tokenizer.encode("2048 MiB").tokens
        assert tokens[:4] == ["2", "0", "4", "8"]

    def test_marks_are_single_tokens(self, tokenizer: Any) -> None:
        marks = "<|endoftext|><|im_start|><|im_end|>"
        assert tokenizer.encode(marks).ids == [0, 1, 2]

    def test_pre_tokenizer_is_that_of_smollm(self, tokenizer: Any) -> None:
        content = json.loads(tokenizer.to_str())
        assert content["normalizer"] is None
        assert content["decoder"]["type"] == "ByteLevel"
        digits, level = content["pre_tokenizer"]["pretokenizers"]
        assert digits == {"type": "Digits", "individual_digits": True}
        assert level["add_prefix_space"] is False
        assert level["use_regex"] is True

    def test_chat_template_renders_what_was_trained_on(self) -> None:
        jinja2 = pytest.importorskip("jinja2", reason="needs jinja2")
        config = json.loads((CHECKPOINT / "tokenizer_config.json").read_text())
        messages = [dialogue.Message("system", dialogue.DEFAULT_SYSTEM)]
        messages += [dialogue.Message("user", "hi"), dialogue.Message("assistant", "Hello!")]
        template = jinja2.Template(config["chat_template"], keep_trailing_newline=True)
        asked_with = [vars(message) for message in messages]
        for given in (asked_with, asked_with[1:]):
            assert template.render(messages=given) == dialogue.render(messages)


def test_training_is_deterministic() -> None:
    torch = pytest.importorskip("torch", reason="training needs torch, of the extra `export`")
    pytest.importorskip("safetensors", reason="training needs safetensors, of the extra `host`")
    import model
    import tokenizer
    import train

    text = make_text.make(3, 40, held_out=False)
    made = []
    try:
        for _ in range(2):
            train.settle(3)
            bpe = tokenizer.train(text, 512)
            network = model.Llama(model.Shape(vocab=512, layers=1))
            train.fit(network, list(train.batches(train.windows(bpe, text, 128)))[:2], print)
            made.append((bpe.to_str(), network.state_dict()))
    finally:
        torch.use_deterministic_algorithms(False)
    assert made[0][0] == made[1][0]
    assert all(torch.equal(value, made[1][1][name]) for name, value in made[0][1].items())
