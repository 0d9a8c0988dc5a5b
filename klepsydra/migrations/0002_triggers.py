"""The database raises a PsycheState's version, and keeps the record of interactions as it is."""

from django.db import migrations

FUNCTIONS = """
CREATE FUNCTION klepsydra_psyche_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;

-- A state that was deleted and begins again must not count through versions that were recorded.
CREATE FUNCTION klepsydra_psyche_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := 1 + COALESCE(
        (SELECT max(psyche_version) FROM klepsydra_interaction WHERE user_id = NEW.user_id), 0
    );
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;

-- While a cascade is under way the user is gone already; otherwise the foreign key says that the
-- user is there.
CREATE FUNCTION klepsydra_interaction_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND NOT EXISTS (SELECT 1 FROM auth_sessions_user WHERE id = OLD.user_id) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'The record of interactions is append-only.'
        USING ERRCODE = 'restrict_violation', TABLE = 'klepsydra_interaction';
END $$;

CREATE TRIGGER psyche_changes BEFORE UPDATE ON klepsydra_psychestate
FOR EACH ROW EXECUTE FUNCTION klepsydra_psyche_changes();

CREATE TRIGGER psyche_begins BEFORE INSERT ON klepsydra_psychestate
FOR EACH ROW EXECUTE FUNCTION klepsydra_psyche_begins();

CREATE TRIGGER interaction_stays BEFORE UPDATE OR DELETE ON klepsydra_interaction
FOR EACH ROW EXECUTE FUNCTION klepsydra_interaction_stays();

ALTER TABLE klepsydra_interaction ADD CONSTRAINT interaction_user_fk
FOREIGN KEY (user_id) REFERENCES auth_sessions_user (id) ON DELETE CASCADE;
"""

REMOVE = """
ALTER TABLE klepsydra_interaction DROP CONSTRAINT interaction_user_fk;
DROP TRIGGER interaction_stays ON klepsydra_interaction;
DROP TRIGGER psyche_begins ON klepsydra_psychestate;
DROP TRIGGER psyche_changes ON klepsydra_psychestate;
DROP FUNCTION klepsydra_interaction_stays();
DROP FUNCTION klepsydra_psyche_begins();
DROP FUNCTION klepsydra_psyche_changes();
"""


class Migration(migrations.Migration):
    dependencies = [("klepsydra", "0001_initial"), ("auth_sessions", "0001_initial")]
    operations = [migrations.RunSQL(FUNCTIONS, REMOVE)]
