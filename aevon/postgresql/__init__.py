"""Django's backend for PostgreSQL, for one that may freeze: neither server nor driver ends the wait
for an answer that does not come."""
