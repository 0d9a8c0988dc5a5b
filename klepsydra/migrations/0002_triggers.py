"""The database raises a PsycheState's version, and keeps the record of interactions as it is."""

from django.db import migrations

PSYCHES = """
CREATE FUNCTION klepsydra_psyche_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;

-- Waits for whoever is deleting the state, and then counts on from there.
CREATE FUNCTION klepsydra_psyche_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO klepsydra_versionfloor AS floor (user_id, version) VALUES (NEW.user_id, 1)
    ON CONFLICT (user_id) DO UPDATE SET version = floor.version + 1
    RETURNING floor.version INTO NEW.version;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;

-- Before the delete, not after: until then another insert finds the state, and need not wait for
-- us while we wait for its floor.
CREATE FUNCTION klepsydra_psyche_ends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE klepsydra_versionfloor SET version = GREATEST(version, OLD.version)
    WHERE user_id = OLD.user_id;
    RETURN OLD;
END $$;

CREATE TRIGGER psyche_changes BEFORE UPDATE ON klepsydra_psychestate
FOR EACH ROW EXECUTE FUNCTION klepsydra_psyche_changes();

CREATE TRIGGER psyche_begins BEFORE INSERT ON klepsydra_psychestate
FOR EACH ROW EXECUTE FUNCTION klepsydra_psyche_begins();

CREATE TRIGGER psyche_ends BEFORE DELETE ON klepsydra_psychestate
FOR EACH ROW EXECUTE FUNCTION klepsydra_psyche_ends();

ALTER TABLE klepsydra_versionfloor ADD CONSTRAINT version_floor_user_fk
FOREIGN KEY (user_id) REFERENCES auth_sessions_user (id) ON DELETE CASCADE;
"""

INTERACTIONS = """
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

CREATE TRIGGER interaction_stays BEFORE UPDATE OR DELETE ON klepsydra_interaction
FOR EACH ROW EXECUTE FUNCTION klepsydra_interaction_stays();

ALTER TABLE klepsydra_interaction ADD CONSTRAINT interaction_user_fk
FOREIGN KEY (user_id) REFERENCES auth_sessions_user (id) ON DELETE CASCADE;
"""

REMOVE = """
ALTER TABLE klepsydra_versionfloor DROP CONSTRAINT version_floor_user_fk;
ALTER TABLE klepsydra_interaction DROP CONSTRAINT interaction_user_fk;
DROP TRIGGER interaction_stays ON klepsydra_interaction;
DROP TRIGGER psyche_ends ON klepsydra_psychestate;
DROP TRIGGER psyche_begins ON klepsydra_psychestate;
DROP TRIGGER psyche_changes ON klepsydra_psychestate;
DROP FUNCTION klepsydra_interaction_stays();
DROP FUNCTION klepsydra_psyche_ends();
DROP FUNCTION klepsydra_psyche_begins();
DROP FUNCTION klepsydra_psyche_changes();
"""


class Migration(migrations.Migration):
    dependencies = [("klepsydra", "0001_initial"), ("auth_sessions", "0001_initial")]
    operations = [migrations.RunSQL(PSYCHES + INTERACTIONS, REMOVE)]
