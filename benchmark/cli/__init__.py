"""The command line ``hpp``."""
