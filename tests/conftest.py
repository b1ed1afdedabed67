"""Guards and fixtures for all tests: no network, no user data, and a tiny checkpoint to convert."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.tiny import write_checkpoint

# Time is never asserted: a busy machine is not a failure.
settings.register_profile("pitool", deadline=None)
settings.load_profile("pitool")

# Tests that use onnxruntime by themselves send no telemetry either.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the long rounds of ``tests/fuzz`` and ``tests/faults``."""
    parser.addoption("--long", action="store_true", help="the long rounds of fuzz and faults")


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's bundles, caches and the hub."""
    home = tmp_path / "pitool-home"
    own = tmp_path.parent / f"{tmp_path.name}-user"
    own.mkdir(exist_ok=True)
    for name in ("HOME", *(name for name in os.environ if name.startswith("XDG_"))):
        monkeypatch.setenv(name, str(own))
    monkeypatch.setenv("PITOOL_HOME", str(home))
    monkeypatch.setenv("PITOOL_CACHE", str(tmp_path / "pitool-cache"))
    monkeypatch.setenv("PITOOL_LLAMA_CPP_SDIST", str(tmp_path / "no-sdist"))
    # transformers takes seconds to start: the tests that need it say so.
    monkeypatch.setenv("PITOOL_REFERENCE", "pitool")
    # One window: hundreds of tests convert, few are about how well.
    monkeypatch.setenv("PITOOL_REFERENCE_TOKENS", "512")
    monkeypatch.setenv("PITOOL_CALIBRATION_TOKENS", "512")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    return home


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    """Let Ctrl-C and a hang-up reach the tests and what they start.

    In the background of a shell, and under nohup, one of them is ignored from the start, which a
    program inherits.
    """
    usual: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def same_logging() -> Iterator[None]:
    """Hold that nothing silences the root logger for good, through which our warnings pass.

    What a command in this process has added to ours goes with the test.
    """
    ours, before = logging.getLogger("pitool"), logging.getLogger().level
    handlers = list(ours.handlers)
    yield
    ours.handlers = handlers
    assert logging.getLogger().level == before


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection; those marked ``network`` may use the loopback interface."""
    loopback = request.node.get_closest_marker("network") is not None
    real: Callable[..., Any] = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> Any:
        local = self.family == socket.AF_UNIX or (
            loopback and isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1")
        )
        if not local:
            raise AssertionError(f"a test connected to {address!r}")
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama checkpoint of random weights with a byte-level BPE tokenizer."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture(scope="session")
def shared_data() -> Iterator[Path]:
    """Real tokenizers, configs and a trained model, where they lie beside the project."""
    if not SHARED.is_dir():
        pytest.skip("the shared test data is not beside this clone")
    yield SHARED


@pytest.fixture
def as_user() -> None:
    """Skip what root is never refused."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
