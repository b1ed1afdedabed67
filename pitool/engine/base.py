"""What every engine speaks: settings and sampling in, tokens with their timings out.

Owns the words only. Runtimes live in a file each, ``registry`` names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from pitool.catalog.kv_types import CacheTypes
from pitool.catalog.unicode import clean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LoadMode = Literal["mmap", "read", "mlock"]
FlashAttention = Literal["auto", "on", "off"]
Priority = Literal["normal", "high"]
POLLING = (0, 50, 100)
Finish = Literal["stop", "length", "context", "cancelled"]
Task = Literal["generate", "embed", "rerank"]
"""What a model was made for: to write, to give a vector for a text, to rate a text by a query."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How an artifact is loaded.

    ``context``: tokens that the KV cache holds; ``batch``: most tokens of one prefill call;
    ``micro_batch``: tokens of one pass over the weights; ``kv_type``: one of
    ``catalog.kv_types.KV_TYPES``, of the
    keys and, where ``value_type`` is None, of the values; ``outputs``: most rows of logits at
    once, each of which reserves the vocabulary in float32 (a chat needs one); ``sequences``:
    answers that are written at once, each with an equal part of the context (one of a runtime that
    cannot); ``load_mode``: ``mmap`` (pages shared with the page cache), ``read`` (a private copy)
    or ``mlock`` (mapped and kept from swap); ``repack``: let the runtime interleave weights for
    this CPU's fast kernels; ``adapters``: paths of LoRA files that are added to the weights.

    ``polling``: how eagerly threads look for work before they sleep, one of ``POLLING``: 0 not at
    all, 50 as the runtime does by default; ``pinned``: each stays on a core; ``priority``:
    ``high`` is before all that is not of real time, where the system allows it.

    ``ends``: ids of the tokens that end an answer, none where the runtime is to know them;
    ``nfc``: put a text into Unicode's composed form, which the runtime does not do; ``tokenizer``:
    a folder whose tokenizer.json and chat template turn prompts into tokens in place of the
    artifact's own.

    ``guesses``: most tokens that are guessed at once and checked in one pass, 0 for none;
    ``draft``: format and path of a small model with the same vocabulary, which guesses where the
    text so far does not; ``costs``: pairs of tokens in a pass and what such a pass costs, 1 for one
    token, as they were measured here; see ``engine.speculation.policy``.

    ``servers``: addresses (``IPV4:PORT``) of llama.cpp's RPC servers that hold the last layers, in
    their order; ``server_layers``: how many each of them holds, the first layers stay here;
    ``head_here``: the logits are computed here, not by the last server.
    """

    context: int
    decode_threads: int
    prefill_threads: int
    batch: int = 2048
    micro_batch: int = 512
    kv_type: str = "f16"
    value_type: str | None = None
    outputs: int = 1
    sequences: int = 1
    load_mode: LoadMode = "mmap"
    repack: bool = True
    flash_attention: FlashAttention = "auto"
    polling: int = 50
    pinned: bool = False
    priority: Priority = "normal"
    collect: bool = False
    adapters: Sequence[str] = ()
    ends: Sequence[int] = ()
    nfc: bool = False
    tokenizer: str | None = None
    servers: Sequence[str] = ()
    server_layers: Sequence[int] = ()
    head_here: bool = True
    guesses: int = 0
    draft: tuple[str, str] | None = None
    costs: Sequence[tuple[int, float]] = ()

    @property
    def cache(self) -> CacheTypes:
        """The types of the KV cache."""
        return CacheTypes(self.kv_type, self.value_type or self.kv_type)

    def with_cache(self, types: CacheTypes) -> Settings:
        """Return the settings with other types of the KV cache."""
        return replace(self, kv_type=types.keys, value_type=types.values)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; temperature 0 is greedy and exact.

    ``seed`` None draws one; ``repeat_penalty`` 1 is off and looks at the last
    ``repeat_window`` tokens, as ``presence_penalty`` and ``frequency_penalty`` do, which are taken
    from the logit of a token that is among them, the second as often as it is; 0 is off.
    ``logit_bias``: ids and what is added to their logits. ``stop`` are texts that end the answer
    and are not part of it.

    ``grammar``: what an answer may be, in llama.cpp's GBNF with the rule ``root``, nothing for any
    answer; ``triggers``: the grammar begins where the first of these words does, none for one that
    the answer follows from its first token on.

    ``speculate``: check guessed tokens several at once, where the settings have it;
    ``prediction``: a text that much of the answer is expected to be, from which tokens are guessed.

    ``top_logprobs``: so many of the most likely tokens come with each token, with their
    log-probabilities before any of the above; 0 for that of the chosen one, None for none.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_window: int = 64
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: str = ""
    triggers: tuple[str, ...] = ()
    top_logprobs: int | None = None
    speculate: bool = True
    prediction: str = ""

    @property
    def penalises(self) -> bool:
        """Whether what was written before makes a token less likely, or more."""
        own = self.presence_penalty != 0 or self.frequency_penalty != 0
        return self.repeat_window > 0 and (own or self.repeat_penalty != 1.0)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that an assistant asks for; ``arguments`` are a JSON object as text."""

    id: str
    name: str
    arguments: str

    def __post_init__(self) -> None:
        clean(self, "id", "name", "arguments")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; ``role`` is ``system``, ``user``, ``assistant`` or ``tool``.

    ``calls`` and ``reasoning`` are an assistant's; ``call_id`` and ``name`` say which call the
    result of a tool answers.
    """

    role: str
    content: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""
    reasoning: str = ""

    def __post_init__(self) -> None:
        clean(self, "role", "content", "call_id", "name", "reasoning")


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation with what else a chat template knows.

    ``tools``: functions as OpenAI's interface has them; ``options``: the template's own names,
    such as ``enable_thinking``; ``continue_last``: the last message is an assistant's, and the
    answer goes on with it.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    continue_last: bool = False


class Squares(NamedTuple):
    """Sums of squared inputs of a weight matrix, by expert.

    ``sums`` (experts, columns) float64; ``counts`` (experts,) of tokens.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]


Prompt = str | ChatPrompt | Sequence[Message] | Sequence[int]
"""A raw text, a conversation for the chat template, or token ids."""


def as_chat(prompt: Prompt) -> str | ChatPrompt | Sequence[int]:
    """Return a prompt with a plain conversation as a ``ChatPrompt``."""
    if isinstance(prompt, str | ChatPrompt):
        return prompt
    turns = tuple(turn for turn in prompt if isinstance(turn, Message))
    return ChatPrompt(turns) if turns else [int(i) for i in prompt if isinstance(i, int)]


@dataclass(frozen=True, slots=True)
class Timings:
    """Counts and seconds of one answer so far.

    ``reused_tokens`` of the ``prompt_tokens`` were in the KV cache already; ``prefilled_tokens``
    counts those that are in it now. ``prefill_seconds`` runs from where the prompt's turn came to
    the end of the prefill, ``ttft_seconds`` from the request, which may have waited, to the first
    token, ``decode_seconds`` from the first token on. ``accepted_tokens`` of the answer were among
    the ``guessed_tokens``, which were checked several at once.
    """

    prompt_tokens: int
    reused_tokens: int = 0
    prefilled_tokens: int = 0
    prefill_seconds: float = 0.0
    ttft_seconds: float = 0.0
    decoded_tokens: int = 0
    decode_seconds: float = 0.0
    guessed_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens per second, of those that were not reused."""
        done = self.prefilled_tokens - self.reused_tokens
        return done / self.prefill_seconds if self.prefill_seconds > 0 else 0.0

    @property
    def decode_rate(self) -> float:
        """Generated tokens per second; the first one belongs to the prefill."""
        steps = self.decoded_tokens - 1
        return steps / self.decode_seconds if steps > 0 and self.decode_seconds > 0 else 0.0

    @property
    def context_used(self) -> int:
        """Tokens in the KV cache."""
        return self.prefilled_tokens + max(self.decoded_tokens - 1, 0)


class TokenProbability(NamedTuple):
    """A token that might have come: its id, its bytes, the natural logarithm of its probability."""

    id: int
    piece: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class Token:
    """One step of an answer.

    ``id`` is None while the prompt is being read and when an answer ends without a new token; an
    end-of-generation token has its id and no text.
    ``text`` may be empty (a character still incomplete, a possible stop text held back) and never
    splits a character. ``finish`` is set on the last one. ``chosen`` and ``top``, most likely
    first, are there where ``Sampling.top_logprobs`` asks for them.
    """

    text: str
    id: int | None
    timings: Timings
    finish: Finish | None = None
    chosen: TokenProbability | None = None
    top: tuple[TokenProbability, ...] = ()

    @property
    def logprob(self) -> float | None:
        """The natural logarithm of its probability, where that was asked for."""
        return self.chosen.logprob if self.chosen else None


class Embeddings(NamedTuple):
    """Of several texts: ``vectors`` (texts, numbers) float32 of length 1, ``tokens`` of each."""

    vectors: NDArray[np.float32]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is loaded: ``bytes`` of weights, counts, and what runs it.

    ``chat_format``: how it writes reasoning and tool calls, a name of ``pitool.chat_format``;
    ``template_names``: what its chat template reads, such as ``tools`` and ``enable_thinking``;
    ``embedding``: numbers of the vector that it gives for a text; ``no_guesses``: why no tokens are
    guessed though the settings ask for it.
    """

    engine: str
    name: str
    architecture: str
    quantisation: str
    bytes: int
    parameters: int
    layers: int
    vocabulary: int
    trained_context: int
    chat_template: bool
    backend: str
    load_seconds: float
    settings: Settings
    chat_format: str = ""
    template_names: tuple[str, ...] = ()
    task: Task = "generate"
    embedding: int = 0
    no_guesses: str = ""

    @property
    def sequence_context(self) -> int:
        """Tokens that one answer may have, prompt included."""
        return self.settings.context // self.settings.sequences


class Engine(Protocol):
    """A loaded model; ``cancel`` may come from another thread.

    One request at a time, but for the engine of a worker, which takes several.
    """

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""

    @property
    def pid(self) -> int:
        """The process that holds the model."""

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
        """Yield the answer; a prefix that is in the KV cache is not processed again."""

    def cancel(self) -> None:
        """End all running answers within one token."""

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return token ids: of a raw text, or of a conversation through the chat template."""

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token, shape (tokens, vocabulary)."""

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        """Return a vector for each text or its token ids.

        UsageError of a runtime or a model that gives none.
        """

    def time_forward(self, ids: Sequence[int], *, one_by_one: bool) -> float:
        """Return the seconds to evaluate ``ids`` after what is in the KV cache.

        No sampling and no detokenization: in calls of ``Settings.batch`` tokens, or one by one,
        each waited for.
        """

    def clear(self) -> None:
        """Empty the KV cache."""

    def rewind(self, count: int) -> int:
        """Keep the first ``count`` tokens of the KV cache; return how many are left.

        Fewer are left where the model cannot drop a part, as one with a recurrent state.
        """

    def save_state(self, path: Path) -> None:
        """Write the KV cache and its tokens to a file."""

    def load_state(self, path: Path) -> int:
        """Read what ``save_state`` wrote; return the number of tokens."""

    def close(self) -> None:
        """Free the model."""
