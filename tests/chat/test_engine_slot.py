"""What is brought back of a conversation from the disk, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.catalog.bundles import Runnable
from pitool.chat.engine_slot import SavedPrefills
from pitool.engine.prefills.files import Prefills
from pitool.engine.scripted import Scripted
from pitool.store.conversation import Conversation

TOKENS = list(range(200)) * 2


class Loading(Scripted):
    """Remembers which states it was given."""

    def __init__(self) -> None:
        super().__init__()
        self._cache = TOKENS
        self.loaded: list[bytes] = []

    def load_state(self, path: Path) -> int:
        self.loaded.append(path.read_bytes())
        return super().load_state(path)


def test_a_flipped_byte_never_reaches_the_engine(
    runnable: Runnable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, conversation = Loading(), Conversation()
    cache = SavedPrefills(Prefills(tmp_path / "p"))

    def leave_and_return(harm: int) -> None:
        cache.entered(conversation, len(TOKENS))
        cache.save(engine, runnable)
        cache.forget()
        (path,) = (tmp_path / "p").iterdir()
        data = bytearray(path.read_bytes())
        data[300] ^= harm
        path.write_bytes(data)
        cache.restore(engine, runnable, conversation)

    leave_and_return(1)
    assert engine.loaded == []
    assert caplog.messages == ["dropped a saved prefill: it is damaged"]
    assert list((tmp_path / "p").iterdir()) == []
    leave_and_return(0)  # it was made anew
    assert engine.loaded == [bytes(TOKENS)]
