"""``python -m benchmark`` is ``hpp``."""

from benchmark.cli.main import main

main(prog_name="hpp")
