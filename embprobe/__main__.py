"""`python -m embprobe` is the command line."""

from embprobe.cli import main

main()
