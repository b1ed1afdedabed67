"""The child process that runs a checkpoint's forward pass in transformers, in float32.

``python -m pitool.convert.transformers_child``; only this process imports torch for a
verification, so that its memory is back when it ends. Owns how transformers reads a checkpoint;
never uses what the writers make of one.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pitool.checkpoint.merged import MergedTensor
from pitool.checkpoint.source import Source, find_adapters, open_checkpoint
from pitool.checkpoint.tensors import Tensor
from pitool.checkpoint.weights import plain_name
from pitool.errors import BadInput, PitoolError
from pitool.process.service import Call, serve

# Numbers of a matrix that stays in memory.
SMALL = 1024


class UnreadableError(Exception):
    """transformers cannot run this checkpoint."""


class Model:
    """A checkpoint as transformers runs it; ``streamed``: its weights stay in the files."""

    def __init__(self, folder: Path, tensors: Mapping[str, Tensor], *, streamed: bool) -> None:
        import torch
        import transformers

        self.version = transformers.__version__
        self._torch = torch
        self._noise = 0.0
        self._on_layer: Callable[[], None] = lambda: None
        self._model, sources = (_empty if streamed else _whole)(folder, tensors)
        self._model.eval()
        for module in self._model.modules():
            if own := dict(module.named_parameters(recurse=False)):
                named = {name: sources.get(id(parameter)) for name, parameter in own.items()}
                module.register_forward_pre_hook(self._filler(own, named))
                module.register_forward_hook(_restorer(own))
        layers = _layers(self._model)
        self.layers = len(layers)
        for layer in layers:
            layer.register_forward_hook(lambda *_: self._on_layer())

    def logits(self, ids: list[int], noise: float, on_layer: Callable[[], None]) -> Any:
        """Return the logits after each token, shape (tokens, vocabulary), float32.

        ``noise``: every number of a matrix is changed by up to this share of itself.
        """
        self._torch.manual_seed(0)
        self._on_layer, self._noise = on_layer, noise
        # transformers 4 lends the keys of a layer to others by way of the cache.
        lends = bool(getattr(self._model.config.get_text_config(), "num_kv_shared_layers", 0))
        with self._torch.inference_mode():
            found = self._model(self._torch.tensor([ids]), use_cache=lends).logits[0]
        return found.float().numpy()

    def _filler(
        self, own: Mapping[str, Any], sources: Mapping[str, Tensor | None]
    ) -> Callable[..., None]:
        """Return what gives a module its weights before it runs."""
        torch = self._torch

        def fill(module: Any, _inputs: Any) -> None:
            for name, parameter in own.items():
                source = sources[name]
                if not (source or self._noise):
                    continue  # it is there already
                value = torch.from_numpy(source.float32().copy()) if source else parameter.data
                if self._noise and value.ndim > 1:
                    value = value * (1 + self._noise * (2 * torch.rand_like(value) - 1))
                setattr(module, name, torch.nn.Parameter(value, requires_grad=False))

        return fill


def _restorer(own: Mapping[str, Any]) -> Callable[..., None]:
    """Return what takes a module's weights away after it ran."""

    def restore(module: Any, *_: Any) -> None:
        for name, parameter in own.items():
            setattr(module, name, parameter)

    return restore


def _whole(folder: Path, tensors: Mapping[str, Tensor]) -> tuple[Any, dict[int, Tensor]]:
    """Load a checkpoint as everybody does; adapters are merged into it afterwards."""
    import torch
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    model.float()  # some parameters keep the type that they are stored in
    if missing := sorted(report["missing_keys"]):
        raise UnreadableError(f"{missing[0]} is missing")
    merged = {n: t for n, t in tensors.items() if isinstance(t, MergedTensor)}
    names = dict(_by_name(model, merged))
    if len(names) < len(merged):
        raise UnreadableError("the adapter's tensors have other names")
    for name, parameter in names.items():
        parameter.data.copy_(torch.from_numpy(merged[name].float32()))
    return model, {}


def _empty(folder: Path, tensors: Mapping[str, Tensor]) -> tuple[Any, dict[int, Tensor]]:
    """Build a model without weights; return what each parameter's are, by its identity."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with init_empty_weights(include_buffers=False), _no_init_weights():
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=torch.float32,
            attn_implementation="eager",
            trust_remote_code=False,
        )
    model.tie_weights()
    sources = {id(parameter): tensors[name] for name, parameter in _by_name(model, tensors)}
    for name, parameter in model.named_parameters():
        if id(parameter) not in sources:
            raise UnreadableError(f"{name} is missing")
    _fill_small(model, sources)
    return model, sources


def _fill_small(model: Any, sources: dict[int, Tensor]) -> None:
    """Give a model its vectors and small matrices for good.

    Some, as those of Gemma 3n's streams, are used without a call of the module that has them.
    """
    import torch

    filled: dict[int, tuple[Any, Any]] = {}  # with the parameter that had this identity
    for module in list(model.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim > 1 and parameter.numel() > SMALL:
                continue
            if id(parameter) not in filled:
                value = torch.from_numpy(sources[id(parameter)].float32().copy())
                made = torch.nn.Parameter(value, requires_grad=False)
                filled[id(parameter)] = parameter, made
            setattr(module, name, filled[id(parameter)][1])
    for identity in filled:
        del sources[identity]


def _by_name(model: Any, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Any]]:
    """Yield the checkpoint's tensors that a model has, with their parameters.

    The first word of the names may be left out in either.
    """
    found = model.named_parameters(remove_duplicate=False)
    parameters = {plain_name(name): parameter for name, parameter in found}
    root = f"{model.base_model_prefix}."
    for name in tensors:
        for candidate in (name, name.removeprefix(root), root + name):
            if candidate in parameters:
                yield name, parameters[candidate]
                break


def _no_init_weights() -> Any:
    """Return what keeps transformers from drawing weights, which it cannot for every model."""
    try:
        from transformers.initialization import no_init_weights  # since version 5
    except ImportError:
        from transformers.modeling_utils import no_init_weights
    return no_init_weights()


def _layers(model: Any) -> list[Any]:
    """Return the decoder's layers: the first list with as many modules as it has layers."""
    from torch.nn import ModuleList

    count = model.config.get_text_config().num_hidden_layers
    lists = (module for module in model.modules() if isinstance(module, ModuleList))
    return next((list(modules) for modules in lists if len(modules) == count), [])


def _open(call: Call) -> Model:
    arguments = call.arguments
    adapters = find_adapters(tuple(map(Path, arguments["adapters"])), tuple(arguments["scales"]))
    folder = Path(arguments["folder"])
    source = Source(folder.name, None, folder, adapters=adapters)
    return Model(folder, open_checkpoint(source).tensors, streamed=arguments["streamed"])


def main() -> None:
    """Answer ``open`` and ``logits``; a model that transformers does not run is a ``BadInput``."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    opened: list[Model] = []

    def answer_open(call: Call) -> None:
        try:
            opened[:] = [_open(call)]
        except PitoolError:
            raise
        except Exception as error:  # whatever transformers, torch or remote code raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise BadInput(reason, "") from None
        model = opened[0]
        call.result({"version": model.version, "layers": model.layers})

    def answer_logits(call: Call) -> None:
        ids, noise = call.arguments["ids"], call.arguments["noise"]
        found = opened[0].logits(ids, noise, lambda: call.event(layer=1))
        call.result(list(found.shape), np.ascontiguousarray(found, np.float32).tobytes())

    with suppress(KeyboardInterrupt):
        serve({"open": answer_open, "logits": answer_logits})


if __name__ == "__main__":
    main()
