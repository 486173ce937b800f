"""What the image serves until you put your own here: the demo."""

from trio_mcp.cli.demo import mcp

__all__ = ["mcp"]
