"""redis-py's parser (8.1), without what it spends anew on each reply and each look of a pool."""

import select
from typing import Any, Final

from redis._parsers import _HiredisParser
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.exceptions import ConnectionError as NoConnection

# In place of a reply: it has not come, or not as a whole.
NOT_YET: Final = NOT_ENOUGH_DATA


class Replies(_HiredisParser):
    """The parser of one connection, for who has taken it."""

    # Before the first connect there is neither. After a disconnect there is no reader, and the poll
    # object is not asked.
    _reader: Any = None
    _poll: Any = None

    def on_connect(self, connection: Any, **options: Any) -> None:
        super().on_connect(connection, **options)  # type: ignore[no-untyped-call]
        self._poll = select.poll()
        try:
            self._poll.register(self._sock, select.POLLIN)
        except (TypeError, ValueError):
            # Another thread has closed it since.
            raise NoConnection("Closed while it was being made.") from None

    def can_read(self, timeout: float | None = 0) -> bool:
        """Whether there is something to be read. Raises `ConnectionError` where it is closed."""
        reader = self._reader
        if timeout != 0 or reader is None:
            return super().can_read(timeout)  # type: ignore[arg-type]  # None: it waits
        # redis-py makes a poll object for every look. What TLS has decrypted is in the reader: no
        # record (16 KiB) is longer than what is read at a time (`socket_read_size`, 32 KiB).
        return bool(reader.has_data() or self._poll.poll(0)) and super().can_read(0)

    def received(self) -> Any:
        """The next reply over RESP2, a refusal as its exception, or among others in a list;
        `NOT_YET` where the connection must be read on, which waits."""
        # Another thread may close it meanwhile.
        reader = self._reader
        return NOT_YET if reader is None else reader.gets()
