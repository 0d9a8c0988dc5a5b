"""What each service's users may be told: one rule of `check.py` per file."""
