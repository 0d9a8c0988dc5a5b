"""The proof that the cache is never older than it promises: every interleaving, state machines of
the public API, and histories of many processes under faults."""
