"""ΛΞVON OS, the Reflex Arc: DragonflyDB in front of PostgreSQL."""
