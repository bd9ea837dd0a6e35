"""Checks of raw copies and of built datasets."""
