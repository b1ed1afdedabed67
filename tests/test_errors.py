"""What is said of an error is readable, and what the system refuses has a remedy."""

from __future__ import annotations

import errno
import os

import pytest

from pitool.errors import MOST_CHARACTERS, BadInput, error_of_system, panics_raised


def test_a_name_of_a_stranger_is_not_obeyed_by_a_terminal() -> None:
    error = BadInput("cannot read \x1b[2Ja\ud800\x07", "check \x9bit")
    assert error.what == "cannot read �[2Ja��"
    assert error.do == "check �it"
    error.statement.encode()


def test_a_value_of_megabytes_stays_a_sentence() -> None:
    error = BadInput(f"the key is {'x' * 10_000_000} here", "repair it")
    assert len(error.what) < MOST_CHARACTERS + 10
    assert error.what.startswith("the key is xxx") and error.what.endswith("x here")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, 3), (errno.EDQUOT, 3), (errno.EFBIG, 3), (errno.EMFILE, 1),
        (errno.EACCES, 4), (errno.ENAMETOOLONG, 4), (errno.EIO, 4),
    ],
)  # fmt: skip
def test_what_the_system_refuses_has_a_remedy(number: int, code: int) -> None:
    found = error_of_system(OSError(number, os.strerror(number), "a name"), "choose another")
    assert found is not None and found.exit_code == code and found.do


def test_an_unforeseen_error_of_the_system_stays_a_fault() -> None:
    assert error_of_system(OSError(errno.ENOTSOCK, "?", "a name"), "") is None
    assert error_of_system(OSError(errno.EACCES, "of no file"), "") is None


def test_a_panic_is_caught_and_an_interruption_is_not() -> None:
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(RuntimeError, match="index"), panics_raised():
        raise panic("index out of bounds")
    with pytest.raises(KeyboardInterrupt), panics_raised():
        raise KeyboardInterrupt
