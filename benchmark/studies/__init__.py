"""Whole tables of runs: reproduction, findings, the demo."""
