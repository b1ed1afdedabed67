"""Rotary position embedding as the settings give it: base, rotated numbers, scaling.

Owns the reading of both layouts of transformers (``rope_scaling`` of 4, ``rope_parameters`` of 5)
after its ``modeling_rope_utils``. Never computes a frequency: each writer and the reference do
that for themselves, so that a mistake of one shows in the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

from pitool.architectures.settings import REPAIR, Settings, refuse_key
from pitool.checkpoint.config import Config
from pitool.errors import BadInput


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Changes nothing up to the trained context, which is all that is offered."""


@dataclass(frozen=True, slots=True)
class Linear:
    """All frequencies are divided by ``factor``."""

    factor: float


@dataclass(frozen=True, slots=True)
class Llama3:
    """Llama 3.1: low frequencies are divided by ``factor``, high ones kept, the rest blended."""

    factor: float
    low: float
    high: float
    original: float


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN (Peng et al. 2023): interpolated and kept frequencies are blended by wavelength.

    ``beta_fast`` and ``beta_slow`` as the settings give them, None where they do not.
    ``attention`` multiplies cosines and sines.
    """

    factor: float
    original: int
    attention: float
    beta_fast: float | None = None
    beta_slow: float | None = None
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class LongRope:
    """LongRoPE (Ding et al. 2024): frequencies are divided each by its own number.

    ``short`` up to the ``original`` context, ``long`` beyond; ``attention`` as in ``Yarn``.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original: int
    attention: float


@dataclass(frozen=True, slots=True)
class Proportional:
    """Gemma 4: the first ``pairs`` of a head are rotated as in a whole one, the others are not.

    Frequencies are divided by ``factor``.
    """

    pairs: int
    factor: float = 1.0


Scaling = Proportional | Dynamic | Linear | Llama3 | Yarn | LongRope


@dataclass(frozen=True, slots=True)
class Rope:
    """The first ``dim`` numbers of a head are rotated, to the base ``theta``.

    ``scaling``: None for frequencies as they come; ``kind`` is its name in transformers.
    """

    theta: float
    dim: int
    kind: str = "default"
    scaling: Scaling | None = None


ORIGINAL = "original_max_position_embeddings"
# Keys of the scaling of any kind; transformers takes those of its own kind and ignores the rest.
KEYS = frozenset((
    "rope_theta", "rope_type", "type", "partial_rotary_factor", "factor",
    "original_max_position_embeddings", "low_freq_factor", "high_freq_factor", "beta_fast",
    "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate", "short_factor",
    "long_factor", "finetuned",
))  # fmt: skip


def read_rope(
    settings: Settings,
    head_dim: int,
    *,
    theta: float = 10000.0,
    share: float | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Rope:
    """Return the rotation; BadInput where it is not known or its numbers cannot be.

    ``theta`` and ``share`` are what transformers assumes for a missing setting, None for the share
    of a family that rotates whole heads whatever is set; ``aliases``: other names of kinds.
    """
    table = rope_table(settings)
    return make_rope(settings, table, head_dim, theta=theta, share=share, aliases=aliases)


def default_rope(settings: Settings, table: dict[str, Any]) -> None:
    """Complete the settings by the rotation that transformers assumes where none is named.

    BadInput for one that is named null: no scaling to transformers 4, the assumed one to 5.
    """
    named = [key for key in ("rope_parameters", "rope_scaling") if key in settings.values]
    if not named:
        settings.default(rope_scaling=table)
    elif not any(settings.value(key) for key in named):
        raise BadInput(
            f"{settings.path}: {named[0]!r} is null, which transformers 4 takes for no scaling of"
            " the rotation and transformers 5 for the family's own",
            "write the one that the model was trained with, such as {'rope_type': 'default'}",
        )


def rope_table(settings: Settings, layers: str = "full_attention") -> dict[str, Any]:
    """Return the table of the rotation of a kind of layers, empty where there is none.

    BadInput where both layouts are there and differ: transformers 4 and 5 read one each.
    """
    new, old = settings.value("rope_parameters"), settings.value("rope_scaling")
    table = new or old or {}
    if not isinstance(table, dict):
        raise settings.bad("rope_scaling", "a table")
    if new and old and new != old:
        raise BadInput(
            f"{settings.path}: 'rope_parameters' and 'rope_scaling' differ, of which versions of"
            " transformers read one each",
            "remove the one that the model was not trained with",
        )
    kinds = [kind for kind in ("full_attention", "sliding_attention") if kind in table]
    if not kinds:
        return table
    found = table.get(layers, {})
    if not isinstance(found, dict):
        raise settings.bad("rope_parameters", "one table per layer type")
    return found


def make_rope(
    settings: Settings,
    table: dict[str, Any],
    head_dim: int,
    *,
    theta: float = 10000.0,
    share: float | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Rope:
    """Return the rotation of a table, completed by the settings beside it."""
    for key, value in table.items():
        if key not in KEYS and value is not None:
            raise refuse_key(settings, f"rope_scaling.{key}", value)
    settings.note(ORIGINAL)  # of no use to a rotation that has none
    numbers = _Numbers(settings, table)
    dim = numbers.rotated(share, head_dim)
    kind = _kind(settings, table, aliases or {})
    base = numbers.theta(theta)
    return Rope(base, dim, kind, numbers.scaling(kind, dim, base))


def _kind(settings: Settings, table: dict[str, Any], aliases: Mapping[str, str]) -> str:
    """Return the kind of scaling; BadInput where its two names say two things."""
    named = (str(table[key]).lower() for key in ("rope_type", "type") if table.get(key))
    kinds = list(dict.fromkeys(aliases.get(name, name) for name in named))
    if len(kinds) > 1:
        raise BadInput(
            f"{settings.path}: the rope scaling has the 'rope_type' {kinds[0]!r} and the 'type'"
            f" {kinds[1]!r}",
            "remove the one that the model was not trained with",
        )
    return kinds[0] if kinds else "default"


class _Numbers:
    """The numbers of a rotation: of its table first, then of the settings."""

    def __init__(self, settings: Settings, table: dict[str, Any]) -> None:
        self._settings, self._table = settings, Config(table, settings.path)

    def theta(self, default: float) -> float:
        given = "rope_theta" in self._table.values
        if not given and "rope_theta" not in self._settings.values:
            return default
        source = self._table if given else self._settings
        theta = source.number("rope_theta")
        if theta <= 0:
            raise source.bad("rope_theta", "a positive number")
        self._settings.note("rope_theta")
        return theta

    def rotated(self, default: float | None, head_dim: int) -> int:
        """Return how many numbers of a head are rotated, in pairs."""
        if default is None:
            return self._whole(head_dim)
        share = self._share(default)
        dim = int(share * head_dim)
        if dim < 2 or dim % 2:
            raise self._error(
                f"'partial_rotary_factor' {share} rotates {dim} of {head_dim} numbers of a head,"
                " but an even number is needed"
            )
        return dim

    def _whole(self, head_dim: int) -> int:
        share = self._table.values.get("partial_rotary_factor")
        if share is not None and share != 1:
            raise refuse_key(self._settings, "rope_scaling.partial_rotary_factor", share)
        return head_dim

    def _share(self, default: float) -> float:
        given = self._table.values.get("partial_rotary_factor") is not None
        beside = self._settings.number("partial_rotary_factor", default)
        share = self._table.number("partial_rotary_factor") if given else beside
        if not 0 < share <= 1:
            raise self._error(f"'partial_rotary_factor' is {share}")
        return share

    def scaling(self, kind: str, dim: int, theta: float) -> Scaling | None:
        match kind:
            case "default":
                return None
            case "dynamic":
                return Dynamic()
            case "linear":
                return Linear(self._positive("factor"))
            case "llama3":
                return self._llama3()
            case "yarn":
                return self._yarn(theta)
            case "longrope":
                return self._longrope(dim)
        raise BadInput(
            f"{self._settings.path}: rope scaling {kind!r} is not supported",
            "convert a checkpoint with default, dynamic, linear, llama3, longrope or yarn scaling",
        )

    def _positive(self, key: str) -> float:
        value = self._table.number(key)
        if value <= 0:
            raise self._error(f"rope scaling has {key!r} {value}")
        return value

    def _maybe(self, key: str) -> float | None:
        return None if self._table.values.get(key) is None else self._table.number(key)

    def _original(self, *, own: bool) -> int:
        """Return the context before it was stretched, in the table or beside it.

        Transformers 5 takes the one beside first, 4 only one of both: the table's ``own``, or the
        one beside. BadInput where it matters.
        """
        trained = self._settings.count("max_position_embeddings")
        beside = self._settings.count(ORIGINAL, 0) if self._given(self._settings) else None
        inside = self._table.count(ORIGINAL) if self._given(self._table) else None
        newer = beside or inside or trained
        older = (inside if own else beside) or trained
        return int(self._agreed(ORIGINAL, older, newer))

    def _agreed(self, key: str, older: float, newer: float) -> float:
        """Return what transformers 5 reads; BadInput where 4, which knows one layout, differs."""
        if self._settings.value("rope_scaling") and older != newer:
            raise BadInput(
                f"{self._settings.path}: transformers 4 takes {older:g} for {key!r} of the rope"
                f" scaling, transformers 5 {newer:g}",
                f"write the number that the model was trained with as {key!r} both in"
                " 'rope_scaling' and beside it",
            )
        return newer

    @staticmethod
    def _given(source: Config) -> bool:
        return source.values.get(ORIGINAL) is not None

    def _llama3(self) -> Llama3:
        factor, low, high = map(self._positive, ("factor", "low_freq_factor", "high_freq_factor"))
        original = self._original(own=True)
        if high <= low:
            raise self._error(
                f"rope scaling has 'high_freq_factor' {high} below 'low_freq_factor' {low}"
            )
        return Llama3(factor, low, high, float(original))

    def _yarn(self, theta: float) -> Yarn:
        if theta <= 1:  # its logarithm is divided by
            raise self._error(f"YaRN cannot scale a rotation whose 'rope_theta' is {theta:g}")
        factor = self._positive("factor")
        attention = self._maybe("attention_factor")
        if attention is None:
            attention = self._yarn_attention(factor)
        if attention <= 0:
            raise self._error(f"rope scaling has 'attention_factor' {attention}")
        truncate = self._table.flag("truncate", default=True)
        return Yarn(
            factor,
            self._original(own=True),
            attention,
            self._beta("beta_fast"),
            self._beta("beta_slow"),
            truncate,
        )

    def _beta(self, key: str) -> float | None:
        beta = self._maybe(key)
        if beta is not None and beta < 0:
            raise self._error(f"rope scaling has {key!r} {beta}")
        return beta

    def _yarn_attention(self, factor: float) -> float:
        """Return the factor of the paper, or the ratio of two where both scales are given."""

        def scaled(scale: float) -> float:
            return 0.1 * scale * log(factor) + 1.0 if factor > 1 else 1.0

        over, under = self._maybe("mscale"), self._maybe("mscale_all_dim")
        return scaled(over) / scaled(under) if over and under else scaled(1.0)

    def _longrope(self, dim: int) -> LongRope:
        original = self._original(own=False)
        stretch = self._stretch(original)
        lists = [self._table.values.get(key) for key in ("short_factor", "long_factor")]
        if any(not isinstance(found, list) or len(found) != dim // 2 for found in lists):
            raise self._error(
                f"LongRoPE needs {dim // 2} numbers in 'long_factor' and 'short_factor'"
            )
        short, long = (self._all(found or []) for found in lists)
        if min(*short, *long) <= 0:
            raise self._error("a LongRoPE factor is not positive")
        attention = self._maybe("attention_factor")
        if attention is None and stretch > 1 and original < 2:
            raise self._error("LongRoPE cannot stretch a context of one token")
        if attention is None:
            attention = sqrt(1 + log(stretch) / log(original)) if stretch > 1 else 1.0
        if attention <= 0:
            raise self._error(f"rope scaling has 'attention_factor' {attention}")
        return LongRope(short, long, original, attention)

    def _stretch(self, original: int) -> float:
        """Return how far the context was stretched: by the factor, or by the two contexts."""
        ratio = self._settings.count("max_position_embeddings") / original
        factor = self._maybe("factor")
        if factor is None:
            return ratio
        older = ratio if self._given(self._settings) else factor
        return self._agreed("factor", older, factor)

    def _all(self, numbers: list[object]) -> tuple[float, ...]:
        named = Config({f"factor {i}": n for i, n in enumerate(numbers)}, self._settings.path)
        return tuple(named.number(name) for name in named.values)

    def _error(self, what: str) -> BadInput:
        return BadInput(f"{self._settings.path}: {what}", REPAIR)
