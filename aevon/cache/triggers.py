"""What PostgreSQL does when a cached row changes, whoever writes: for the migrations of services.

The version rises with every change, and the outbox is told of it in the same transaction, so that
the entry follows changes made with psql or by another service too (guarantee G9).
"""

from typing import Final

from django.db import connection
from django.db.migrations import RunSQL

# Told to PostgreSQL by the application's own connections (settings). What others change wakes the
# listener at once; what these change they publish themselves, and pay for no notification.
CHANNEL: Final = "aevon_cache"
WRITER: Final = "aevon.writer=app"

# In front of functions with `SET search_path FROM CURRENT`: they find what they name wherever the
# caller looks names up, and take none of the caller's temporary tables for it. They run with their
# owner's rights: who may write a cached row need not be allowed to write what follows from it.
PIN: Final = """
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);
"""


def versioned(
    table: str, *, keyspace: str, user_id: str = "user_id", touched: str = ""
) -> list[RunSQL]:
    """Operations that keep `version` of the rows of `table`, one per user, and note changes.

    An insert begins above all versions that the user's earlier rows had, an update adds one, and a
    deletion uses one up for the row's absence. `touched` is a column for the time of the change.
    The owner of a row cannot be changed.
    """
    owner, rows = _quoted(user_id), _quoted(table)
    touch = f"NEW.{_quoted(touched)} := clock_timestamp();" if touched else ""
    rises, ends = _quoted(f"{table}_versions"), _quoted(f"{table}_versions_end")
    raise_versions = f"""{PIN}
CREATE FUNCTION {rises}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    {touch}
    IF TG_OP = 'INSERT' THEN
        NEW.version := cache_first_version('{keyspace}', NEW.{owner});
        RETURN NEW;
    END IF;
    IF NEW.{owner} <> OLD.{owner} THEN
        RAISE EXCEPTION 'The {user_id} of a row of {table} cannot be changed.'
            USING ERRCODE = 'restrict_violation', TABLE = '{table}';
    END IF;
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;

-- Before the delete, not after: until then another insert finds the row, and need not wait for us
-- while we wait for its floor.
CREATE FUNCTION {ends}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM cache_last_version('{keyspace}', OLD.{owner}, OLD.version + 1);
    RETURN OLD;
END $$;

CREATE TRIGGER cache_version_rises BEFORE INSERT OR UPDATE ON {rows}
FOR EACH ROW EXECUTE FUNCTION {rises}();

CREATE TRIGGER cache_version_ends BEFORE DELETE ON {rows}
FOR EACH ROW EXECUTE FUNCTION {ends}();
"""
    remove = f"""
DROP TRIGGER cache_version_ends ON {rows};
DROP TRIGGER cache_version_rises ON {rows};
DROP FUNCTION {ends}();
DROP FUNCTION {rises}();
"""
    return [RunSQL(raise_versions, remove), *noted(table, keyspace=keyspace, user_id=user_id)]


def noted(
    table: str,
    *,
    keyspace: str,
    user_id: str = "user_id",
    version: str = "version",
    by_others: bool = False,
) -> list[RunSQL]:
    """Operations that tell the outbox of every change of `table`, whose `version` somebody else
    raises: a row's deletion, or its change of owner, counts as one version more.

    `by_others`: only of changes that the application's own connections have not made, where those
    come from the cache in the first place.
    """
    owner, rows, tells = _quoted(user_id), _quoted(table), _quoted(f"{table}_changed")
    number = _quoted(version)
    when = (
        "WHEN (current_setting('aevon.writer', true) IS DISTINCT FROM 'app')" if by_others else ""
    )
    note = f"""{PIN}
CREATE FUNCTION {tells}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM cache_note_change('{keyspace}', OLD.{owner}, OLD.{number} + 1);
    ELSE
        IF TG_OP = 'UPDATE' AND OLD.{owner} <> NEW.{owner} THEN
            PERFORM cache_note_change('{keyspace}', OLD.{owner}, OLD.{number} + 1);
        END IF;
        PERFORM cache_note_change('{keyspace}', NEW.{owner}, NEW.{number});
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER cache_is_told AFTER INSERT OR UPDATE OR DELETE ON {rows}
FOR EACH ROW {when} EXECUTE FUNCTION {tells}();
"""
    return [RunSQL(note, f"DROP TRIGGER cache_is_told ON {rows}; DROP FUNCTION {tells}();")]


def listed(table: str, *, keyspace: str, user_id: str = "user_id", seq: str = "seq") -> RunSQL:
    """An operation that tells the outbox of every change of `table`, whose last rows of a user are
    a bounded list: rows are numbered by `seq`, added and removed, never changed.

    Of what the application adds, behind the last one, the number says how far the list must have
    got. Of everything else nobody knows what it means to the list: it is compared. Once for each
    user of a statement, however many rows it has.
    """
    owner, rows, number = _quoted(user_id), _quoted(table), _quoted(seq)
    grows, shrinks = _quoted(f"{table}_grows"), _quoted(f"{table}_shrinks")
    head = "RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT"
    note = f"""{PIN}
CREATE FUNCTION {grows}() {head} AS $$
DECLARE ours boolean := current_setting('aevon.writer', true) IS NOT DISTINCT FROM 'app';
BEGIN
    PERFORM cache_note_change('{keyspace}', each.owner, CASE WHEN ours THEN each.newest END)
    FROM (SELECT {owner} AS owner, max({number}) AS newest FROM added GROUP BY 1 ORDER BY 1) each;
    RETURN NULL;
END $$;

CREATE FUNCTION {shrinks}() {head} AS $$
BEGIN
    PERFORM cache_note_change('{keyspace}', each.owner, NULL)
    FROM (SELECT DISTINCT {owner} AS owner FROM removed ORDER BY 1) each;
    RETURN NULL;
END $$;

CREATE TRIGGER cache_is_told AFTER INSERT ON {rows} REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION {grows}();

CREATE TRIGGER cache_is_told_of_less AFTER DELETE ON {rows} REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION {shrinks}();
"""  # noqa: S608  names are quoted, or said by a migration
    remove = f"""
DROP TRIGGER cache_is_told_of_less ON {rows};
DROP TRIGGER cache_is_told ON {rows};
DROP FUNCTION {shrinks}();
DROP FUNCTION {grows}();
"""
    return RunSQL(note, remove)


def owned(table: str, *, user_id: str = "user_id") -> RunSQL:
    """An operation that refuses to give a row of `table` to another user: of a change of owner the
    cache follows one side only."""
    owner, rows, stays = _quoted(user_id), _quoted(table), _quoted(f"{table}_owned")
    forbid = f"""{PIN}
CREATE FUNCTION {stays}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'The {user_id} of a row of {table} cannot be changed.'
        USING ERRCODE = 'restrict_violation', TABLE = '{table}';
END $$;

CREATE TRIGGER owner_stays BEFORE UPDATE OF {owner} ON {rows}
FOR EACH ROW WHEN (OLD.{owner} <> NEW.{owner}) EXECUTE FUNCTION {stays}();
"""
    return RunSQL(forbid, f"DROP TRIGGER owner_stays ON {rows}; DROP FUNCTION {stays}();")


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
