CREATE TABLE task (
  id               uuid PRIMARY KEY,                  -- uuid7, made where the task is accepted
  celery_id        text COLLATE "C",                  -- Celery's own id where it is not str(id)
  task_type        text COLLATE "C" NOT NULL,
  queue            text COLLATE "C" NOT NULL,
  priority         smallint NOT NULL DEFAULT 5,       -- 0..9, 9 runs first
  state            text COLLATE "C" NOT NULL DEFAULT 'PENDING',
  exception_state  text COLLATE "C" GENERATED ALWAYS AS
                     (CASE WHEN state IN ('RETRY','FAILURE','REVOKED') THEN state END) STORED,
  submitted_at     timestamptz NOT NULL,
  run_at           timestamptz,                       -- ETA or time of the next retry; null: at once
  expires_at       timestamptz,
  started_at       timestamptz,                       -- when the code of the latest attempt began
  completed_at     timestamptz,
  seq              integer NOT NULL DEFAULT 1,        -- number of the task's latest event
  attempt          integer NOT NULL DEFAULT 0,        -- executions begun
  retries          integer NOT NULL DEFAULT 0,        -- Celery's request.retries
  worker_deaths    smallint NOT NULL DEFAULT 0,
  max_retries      integer,                           -- null: the task type's own
  time_limit       real,                              -- seconds; null: the task type's own
  soft_time_limit  real,
  on_worker_lost   text COLLATE "C",                  -- rerun | fail; null: the task type's own
  worker           text COLLATE "C",                  -- name of the worker that runs or ran the latest attempt
  cancel_requested_at timestamptz,
  terminate        boolean NOT NULL DEFAULT false,
  progress         real,
  progress_status  text,
  progress_at      timestamptz,
  args             json,                              -- positional arguments; null: none
  parameters       json NOT NULL,                     -- keyword arguments
  result           json,
  error            json,                              -- {type, message, traceback, retryable}
  celery           json,                              -- callbacks, chain, chord, headers of a Celery message; null: submitted over HTTP
  metadata         json,
  tags             text[] COLLATE "C",
  rerun_of         uuid,
  CONSTRAINT ck_task_state CHECK (state IN ('PENDING','STARTED','RETRY','SUCCESS','FAILURE','REVOKED')),
  CONSTRAINT ck_task_final_has_completed_at CHECK ((state IN ('SUCCESS','FAILURE','REVOKED')) = (completed_at IS NOT NULL)),
  CONSTRAINT ck_task_priority CHECK (priority BETWEEN 0 AND 9)
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX uq_task_celery_id ON task (celery_id) WHERE celery_id IS NOT NULL;
CREATE INDEX ix_task_task_type ON task (task_type, id);
CREATE INDEX ix_task_queue ON task (queue, id);
CREATE INDEX ix_task_exception_state ON task (exception_state, id) WHERE exception_state IS NOT NULL;
CREATE INDEX ix_task_tags ON task USING gin (tags) WHERE tags IS NOT NULL;

-- Everything unfinished stands in exactly one of ready, held, claim.task_ids.
CREATE TABLE ready (                                  -- may run now
  task_id    uuid PRIMARY KEY,
  queue      text COLLATE "C" NOT NULL,
  priority   smallint NOT NULL,
  run_at     timestamptz NOT NULL,
  task_type  text COLLATE "C" NOT NULL,
  alone      boolean NOT NULL DEFAULT false,          -- a suspect after a worker's death: claimed by itself
  expires_at timestamptz
);
CREATE INDEX ix_ready_order ON ready (queue, priority, run_at, task_id);
CREATE INDEX ix_ready_expires_at ON ready (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE held (                                   -- waits for something else
  task_id    uuid PRIMARY KEY,
  queue      text COLLATE "C" NOT NULL,
  priority   smallint NOT NULL,
  task_type  text COLLATE "C" NOT NULL,
  reason     text COLLATE "C" NOT NULL,               -- eta | retry | no_worker | limit
  until      timestamptz,                             -- null: until somebody frees it
  alone      boolean NOT NULL DEFAULT false,
  expires_at timestamptz,
  CONSTRAINT ck_held_reason CHECK (reason IN ('eta','retry','no_worker','limit'))
);
CREATE INDEX ix_held_until ON held (until) WHERE until IS NOT NULL;
CREATE INDEX ix_held_task_type ON held (task_type) WHERE reason = 'no_worker';
CREATE INDEX ix_held_expires_at ON held (expires_at) WHERE expires_at IS NOT NULL;

CREATE SEQUENCE claim_no;
CREATE TABLE claim (                                  -- one row a batch: who holds which tasks
  no         bigint PRIMARY KEY DEFAULT nextval('claim_no'),
  worker_id  uuid NOT NULL,
  slot       integer NOT NULL,                        -- index in the worker's slot table
  queue      text COLLATE "C" NOT NULL,
  claimed_at timestamptz NOT NULL,
  task_ids   uuid[] NOT NULL,                         -- what it still holds; a write for a task that is not here is refused
  cancelled  uuid[] NOT NULL DEFAULT '{}'             -- of those: cancel requested
);
CREATE INDEX ix_claim_worker_id ON claim (worker_id);

CREATE TABLE task_event (
  task_id    uuid NOT NULL,
  seq        integer NOT NULL,                        -- per task, gapless after expansion (see ledgerq_shared.events)
  at         timestamptz NOT NULL,
  kind       text COLLATE "C" NOT NULL,
  attempt    integer NOT NULL DEFAULT 0,
  actor      text COLLATE "C" NOT NULL,               -- api, key:<id>, worker:<name>, maintenance
  claimed_at timestamptz,                             -- set: this row also stands for 'dispatched' (seq - 2)
  started_at timestamptz,                             -- set: this row also stands for 'started' (seq - 1)
  data       json,
  PRIMARY KEY (task_id, seq, at)
) PARTITION BY RANGE (at);
-- Partitions: task_event_YYYYMMDD, made by migrations and by maintenance, and task_event_default.

CREATE TABLE task_count (                             -- append-only deltas; the sum is exact; folded by maintenance
  task_type text COLLATE "C" NOT NULL,
  queue     text COLLATE "C" NOT NULL,
  state     text COLLATE "C" NOT NULL,
  delta     bigint NOT NULL
);

CREATE TABLE worker (
  id         uuid PRIMARY KEY,
  name       text COLLATE "C" NOT NULL,               -- host:pid unless named
  host       text NOT NULL,
  pid        integer NOT NULL,
  pool       text NOT NULL,
  slots      integer NOT NULL,
  queues     text[] COLLATE "C" NOT NULL,
  task_types text[] COLLATE "C" NOT NULL,
  started_at timestamptz NOT NULL,
  beat_at    timestamptz NOT NULL,
  lease_until timestamptz NOT NULL,
  stopping   boolean NOT NULL DEFAULT false,
  ended_at   timestamptz,                             -- stopped or declared dead
  ended_why  text                                     -- stopped | lost
);
CREATE INDEX ix_worker_live ON worker (lease_until) WHERE ended_at IS NULL;

CREATE TABLE task_type (
  name        text COLLATE "C" PRIMARY KEY,
  doc         text NOT NULL DEFAULT '',
  parameters_schema json NOT NULL,                    -- JSON Schema (2020-12) of the keyword arguments
  queue       text COLLATE "C" NOT NULL,
  options     json NOT NULL,                          -- {max_retries, time_limit, soft_time_limit, on_worker_lost, ignore_result, rate_limit, priority}
  registered_at timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL
);

CREATE TABLE queue (
  name      text COLLATE "C" PRIMARY KEY,
  paused    boolean NOT NULL DEFAULT false,
  options   json NOT NULL DEFAULT '{}'
);

CREATE TABLE idempotency (
  key         text COLLATE "C" PRIMARY KEY,
  body_sha256 bytea NOT NULL,
  task_id     uuid NOT NULL,
  created_at  timestamptz NOT NULL
);
CREATE INDEX ix_idempotency_created_at ON idempotency (created_at);

CREATE TABLE outbox (                                 -- what must leave after a commit and is not in the ledger itself
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind       text COLLATE "C" NOT NULL,               -- message | chord_part | errback
  payload    json NOT NULL,
  created_at timestamptz NOT NULL
);

CREATE TABLE leader (
  name    text COLLATE "C" PRIMARY KEY,
  holder  uuid NOT NULL,
  until   timestamptz NOT NULL
);

-- Events are only ever inserted. A trigger on the parent would not protect the partitions, so each has its own.
CREATE FUNCTION ledgerq_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'task_event is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION ledgerq_protect_events(partition regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TRIGGER tr_append_only BEFORE UPDATE OR DELETE ON %s '
                 'FOR EACH ROW EXECUTE FUNCTION ledgerq_refuse_change()', partition);
  EXECUTE format('CREATE TRIGGER tr_no_truncate BEFORE TRUNCATE ON %s '
                 'FOR EACH STATEMENT EXECUTE FUNCTION ledgerq_refuse_change()', partition);
END $$;

-- Makes the partition for one UTC day unless it is there; returns whether it made one.
CREATE FUNCTION ledgerq_make_event_partition(day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  name text := 'task_event_' || to_char(day, 'YYYYMMDD');
BEGIN
  IF to_regclass(name) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE %I PARTITION OF task_event FOR VALUES FROM (%L) TO (%L)', name,
                 day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
  PERFORM ledgerq_protect_events(name::regclass);
  RETURN true;
END $$;

CREATE TABLE task_event_default PARTITION OF task_event DEFAULT;
SELECT ledgerq_protect_events('task_event_default');
SELECT ledgerq_make_event_partition((now() AT TIME ZONE 'UTC')::date + n) FROM generate_series(0, 7) AS n;

-- Hot tables whose dead rows must go quickly.
ALTER TABLE ready SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
                       autovacuum_vacuum_cost_delay = 0);
ALTER TABLE claim SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
                       autovacuum_vacuum_cost_delay = 0, fillfactor = 50);
ALTER TABLE task_count SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE worker SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200, fillfactor = 50);
