-- Triggers of the contract tables. Their functions are in schema flagcast, so that schema public has only the names of
-- the contract.

CREATE FUNCTION flagcast.create_environments() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO public.environments (project_id, key, name)
  VALUES (NEW.id, 'prod', 'Production'), (NEW.id, 'stage', 'Staging'), (NEW.id, 'dev', 'Development');
  RETURN NULL;
END
$$;

CREATE TRIGGER create_environments AFTER INSERT ON public.projects
  FOR EACH ROW EXECUTE FUNCTION flagcast.create_environments();

-- Every feature has its parameters in every environment of its project. A feature and an environment that are created
-- at the same time do not see each other, and their parameters would be missing. So a lock serializes both within a
-- project.
CREATE FUNCTION flagcast.create_feature_params() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('flagcast.feature_params/' || NEW.project_id, 0));
  IF TG_TABLE_NAME = 'features' THEN
    INSERT INTO public.feature_params (feature_id, environment_id)
    SELECT NEW.id, e.id FROM public.environments e WHERE e.project_id = NEW.project_id
    ON CONFLICT (feature_id, environment_id) DO NOTHING;
  ELSE
    INSERT INTO public.feature_params (feature_id, environment_id)
    SELECT f.id, NEW.id FROM public.features f WHERE f.project_id = NEW.project_id
    ON CONFLICT (feature_id, environment_id) DO NOTHING;
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER create_feature_params AFTER INSERT ON public.features
  FOR EACH ROW EXECUTE FUNCTION flagcast.create_feature_params();

CREATE TRIGGER create_feature_params AFTER INSERT ON public.environments
  FOR EACH ROW EXECUTE FUNCTION flagcast.create_feature_params();

-- Allows one open change for each entity. A lock serializes concurrent requests: the second one checks after the first
-- has committed.
CREATE FUNCTION flagcast.refuse_second_open_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  open_change record;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('flagcast.open_change/' || NEW.entity_id, 0));
  SELECT c.id, c.requested_by INTO open_change
  FROM public.pending_change_entities p
  JOIN public.pending_changes c ON c.id = p.pending_change_id
  WHERE p.entity_id = NEW.entity_id
    AND p.entity = NEW.entity
    AND c.status = 'pending'
    AND c.id <> NEW.pending_change_id
    AND EXISTS (
      SELECT FROM public.pending_changes mine WHERE mine.id = NEW.pending_change_id AND mine.status = 'pending'
    )
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION '% % already has an open change, requested by %', NEW.entity, NEW.entity_id, open_change.requested_by
      USING ERRCODE = 'unique_violation',
        SCHEMA = 'public',
        TABLE = 'pending_change_entities',
        CONSTRAINT = 'pending_change_entities_one_open',
        DETAIL = format('The open change is %s.', open_change.id),
        HINT = 'Wait until it is decided, or cancel it.';
  END IF;
  RETURN NEW;
END
$$;

CREATE TRIGGER refuse_second_open_change BEFORE INSERT ON public.pending_change_entities
  FOR EACH ROW EXECUTE FUNCTION flagcast.refuse_second_open_change();
