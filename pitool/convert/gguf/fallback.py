"""llama.cpp's own converter, for every architecture that no native family covers.

It is part of llama-cpp-python's source archive for the installed version, which is taken from
``PITOOL_LLAMA_CPP_SDIST`` or from the cache, or downloaded into the cache with pip. The converter
runs in a child process and needs torch and transformers (the ``export`` extra).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gguf import MODEL_ARCH, SpecialVocab, get_tensor_name_map

from pitool.architectures.base import Wanted
from pitool.architectures.rope import ORIGINAL
from pitool.catalog import cache
from pitool.catalog.files import expand
from pitool.catalog.model_shape import ModelShape, TensorShape
from pitool.catalog.scratch import scratch
from pitool.catalog.tensor_types import Quantisation
from pitool.checkpoint.config import Config
from pitool.checkpoint.weights import is_weight, link_weights, read_index
from pitool.convert.gguf.vocabulary import Vocabulary, read_vocabulary
from pitool.errors import BadInput, MissingPart, PitoolError
from pitool.process.program import follow

PACKAGE = "llama-cpp-python"
SCRIPT = "convert_hf_to_gguf.py"
EMBEDDING = "token_embd.weight"
# Older names of the sizes, in order of preference.
NAMES = {
    "num_hidden_layers": ("n_layers", "n_layer", "num_layers"),
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_attention_heads": ("n_head", "n_heads"),
    "num_key_value_heads": ("n_head_kv", "num_kv_heads"),
    "intermediate_size": ("ffn_dim", "n_inner", "d_ff"),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len", "seq_length"),
}


class Foreign:
    """A model that only llama.cpp's converter supports; its sizes are used for the plan alone."""

    remark = ""

    def __init__(self, config: Config) -> None:
        self.architecture, self._config = config.model_type, config

    @property
    def shape(self) -> ModelShape:
        """The sizes, under whichever names the settings give them; no layer differs."""
        config = self._config
        values = dict(config.text_model().values)
        for name, others in NAMES.items():
            found = next((values[o] for o in (name, *others) if values.get(o) is not None), None)
            values[name] = _largest(found)
        named = Config(values, config.path)
        hidden, heads = named.count("hidden_size"), named.count("num_attention_heads", 1)
        layers, table = named.count("num_hidden_layers"), (named.count("vocab_size"), hidden)
        return ModelShape(
            architecture=self.architecture,
            layers=layers,
            hidden=hidden,
            feed_forward=named.count("intermediate_size", 4 * hidden),
            heads=heads,
            kv_heads=named.count("num_key_value_heads", heads),
            head_dim=named.count("head_dim", max(hidden // heads, 1)),
            vocabulary=named.count("vocab_size"),
            context=named.count("max_position_embeddings", 4096),
            tensors=tuple(want.target for want in self._tensors(layers, table)),
            short_context=_short_context(named),
        )

    def wanted(self) -> list[Wanted]:
        """Return the checkpoint's weights, with GGUF's names where they are the usual ones."""
        shape = self.shape
        return self._tensors(shape.layers, (shape.vocabulary, shape.hidden))

    def _tensors(self, layers: int, table: tuple[int, int]) -> list[Wanted]:
        """Return the tensors; an embedding of another name is recognised by its ``table`` shape."""
        usual = get_tensor_name_map(MODEL_ARCH.LLAMA, layers)
        index = self._config.tensors or read_index(self._config.path.parent)
        tensors = {name: tensor for name, tensor in index.items() if is_weight(tensor)}
        names = {name: usual.get_name(name, (".weight", ".bias")) or name for name in tensors}
        if EMBEDDING not in names.values():
            found = (name for name, tensor in tensors.items() if tensor.shape == table)
            if first := next(found, None):
                names[first] = EMBEDDING
        return [Wanted(TensorShape(names[name], t.shape), name) for name, t in tensors.items()]

    def metadata(self) -> Iterator[tuple[str, Any]]:
        """Yield nothing: the converter writes it."""
        yield from ()


def _largest(value: Any) -> Any:
    """Return the largest of a list, which some families have with a number for each layer."""
    numbers = isinstance(value, list) and value and all(type(n) is int for n in value)
    return max(value) if numbers else value


def _short_context(config: Config) -> int:
    """Return up to how many tokens LongRoPE takes its short factors; 0 where it takes no others."""
    values = config.values
    table = values.get("rope_parameters") or values.get("rope_scaling")
    if not isinstance(table, dict) or "long_factor" not in table:
        return 0
    original = table.get(ORIGINAL) or values.get(ORIGINAL)
    trained = config.count("max_position_embeddings", 4096)
    return original if type(original) is int and 0 < original < trained else 0


def find_foreign(config: Config) -> Foreign:
    """Return the model for llama.cpp's converter.

    MissingPart when the converter or one of its packages is missing, BadInput for an architecture
    that it does not support either.
    """
    what = (
        f"{config.path.parent} is a {config.model_type!r} model ({config.architecture}), which"
        " pitool cannot convert natively"
    )
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingPart(
                f"{what}, and llama.cpp's own converter needs {package}",
                "run: pip install 'pitool[export]'",
            )
    if config.architecture not in _known(source_folder()):
        raise BadInput(
            f"{what}, and llama.cpp's own converter does not support it either",
            "choose a model of another architecture, or try --format onnx",
        )
    return Foreign(config)


def _known(source: Path) -> set[str]:
    """Return the architectures in the converter's table of text models."""
    text = (source / "conversion" / "__init__.py").read_text(encoding="utf-8")
    return set(re.findall(r'"(\w+)": "\w+"', text.partition("MMPROJ_MODEL_MAP")[0]))


def source_folder() -> Path:
    """Return the folder of llama.cpp's sources, downloaded once; MissingPart if that fails."""
    named = os.environ.get("PITOOL_LLAMA_CPP_SDIST")
    version = importlib.metadata.version(PACKAGE)
    kept = cache.root() / f"sdist-{version}"
    root = expand(named, "PITOOL_LLAMA_CPP_SDIST") if named else kept
    if not named and not root.is_dir():
        _download(version, root)
    if not named:
        cache.take(root)
        cache.trim()
    source = root / "vendor" / "llama.cpp"
    if not (source / SCRIPT).is_file():
        raise MissingPart(
            f"{root} does not contain llama.cpp's {SCRIPT}",
            "point PITOOL_LLAMA_CPP_SDIST to an unpacked source archive of llama-cpp-python"
            if named
            else "remove that folder and try again",
        )
    return source


def _download(version: str, root: Path) -> None:
    """Download and unpack the source archive; the folder gets its name only when complete."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with scratch(root.parent, "sdist") as folder:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pip", "download", "-q", "--no-deps",
             "--no-binary", PACKAGE, "-d", str(folder), f"{PACKAGE}=={version}"],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        archives = list(folder.glob("*.tar.gz"))
        if done.returncode or not archives:
            reason = (done.stderr.strip().splitlines() or ["no archive"])[-1]
            raise MissingPart(
                f"cannot download llama.cpp's own converter ({reason[:200]})",
                f"run: pip download --no-deps --no-binary {PACKAGE} {PACKAGE}=={version},"
                " unpack it, and point PITOOL_LLAMA_CPP_SDIST to the folder",
            )
        unpacked = folder / "unpacked"
        with tarfile.open(archives[0]) as archive:
            archive.extractall(unpacked, filter="data")
        next(unpacked.iterdir()).rename(root)


def vocabulary(folder: Path, size: int) -> Vocabulary:
    """Return as much of the vocabulary as can be read, for the files next to the GGUF."""
    try:
        return read_vocabulary(folder, size)
    except BadInput:
        tokens = [f"[PAD{i}]".encode() for i in range(size)]
        return Vocabulary("none", "", tokens, [], [], SpecialVocab(folder, n_vocab=size))


def run_converter(folder: Path, target: Path, kind: Quantisation) -> None:
    """Write ``target`` in a float type from a checkpoint folder; PitoolError with the reason."""
    with _plain_folder(folder) as plain:
        _run(plain, folder, target, kind)


@contextmanager
def _plain_folder(folder: Path) -> Iterator[Path]:
    """Give a folder in which the converter finds the weights that are chosen here, and no others.

    It would mix every file whose name begins with ``model``, and obeys an index before anything.
    """
    with cache.working("links") as links:
        plain = links / folder.name  # the model is called after its folder
        plain.mkdir()
        for path in folder.iterdir():
            if ".safetensors" not in path.name:
                (plain / path.name).symlink_to(path.resolve())
        link_weights(folder, plain)
        yield plain


def _run(plain: Path, folder: Path, target: Path, kind: Quantisation) -> None:
    source = source_folder()
    paths = os.pathsep.join([str(source), str(source / "gguf-py")])
    last = ""

    def remember(line: str) -> None:
        nonlocal last
        last = line.strip() or last

    words = [str(source / SCRIPT), str(plain), "--outfile", str(target)]
    code = follow(
        [sys.executable, *words, "--outtype", kind.name.lower()],
        remember,
        environment={"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
    )
    if code != 0 or not target.is_file():
        raise PitoolError(
            f"llama.cpp's own converter failed on {folder} ({last[:300]})",
            "choose a model of another architecture, or report it to llama.cpp",
        )
