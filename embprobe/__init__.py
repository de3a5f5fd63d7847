"""embprobe: what a frozen image encoder keeps and what it throws away, measured by learning to generate from it."""

__version__ = "0.1.0"
