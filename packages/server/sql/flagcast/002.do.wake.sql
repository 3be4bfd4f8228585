-- The wake: a hint without content that there may be something new. The reader polls anyway, so
-- nothing depends on it but the delay. It must never be what makes a host's write fail:
--
-- * PREPARE TRANSACTION is refused in a transaction that has executed NOTIFY. Whether a
--   transaction will be prepared cannot be known while it writes, so where prepared transactions
--   are possible at all (max_prepared_transactions > 0) nothing is notified unless somebody who
--   knows the writers says that they do not prepare theirs. The setting flagcast.notify decides:
--     'on'   notify
--     'off'  never notify
--     unset  notify only if max_prepared_transactions = 0
--   For all sessions (superuser): ALTER DATABASE name SET flagcast.notify = 'on';
--   for one's own session: SET flagcast.notify = 'on';
-- * Where a session keeps listening inside a transaction that never ends, the server's queue fills
--   up and every NOTIFY fails, at commit, where no handler can catch it. Past half of the queue we
--   fall silent.
-- * The handler catches whatever else there may be, such as a privilege on a built-in function that
--   somebody revoked; NOTIFY itself needs none.
--
-- One statement is one wake, however many rows it wrote; PostgreSQL folds the equal wakes of
-- one transaction into one.
CREATE FUNCTION flagcast.wake() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF (
    CASE lower(current_setting('flagcast.notify', true))
      WHEN 'on' THEN true
      WHEN 'off' THEN false
      ELSE current_setting('max_prepared_transactions') = '0'
    END
  ) AND pg_notification_queue_usage() < 0.5 THEN
    NOTIFY flagcast;
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE LOG 'flagcast.wake: %', SQLERRM;
  RETURN NULL;
END
$$;

CREATE TRIGGER flagcast_wake AFTER INSERT ON public.audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION flagcast.wake();

CREATE TRIGGER flagcast_wake AFTER INSERT OR UPDATE ON public.pending_changes
  FOR EACH STATEMENT EXECUTE FUNCTION flagcast.wake();

CREATE TRIGGER flagcast_wake AFTER INSERT ON public.pending_change_entities
  FOR EACH STATEMENT EXECUTE FUNCTION flagcast.wake();
