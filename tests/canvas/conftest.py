"""Fixtures of the canvas."""
