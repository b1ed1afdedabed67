"""The settings of a source as a plan needs them, before its weights are on this machine."""

from __future__ import annotations

from pitool.architectures.table import TABLE
from pitool.checkpoint import hub
from pitool.checkpoint.config import Config, read_config
from pitool.checkpoint.source import Source


def read_settings(source: Source) -> Config:
    """Return the settings of a source whose folder is known.

    A family tells its tensors from the settings; of a model that is none, the headers of the
    weights do, which are read by range requests where the weights are still on the hub.
    """
    assert source.folder
    config = read_config(source.folder)
    if source.revision is not None and config.model_type not in TABLE:
        return config.with_tensors(hub.read_headers(source).tensors)
    return config
