"""What of a shared object decides on which board it loads: machine, page alignment, glibc.

Reads program headers of 64-bit little-endian ELF files (System V ABI, AArch64 supplement).
"""

from __future__ import annotations

import re
import struct

AARCH64 = 183
PT_LOAD = 1
PAGE_BYTES = 16 * 1024  # the largest page of a Raspberry Pi kernel


def machine(data: bytes) -> int | None:
    """Return ``e_machine`` of a 64-bit ELF file; None for anything else."""
    if data[:6] != b"\x7fELF\x02\x01" or len(data) < 64:
        return None
    number: int = struct.unpack_from("<H", data, 18)[0]
    return number


def alignment(data: bytes) -> int:
    """Return the smallest alignment of its loaded segments in bytes."""
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = (struct.unpack_from("<IIQQQQQQ", data, offset + i * size) for i in range(count))
    return min((header[7] for header in headers if header[0] == PT_LOAD), default=0)


def glibc(data: bytes) -> int:
    """Return the minor version of the newest ``GLIBC_2.x`` symbols that it asks for."""
    return max((int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)\0", data)), default=17)
