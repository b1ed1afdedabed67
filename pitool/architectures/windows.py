"""What llama.cpp's loaders want of windows, where several families have it alike."""

from __future__ import annotations

from pitool.architectures.description import Description
from pitool.architectures.settings import FULL, SLIDING


class MixedWindows:
    """For a file whose windows are in any layers, beside layers that see everything."""

    def check_windows(self, model: Description) -> None:
        """Accept windows in any layers; refuse a model without any or with nothing else."""
        if len({bool(window) for window in model.windows}) < 2:
            raise model.error(
                "layers of one kind alone are not supported",
                f"choose a checkpoint whose 'layer_types' has {SLIDING!r} and {FULL!r}",
            )

    def windows(self, model: Description) -> tuple[int, ...]:
        """Return the windows."""
        return model.windows


def check_lenders(model: Description) -> None:
    """Refuse to borrow from other layers than llama.cpp does: the last two with their own."""
    own = model.sizes.layers - model.borrowing
    lenders = {(model.windows[i] > 0, model.lender(i)) for i in range(own, model.sizes.layers)}
    if not lenders <= {(True, own - 2), (False, own - 1)}:
        raise model.error(
            "keys and values of other layers than the last two before are not supported",
            "choose a checkpoint whose 'num_kv_shared_layers' follow a window and a full layer",
        )
