"""``python -m benchmark`` is ``hpp``."""

from benchmark.cli import main

main(prog_name="hpp")
