"""ΛΞVON OS, the Reflex Arc: DragonflyDB in front of PostgreSQL."""

__version__ = "0.1.0"  # as in pyproject.toml
