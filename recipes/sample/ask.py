"""Asks the checkpoint questions with transformers and prints the answers: a look, not a measure.

Each argument is a conversation of its own; within it " / " parts the turns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Print the answers to the conversations on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "conversations", nargs="+", help='such as "how much RAM has the Pi 5? / why?"'
    )
    parser.add_argument("--checkpoint", type=Path, default=HERE / "checkpoint")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the likeliest token"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(options.checkpoint, dtype=torch.float32)
    torch.manual_seed(options.seed)
    drawn = {"do_sample": True, "temperature": options.temperature}
    choice = (
        drawn
        if options.temperature > 0
        else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    )
    for conversation in options.conversations:
        messages: list[dict[str, str]] = []
        for question in conversation.split(" / "):
            messages.append({"role": "user", "content": question})
            prompt = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            ids = model.generate(**prompt, max_new_tokens=256, **choice)
            answer = tokenizer.decode(
                ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True
            )
            messages.append({"role": "assistant", "content": answer})
            print(f"> {question}\n{answer}\n", flush=True)


if __name__ == "__main__":
    main()
