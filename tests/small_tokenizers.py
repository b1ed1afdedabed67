"""Small tokenizers of every kind that is converted, trained on the spot by the tokenizers library.

Each is written over that of a tiny checkpoint. The kinds are those of released models: what their
tokenizer.json says besides the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tests.tiny import TEMPLATE, TEXT, write_checkpoint

SIZE = 768
SPACE = "▁"
TEXTS = [TEXT, "naïve Größe, cafe and co., Größe über alles, 1 2 3 4\n\nWhy? Because! été"] * 4
PHI3_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}"
    "[/INST]{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% else %}{{ raise_exception('no system messages') }}{% endif %}{% endfor %}"
)
Json = dict[str, Any]


def write(folder: Path, kind: str, **settings: Any) -> Path:
    """Write a tiny checkpoint with a tokenizer of a kind; ``settings`` of the tokenizer's class."""
    write_checkpoint(folder, num_hidden_layers=1, vocab_size=SIZE, bos_token_id=None)
    data, said = KINDS[kind]()
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE, **said}
    (folder / "tokenizer_config.json").write_text(json.dumps({**said, **settings}))
    return folder


def _json(tokenizer: Tokenizer) -> Json:
    data: Json = json.loads(tokenizer.to_str())
    return data


def byte_level(special: tuple[str, ...] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")) -> Json:
    """Return a byte-level BPE with the rules of SmolLM."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - 16,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _json(tokenizer)


def sentencepiece(
    *, legacy: bool, byte_tokens: bool = True, extra: tuple[AddedToken, ...] = ()
) -> Json:
    """Return a BPE as transformers converts SentencePiece's; not ``legacy``: as Mistral v0.3's."""
    special = ["<unk>", "<s>", "</s>"]
    tokens = [f"<0x{i:02X}>" for i in range(256)] if byte_tokens else []
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=byte_tokens))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            SPACE, prepend_scheme="first", split=False
        )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - 16, special_tokens=[*special, *tokens], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_tokens(list(extra))
    data = _json(tokenizer)
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] not in tokens]
    return data


LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
CHATML = {"eos_token": "<|im_end|>", "bos_token": None}


def _smollm() -> tuple[Json, Json]:
    return byte_level(), CHATML


def _qwen() -> tuple[Json, Json]:
    return {**byte_level(), "normalizer": {"type": "NFC"}}, CHATML


def _stripping() -> tuple[Json, Json]:
    data = byte_level(("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"))
    for token in data["added_tokens"][1:]:
        token["rstrip"] = True
    return data, {"eos_token": "<|endoftext|>", "chat_template": PHI3_TEMPLATE}


def _phi3() -> tuple[Json, Json]:
    names = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
    extra = tuple(AddedToken(n, rstrip=True, special=True, normalized=False) for n in names)
    return sentencepiece(legacy=True, extra=extra), {**LLAMA, "chat_template": PHI3_TEMPLATE}


def _llama2() -> tuple[Json, Json]:
    return sentencepiece(legacy=True), {**LLAMA, "chat_template": MISTRAL_TEMPLATE}


def _mistral() -> tuple[Json, Json]:
    extra = tuple(AddedToken(n, special=True, normalized=False) for n in ("[INST]", "[/INST]"))
    return sentencepiece(legacy=False, extra=extra), {**LLAMA, "chat_template": MISTRAL_TEMPLATE}


def _without_bytes() -> tuple[Json, Json]:
    return sentencepiece(legacy=True, byte_tokens=False), LLAMA


def _without_merges() -> tuple[Json, Json]:
    data = byte_level()
    kept = set(pre_tokenizers.ByteLevel.alphabet()) | {t["content"] for t in data["added_tokens"]}
    vocabulary = data["model"]["vocab"]
    data["model"] |= {"vocab": {t: i for t, i in vocabulary.items() if t in kept}, "merges": []}
    return data, CHATML


def _past_the_end() -> tuple[Json, Json]:
    data = byte_level()
    extra = {**data["added_tokens"][0], "id": SIZE, "content": "<image_soft_token>"}
    data["added_tokens"].append(extra)
    return data, CHATML


def _ending() -> tuple[Json, Json]:
    data = byte_level()
    end = data["model"]["vocab"]["<|im_end|>"]
    part = {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    data["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [sequence, part],
        "pair": [sequence, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            "<|im_end|>": {"id": "<|im_end|>", "ids": [end], "tokens": ["<|im_end|>"]}
        },
    }
    return data, {**CHATML, "add_eos_token": True, "add_bos_token": True}


KINDS: dict[str, Callable[[], tuple[Json, Json]]] = {
    "smollm": _smollm,
    "qwen": _qwen,
    "stripping": _stripping,
    "phi-3": _phi3,
    "llama-2": _llama2,
    "mistral-0.3": _mistral,
    "without byte tokens": _without_bytes,
    "without merges": _without_merges,
    "token past the end": _past_the_end,
    "end after a text": _ending,
}
