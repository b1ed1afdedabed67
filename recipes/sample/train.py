"""Makes the sample model from nothing: text, tokenizer, training, checkpoint, measured quality.

The last line on stdout is the report as JSON; the same seed gives the same weights on one machine.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import make_text
import tokenizer as tokens
import torch
from model import Llama, Shape
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

THREADS = 2
WINDOW = 512
LONG_WINDOW = 1024
LONG_SHARE = 0.15
BATCH_TOKENS = 4096
OPEN_WINDOWS = 64
OTHER_WEIGHT = 0.3
MATRIX_RATE = 1e-2
OTHER_RATE = 5e-3
WARM_UP = 60
WEIGHT_DECAY = 0.05
IGNORED = 0.0

Windows = tuple[Tensor, Tensor]


def weigh(ids: list[int], header: list[int], end: int) -> list[float]:
    """1 for the tokens of each answer with its end mark, a smaller weight for all others."""
    weights = [OTHER_WEIGHT] * len(ids)
    for i in range(len(header), len(ids)):
        if ids[i - len(header) : i] == header:
            stop = ids.index(end, i)
            weights[i : stop + 1] = [1.0] * (stop + 1 - i)
    return weights


def pack(conversations: list[list[int]], weights: list[list[float]], length: int) -> Windows:
    """Ids and weights, each (windows, length + 1): conversations, then padding of weight 0."""
    room = length + 1
    opened: list[tuple[list[int], list[float]]] = []
    closed: list[tuple[list[int], list[float]]] = []
    for ids, weight in zip(conversations, weights, strict=True):
        ids, weight = ids[:room], weight[:room]
        fitting = [window for window in opened if len(window[0]) + len(ids) <= room]
        if fitting:
            target = max(fitting, key=lambda window: len(window[0]))
        else:
            target = ([], [])
            opened.append(target)
        target[0].extend(ids)
        target[1].extend(weight)
        if len(opened) > OPEN_WINDOWS:
            fullest = max(range(len(opened)), key=lambda i: len(opened[i][0]))
            closed.append(opened.pop(fullest))
    closed += opened
    padded_ids = [ids + [0] * (room - len(ids)) for ids, _ in closed]
    padded_weights = [weight + [IGNORED] * (room - len(weight)) for _, weight in closed]
    return torch.tensor(padded_ids), torch.tensor(padded_weights)


def windows(tokenizer: Tokenizer, conversations: list[str], length: int) -> Windows:
    """The conversations as packed training windows."""
    header, end = (
        tokenizer.encode(tokens.START + "assistant\n").ids,
        tokenizer.token_to_id(tokens.END),
    )
    ids = [item.ids for item in tokenizer.encode_batch_fast(conversations)]
    return pack(ids, [weigh(item, header, end) for item in ids], length)


def losses(model: Llama, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy in nats and whether the likeliest token was right, each (batch, length)."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids[:, :-1])
    entropy = functional.cross_entropy(
        logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
    )
    return entropy.view_as(ids[:, 1:]), logits.argmax(-1) == ids[:, 1:]


def quality(model: Llama, data: Windows) -> dict[str, float]:
    """Perplexity and top-1 accuracy of all tokens and of the answers alone."""
    sums = torch.zeros(2, 3, dtype=torch.float64)
    for ids, weight in zip(data[0].split(8), data[1].split(8), strict=True):
        with torch.no_grad():
            entropy, right = losses(model, ids)
        for row, chosen in enumerate((weight[:, 1:] > IGNORED, weight[:, 1:] == 1.0)):
            sums[row] += torch.stack(
                [entropy[chosen].sum(), right[chosen].sum(), chosen.sum()]
            ).double()
    figures: dict[str, float] = {}
    for row, name in enumerate(("all", "answers")):
        nats, right, count = sums[row].tolist()
        figures |= {
            f"{name}_perplexity": round(math.exp(nats / count), 4),
            f"{name}_top1": round(right / count, 4),
        }
    return figures | {"tokens": int(sums[0, 2])}


def batches(data: Windows) -> Iterator[Windows]:
    """Batches of BATCH_TOKENS in the order of the windows."""
    size = BATCH_TOKENS // (data[0].shape[1] - 1)
    yield from zip(data[0].split(size), data[1].split(size), strict=True)


def rate(step: int, steps: int) -> float:
    """The share of the peak learning rate: a short rise, then a cosine down to nothing."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def settle(seed: int) -> None:
    """Fix all that would let two runs differ on one machine."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def optimisers(model: Llama) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            matrices, lr=MATRIX_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def fit(model: Llama, plan: list[Windows], say: Callable[[str], None]) -> None:
    """Train on the batches in order."""
    chosen = optimisers(model)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda step: rate(step, len(plan))) for o in chosen
    ]
    begun = time.monotonic()
    for step, (ids, weight) in enumerate(plan):
        weight = weight[:, 1:]
        loss = (losses(model, ids)[0] * weight).sum() / weight.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, schedule in zip(chosen, schedules, strict=True):
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
        if step % 50 == 0 or step == len(plan) - 1:
            spent = time.monotonic() - begun
            say(f"step {step + 1}/{len(plan)} loss {loss.item():.4f} {spent:.0f} s")


def save(model: Llama, tokenizer: Tokenizer, folder: Path) -> None:
    """The checkpoint in the layout of Hugging Face, its weights rounded to bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().to(torch.bfloat16) for name, value in model.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokens.write_json(folder / "config.json", model.shape.hf_config())
    generation = {
        "do_sample": True, "eos_token_id": [2, 0], "max_new_tokens": 256, "pad_token_id": 0,
        "temperature": 0.7, "top_k": 40, "top_p": 0.95,
    }  # fmt: skip
    tokens.write_json(folder / "generation_config.json", generation)
    tokens.save(tokenizer, folder, model.shape.positions)


def make(out: Path, seed: int, conversations: int, steps: int | None) -> dict[str, object]:
    """Text, tokenizer, training, checkpoint and report, all below `out`."""
    begun = time.monotonic()
    settle(seed)
    out.mkdir(parents=True, exist_ok=True)
    train_text = make_text.make(seed, conversations, held_out=False)
    held_out_text = make_text.make(seed, make_text.HELD_OUT_CONVERSATIONS, held_out=True)
    make_text.write(out / "heldout.txt", held_out_text)
    shape = Shape()
    tokenizer = tokens.train(train_text, shape.vocab)
    long = int(len(train_text) * LONG_SHARE)
    plan = list(batches(windows(tokenizer, train_text[long:], WINDOW)))
    random.Random(seed).shuffle(plan)
    plan = (plan + list(batches(windows(tokenizer, train_text[:long], LONG_WINDOW))))[:steps]
    model = Llama(shape)
    fit(model, plan, lambda line: print(line, file=sys.stderr, flush=True))
    for value in model.parameters():
        value.data = value.data.to(torch.bfloat16).float()
    save(model, tokenizer, out / "checkpoint")
    report: dict[str, object] = {
        "seed": seed,
        "conversations": len(train_text),
        "steps": len(plan),
        "trained_tokens": int(sum((weight > IGNORED).sum() for _, weight in plan)),
        "parameters": sum(value.numel() for value in model.parameters()),
        "train": quality(model, windows(tokenizer, train_text[: len(held_out_text)], WINDOW)),
        "heldout": quality(model, windows(tokenizer, held_out_text, WINDOW)),
        "seconds": round(time.monotonic() - begun),
    }
    tokens.write_json(out / "report.json", report)
    return report


def main() -> None:
    """Make the model and print its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for checkpoint/, heldout.txt and report.json",
    )
    parser.add_argument("--seed", type=int, default=make_text.SEED)
    parser.add_argument("--conversations", type=int, default=make_text.TRAIN_CONVERSATIONS)
    parser.add_argument("--steps", type=int, help="stop after so many steps")
    options = parser.parse_args()
    print(json.dumps(make(options.out, options.seed, options.conversations, options.steps)))


if __name__ == "__main__":
    main()
