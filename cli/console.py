"""Where commands print."""

from __future__ import annotations

from rich.console import Console

PLAIN_WIDTH = 132


def wide_console(plain_width: int = PLAIN_WIDTH) -> Console:
    """Standard output; what is not a terminal has no width of its own, and gets room for tables."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=max(plain_width, terminal.width))
