"""Widgets that grow with an answer, laid out once for each step."""

from __future__ import annotations

from rich.style import Style
from textual.geometry import Region, Size
from textual.reactive import Reactive
from textual.strip import Strip
from textual.widget import Widget


class Settled(Widget):
    """Takes the size that a layout gave it as it is.

    Textual's own widgets ask for a second layout of the whole screen whenever one has changed
    their size, which is half of what a line of an answer costs.
    """

    virtual_size: Reactive[Size] = Reactive(Size(0, 0), layout=False, repaint=False)


class Ground(Settled):
    """A settled container, of which nothing is seen but the background between what it holds."""

    def render_lines(self, crop: Region) -> list[Strip]:
        """Draw one line and take it for all."""
        _, background = self.background_colors
        strip = Strip.blank(crop.width, Style.from_color(bgcolor=background.rich_color))
        for line_filter in self.get_line_filters():
            strip = strip.apply_filter(line_filter, background)
        return [strip] * crop.height
