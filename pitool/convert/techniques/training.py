"""What the techniques that train share: the checkpoint in torch, and the training loop.

Needs torch and transformers (the ``export`` extra). Trains small models on the CPU only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pitool.convert.techniques.workbench import Workbench
from pitool.errors import BadInput, MissingPart
from pitool.report.numbers import format_millions

if TYPE_CHECKING:
    import torch

SEED = 0
# Above this, one step takes minutes on a CPU.
MOST_PARAMETERS = 400_000_000
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def load(bench: Workbench) -> Any:
    """Return the checkpoint as a transformers model in float32, with all parameters frozen.

    MissingPart without torch; BadInput without a text, or for a model that is too large.
    """
    try:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError:
        raise MissingPart(
            "this technique trains with torch and transformers, which are not installed",
            "run: pip install 'pitool[export]'",
        ) from None
    if not bench.calibration:
        raise BadInput("this technique needs a text to train on", "use --text FILE")
    names = bench.checkpoint.tensors
    count = sum(tensor.bytes for tensor in names.values()) // 2
    if count > MOST_PARAMETERS:
        raise BadInput(
            f"a model of {format_millions(count)} parameters takes too long to train on a CPU",
            "use GPTQ or AWQ instead",
        )
    torch.manual_seed(SEED)
    torch.set_num_threads(bench.threads)
    config = AutoConfig.from_pretrained(bench.checkpoint.folder)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    state = {name: torch.from_numpy(bench.read(name).copy()) for name in names}
    if config.tie_word_embeddings:
        state.setdefault(_HEAD, state.get(_EMBEDDING))
    model.load_state_dict(state)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()


def linears(model: Any, bench: Workbench) -> Iterator[tuple[str, Any]]:
    """Yield the layers' linear modules with the names of their weights in the checkpoint."""
    modules = dict(model.named_modules())
    for name in bench.matrices():
        yield name, modules[name.removesuffix(".weight")]


def windows(bench: Workbench) -> list[torch.Tensor]:
    """Return the calibration windows as tensors of shape (1, tokens)."""
    import torch

    return [torch.tensor([window]) for window in bench.calibration if len(window) > 1]


def train(
    title: str,
    bench: Workbench,
    parameters: Sequence[Any],
    loss: Callable[[int], Any],
    *,
    steps: int,
    rate: float,
) -> None:
    """Minimise ``loss``, a function of a window's index, with AdamW and a cosine schedule."""
    import torch

    count = len(windows(bench))
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    bench.progress.stage(title, steps)
    for step in range(steps):
        optimiser.zero_grad()
        loss(step % count).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        bench.progress.advance(1)
