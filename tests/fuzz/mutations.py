"""What is done to a file that was whole: blind changes of its bytes, and changes of its values.

Each function takes the bytes of a seed and returns a strategy for damaged ones.
"""

from __future__ import annotations

import copy
import io
import json
import sqlite3
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

Damaged = st.SearchStrategy[bytes]
Damage = Callable[[bytes], Damaged]

NUMBERS = (
    0, 1, -1, 2, 65, 255, 1000, 65_535, 100_000, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53,
    2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**40, 10**400,
)  # fmt: skip
TEXTS = (
    "", "a", "x" * 300, "../../x", "/etc/passwd", "a\0b", "\ud800", "é" * 100, "%d%d",
    "%999999999d", "%s", "\x1b[2J", "NaN", "1e999", "-1", "<f4", "C:\\x", "~nosuch/x", "[",
    "{{ 1 }}", "\n",
)  # fmt: skip
NAMES = ("a", "x" * 300, "../../x", "/etc/passwd", "a\0b", "é", "C:\\x", "a/./b", "\n", "ids.npy")
VALUES: tuple[Any, ...] = (
    None, True, False, *NUMBERS, *TEXTS, 0.5, -0.5, 1e308, -1e308, 1e-320, float("nan"),
    float("inf"), [], {}, [[]], {"a": {}}, [None], [1, "a"], [{}] * 3, [0] * 1000, {"": ""},
)  # fmt: skip
WHOLE_TEXTS = (
    b"", b" ", b"\0", b"null", b"1", b'""', b"[]", b"{}", b"[", b"[" * 100_000, b'{"a":' * 100_000,
    b"[" * 150 + b"]" * 150, b"[" * 90 + b"]" * 90, b"9" * 5000, b"1e999", b"NaN", b'"\\ud800"',
    b"\xff\xfe", b"\xef\xbb\xbf{}", b"\x80", b"{" + b'"a":1,' * 10_000 + b'"a":1}',
)  # fmt: skip


@st.composite
def blind(draw: st.DrawFn, seed: bytes) -> bytes:
    """Cut, overwrite, insert, repeat and number bytes anywhere."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data), 1) - 1))
        match draw(st.sampled_from(("number", "put", "flip", "insert", "cut", "drop", "repeat"))):
            case "number":
                code = draw(st.sampled_from("BHIQ"))
                size = struct.calcsize(code)
                number = draw(st.sampled_from(NUMBERS)) % (1 << 8 * size)
                data[at : at + size] = struct.pack(f"<{code}", number)
            case "put":
                new = draw(st.binary(min_size=1, max_size=8))
                data[at : at + len(new)] = new
            case "flip":
                data[at : at + 1] = bytes(
                    b ^ 1 << draw(st.integers(0, 7)) for b in data[at : at + 1]
                )
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 64))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


@st.composite
def damaged_value(draw: st.DrawFn, value: Any) -> Any:
    """Replace, drop, add or double a few of the values in a JSON document."""
    changed = {"": copy.deepcopy(value)}
    for _ in range(draw(st.integers(1, 3))):
        outer, key = draw(st.sampled_from(_places(changed)))
        kinds = ("replace", "replace", "drop", "add") if outer is not changed else ("replace",)
        match draw(st.sampled_from(kinds)):
            case "replace":
                outer[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
            case "drop":
                del outer[key]
            case "add" if isinstance(outer, dict):
                outer[draw(st.sampled_from(TEXTS))] = copy.deepcopy(draw(st.sampled_from(VALUES)))
            case "add":
                outer.insert(key, copy.deepcopy(draw(st.sampled_from(VALUES))))
    return changed[""]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return where each value stands; of long lists and tables only the beginning."""
    found: list[tuple[Any, Any]] = []
    for key in list(value)[:40] if isinstance(value, dict) else range(min(len(value), 8)):
        found.append((value, key))
        if isinstance(value[key], dict | list):
            found += _places(value[key])
    return found


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def json_text(seed: bytes) -> Damaged:
    """Damage a JSON document."""
    changed = damaged_value(json.loads(seed)).map(_dumped)
    return st.one_of(changed, changed, changed, st.sampled_from(WHOLE_TEXTS), blind(seed))


def json_lines(seed: bytes) -> Damaged:
    """Damage a line of JSON among others, or the whole."""
    first, *rest = seed.splitlines()
    changed = damaged_value(json.loads(first)).map(lambda v: b"\n".join([_dumped(v), *rest]))
    return st.one_of(changed, changed, st.sampled_from(WHOLE_TEXTS), blind(seed))


def text(seed: bytes) -> Damaged:
    """Damage a text, such as TOML."""
    words = st.sampled_from([*(t.encode("utf-8", "replace") for t in TEXTS), *WHOLE_TEXTS])
    swapped = st.tuples(st.integers(0, len(seed)), words).map(
        lambda change: seed[: change[0]] + change[1] + seed[change[0] :]
    )
    return st.one_of(blind(seed), swapped, st.sampled_from(WHOLE_TEXTS))


def binary(seed: bytes) -> Damaged:
    """Damage a file of numbers."""
    return st.one_of(blind(seed), blind(seed), st.sampled_from(WHOLE_TEXTS))


def safetensors(seed: bytes) -> Damaged:
    """Damage the header's values, or anything."""
    (length,) = struct.unpack("<Q", seed[:8])
    header, rest = json.loads(seed[8 : 8 + length]), seed[8 + length :]

    def joined(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text + rest

    changed = damaged_value(header).map(lambda value: joined(_dumped(value)))
    wholes = st.sampled_from(WHOLE_TEXTS).map(joined)
    return st.one_of(changed, changed, wholes, binary(seed))


ARRAYS: tuple[Any, ...] = (
    np.zeros((0,)), np.zeros((2, 0), np.int32), np.float32(1), np.full((2, 3), np.nan, np.float32),
    np.full((4, 8), np.inf, np.float32), np.array([-1, 2**31 - 1], np.int64), np.array("x" * 2000),
    np.array([None, {}], object), np.zeros(3, "M8[s]"), np.zeros(2, [("a", "<f4")]),
    np.arange(4) > 2, np.zeros((1, 1, 1, 1, 1)), np.asfortranarray(np.ones((3, 5), np.float32)),
    np.zeros(4, ">f4"), np.zeros(3, np.complex64), np.zeros((1 << 16, 64), np.float32),
)  # fmt: skip
HEADS = (
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }\n" % (b"9" * 400),
    b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
    b"{'descr': '<U999999999', 'fortran_order': False, 'shape': (), }\n",
    b"(" * 9000,
    b"{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os'), }\n",
)


@st.composite
def _rebuilt_zip(draw: st.DrawFn, seed: bytes) -> bytes:
    """Replace, double or drop members of an archive of arrays."""
    with zipfile.ZipFile(io.BytesIO(seed)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = draw(st.sampled_from(sorted(members)))
    match draw(st.sampled_from(("array", "head", "blind", "drop", "name", "bomb"))):
        case "array":
            buffer = io.BytesIO()
            np.save(buffer, draw(st.sampled_from(ARRAYS)), allow_pickle=True)
            members[name] = buffer.getvalue()
        case "head":
            head = draw(st.sampled_from(HEADS))
            members[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head
        case "blind":
            members[name] = draw(blind(members[name]))
        case "drop":
            del members[name]
        case "name":
            members[draw(st.sampled_from(NAMES))] = members.pop(name)
        case "bomb":
            members[name] = members[name][:128] + bytes(40 << 20)
    buffer = io.BytesIO()
    kind = draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)))
    with zipfile.ZipFile(buffer, "w", kind if len(members.get(name, b"")) < 1 << 24 else 8) as made:
        for each, data in members.items():
            made.writestr(each, data)
    return buffer.getvalue()


def arrays(seed: bytes) -> Damaged:
    """Damage an archive of arrays: its members, or its bytes."""
    return st.one_of(_rebuilt_zip(seed), binary(seed))


SQL_VALUES: tuple[Any, ...] = (
    None, 0, -1, 2**63 - 1, 1.5, 1e308, float("inf"), *(t for t in TEXTS if "\ud800" not in t), b"",
    b"\xff\xfe", b"x" * 1000, "[" * 100_000, "{}", "null", "[]", '{"sampling": 1}', "1",
)  # fmt: skip


@st.composite
def _edited_rows(draw: st.DrawFn, seed: bytes) -> bytes:
    """Set a column of some rows to a value of any type, or a JSON column to a damaged document."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy"
        path.write_bytes(seed)
        connection = sqlite3.connect(path)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        found = [
            (table, column[1])
            for (table,) in connection.execute(tables).fetchall()
            for column in connection.execute(f"PRAGMA table_info({table})").fetchall()
        ]
        for _ in range(draw(st.integers(1, 2))):
            table, column = draw(st.sampled_from(found))
            (old,) = connection.execute(f"SELECT max({column}) FROM {table}").fetchone()
            value = st.sampled_from(SQL_VALUES)
            if isinstance(old, str) and old.startswith('{"'):
                value = st.one_of(value, damaged_value(json.loads(old)).map(json.dumps))
            new, text = draw(value), draw(st.booleans())
            as_text = "CAST(? AS TEXT)" if text and isinstance(new, bytes) else "?"
            statement = f"UPDATE OR IGNORE {table} SET {column} = {as_text}"
            try:
                connection.execute(statement, (new,))
            except sqlite3.Error:  # a constraint that cannot be lifted
                continue
        connection.commit()
        connection.close()
        return path.read_bytes()


def database(seed: bytes) -> Damaged:
    """Damage the values of a database, or its bytes."""
    return st.one_of(_edited_rows(seed), _edited_rows(seed), binary(seed))


@st.composite
def _rebuilt_tar(draw: st.DrawFn, seed: bytes) -> bytes:
    """Damage the manifest of an archive, or add a member that has no business there."""
    buffer = io.BytesIO()
    odd = draw(
        st.sampled_from(("manifest", "manifest", "manifest", "link", "name", "twice", "pax"))
    )
    with (
        tarfile.open(fileobj=io.BytesIO(seed)) as tar,
        tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made,
    ):
        for i, member in enumerate(tar):
            file = tar.extractfile(member)
            assert file
            data = file.read()
            if i == 0 and odd == "manifest":
                data = draw(json_text(data))
            member.size = len(data)
            if i and odd == "name":
                member.name = draw(st.sampled_from(NAMES)).replace("\0", "?")
            if i and odd == "link":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            if i and odd == "pax":
                member.pax_headers = {
                    "path": "x" * 70_000,
                    "size": draw(st.sampled_from(TEXTS[:4])),
                }
            made.addfile(member, io.BytesIO(data))
            if odd == "twice":
                made.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def archive(seed: bytes) -> Damaged:
    """Damage a tar: its manifest, its members, or its bytes."""
    return st.one_of(_rebuilt_tar(seed), _rebuilt_tar(seed), binary(seed))
