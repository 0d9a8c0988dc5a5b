"""Users by the million, made by SQL. Needs Django and the servers of `benchmarks.site`."""

from typing import Final

from django.db import connection

PAGE: Final = 50_000
MORE: Final = """
WITH made AS (
    INSERT INTO auth_sessions_user (username, email, password, first_name, last_name, is_superuser,
        is_staff, is_active, date_joined, sovereignty_class)
    SELECT 'crowd' || n, '', '!', '', '', false, false, true, now(), 'INITIATE'
    FROM generate_series(%s, %s) n
    RETURNING id
)
INSERT INTO klepsydra_psychestate (user_id, sre_wave, loss_streak, frustration_level,
    frustration_at, is_throttled, phase, amplitude, period_seconds)
SELECT id, 0, 0, 0, now(), false, 6 * random(), 1, 3600 FROM made
"""


def grow(count: int) -> range:
    """As many users, with a PsycheState each, as are lacking to `count`; the ids of all."""
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SELECT count(*) FROM auth_sessions_user")
        (there,) = cursor.fetchone()
        for first in range(there + 1, count + 1, PAGE):
            cursor.execute(MORE, [first, min(first + PAGE - 1, count)])
        # As it would be some minutes later. Nobody drains the outbox here.
        cursor.execute("TRUNCATE cache_outbox")
        cursor.execute("ANALYZE")
        cursor.execute("SELECT min(id), max(id) FROM auth_sessions_user")
        first, last = cursor.fetchone()
    return range(first, last + 1)
