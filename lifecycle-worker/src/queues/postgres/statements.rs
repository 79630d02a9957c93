//! Every statement of the PostgreSQL queue.
//!
//! Each is one statement, so that it is whole or not at all without a transaction that a
//! dropped future could leave open. `$1` is the queue, `$2` the owner.
//!
//! Those that settle lock their jobs in the order of their ids first: an `ack` and an `extend`
//! that name the same jobs would otherwise wait for each other.

/// The schema, step by step: the statement at place n leads from version n to n + 1.
pub(super) const MIGRATIONS: [&str; 1] = ["
    CREATE SEQUENCE lifecycle_worker.jobs_id;
    CREATE TABLE lifecycle_worker.jobs (
        id bigint PRIMARY KEY DEFAULT nextval('lifecycle_worker.jobs_id'),
        queue text NOT NULL,
        kind text NOT NULL,
        payload bytea NOT NULL,
        headers text,
        priority smallint NOT NULL,
        due timestamptz NOT NULL,
        state smallint NOT NULL DEFAULT 0,
        owner text,
        lease_ends timestamptz,
        claim bigint NOT NULL DEFAULT 0,
        attempts integer NOT NULL DEFAULT 0,
        returns integer NOT NULL DEFAULT 0,
        checkpoint bytea,
        error text,
        died timestamptz
    ) WITH (autovacuum_vacuum_scale_factor = 0.02);
    CREATE INDEX jobs_waiting ON lifecycle_worker.jobs (queue, priority DESC, due, id)
        WHERE state = 0;
    CREATE INDEX jobs_running ON lifecycle_worker.jobs (queue, lease_ends) WHERE state = 1;
    CREATE INDEX jobs_dead ON lifecycle_worker.jobs (queue, died DESC, id DESC) WHERE state = 2;
    CREATE TABLE lifecycle_worker.dedupe (
        queue text NOT NULL,
        key text NOT NULL,
        expires timestamptz NOT NULL,
        PRIMARY KEY (queue, key)
    );
    CREATE INDEX dedupe_expires ON lifecycle_worker.dedupe (queue, expires);
    CREATE TABLE lifecycle_worker.counters (
        queue text NOT NULL,
        owner text NOT NULL,
        done bigint NOT NULL DEFAULT 0,
        attempts bigint NOT NULL DEFAULT 0,
        returns bigint NOT NULL DEFAULT 0,
        touched timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (queue, owner)
    ) WITH (fillfactor = 50);
"];

/// All of [`MIGRATIONS`] that are missing, as one statement: the lock is held until its end, so
/// a second process that prepares waits and finds nothing to do.
pub(super) fn migrate() -> String {
    let mut text = String::from(
        "DO $lifecycle$ BEGIN
        PERFORM pg_advisory_xact_lock(7809630541187);
        IF to_regnamespace('lifecycle_worker') IS NULL THEN
            CREATE SCHEMA lifecycle_worker;
        END IF;
        IF to_regclass('lifecycle_worker.version') IS NULL THEN
            CREATE TABLE lifecycle_worker.version (
                version integer PRIMARY KEY,
                applied timestamptz NOT NULL DEFAULT now()
            );
        END IF;",
    );
    for (before, migration) in MIGRATIONS.iter().enumerate() {
        let version = before + 1;
        text.push_str(&format!(
            "IF NOT EXISTS (SELECT FROM lifecycle_worker.version WHERE version >= {version}) THEN
                {migration}
                INSERT INTO lifecycle_worker.version (version) VALUES ({version});
            END IF;"
        ));
    }
    text.push_str("END $lifecycle$");
    text
}

pub(super) const VERSION: &str = "SELECT max(version)::bigint FROM lifecycle_worker.version";

/// `$2..$8` are arrays: kind, payload, headers, priority, delay, key, the key's period; `$9` is
/// the channel. A key is taken by the first job that has it.
pub(super) const PUSH: &str = "
    WITH input AS MATERIALIZED (
        SELECT * FROM unnest($2::text[], $3::bytea[], $4::text[], $5::smallint[],
            $6::bigint[], $7::text[], $8::bigint[])
        WITH ORDINALITY AS i (kind, payload, headers, priority, delay, key, period, place)
    ), first AS MATERIALIZED (
        SELECT DISTINCT ON (key) key, period, place FROM input
        WHERE key IS NOT NULL ORDER BY key, place
    ), fresh AS (
        INSERT INTO lifecycle_worker.dedupe AS d (queue, key, expires)
        SELECT $1, key, now() + period * interval '1 microsecond' FROM first ORDER BY key
        ON CONFLICT (queue, key) DO UPDATE SET expires = excluded.expires
        WHERE d.expires <= now()
        RETURNING d.key
    ), wanted AS MATERIALIZED (
        SELECT nextval('lifecycle_worker.jobs_id') AS id, w.* FROM (
            SELECT * FROM input WHERE key IS NULL OR place IN
                (SELECT first.place FROM first JOIN fresh USING (key))
            ORDER BY place
        ) AS w
    ), added AS (
        INSERT INTO lifecycle_worker.jobs (id, queue, kind, payload, headers, priority, due)
        SELECT id, $1, kind, payload, headers, priority,
            now() + delay * interval '1 microsecond' FROM wanted ORDER BY place
    ), told AS MATERIALIZED (
        SELECT pg_notify($9, $1) WHERE EXISTS (SELECT FROM wanted)
    )
    SELECT place, id FROM wanted WHERE (SELECT count(*) FROM told) >= 0";

/// Forgets keys whose time is over, a bounded number of them.
pub(super) const FORGET: &str = "
    DELETE FROM lifecycle_worker.dedupe WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM lifecycle_worker.dedupe WHERE queue = $1 AND expires <= now()
        LIMIT 10000 FOR UPDATE SKIP LOCKED))";

/// `$3` jobs at most, for `$4` microseconds.
///
/// `levels` are the distinct priorities, found by one index seek each. A level's jobs come in
/// the index's order, so that jobs that are not yet due are never walked over, and a lower
/// level is looked at only when the higher ones gave too few. The array, and not a join with
/// `picked`: whose size a generic plan does not know, so that it would walk the primary key.
pub(super) const CLAIM: &str = "
    WITH RECURSIVE levels (priority) AS (
        (SELECT priority FROM lifecycle_worker.jobs WHERE queue = $1 AND state = 0
            ORDER BY priority DESC LIMIT 1)
        UNION ALL
        SELECT (SELECT j.priority FROM lifecycle_worker.jobs j
            WHERE j.queue = $1 AND j.state = 0 AND j.priority < l.priority
            ORDER BY j.priority DESC LIMIT 1)
        FROM levels l WHERE l.priority IS NOT NULL
    ), ready AS MATERIALIZED (
        SELECT found.* FROM levels l CROSS JOIN LATERAL (
            SELECT j.id, j.priority, j.due FROM lifecycle_worker.jobs j
            WHERE j.queue = $1 AND j.state = 0 AND j.priority = l.priority AND j.due <= now()
            ORDER BY j.due, j.id LIMIT $3 FOR UPDATE SKIP LOCKED
        ) AS found LIMIT $3
    ), ended AS MATERIALIZED (
        SELECT j.id, j.priority, j.due FROM lifecycle_worker.jobs j
        WHERE j.queue = $1 AND j.state = 1 AND j.lease_ends <= now()
        ORDER BY j.priority DESC, j.due, j.id LIMIT $3 FOR UPDATE SKIP LOCKED
    ), picked AS MATERIALIZED (
        SELECT * FROM (SELECT * FROM ready UNION ALL SELECT * FROM ended) AS found
        ORDER BY priority DESC, due, id LIMIT $3
    ), taken AS (
        UPDATE lifecycle_worker.jobs j SET state = 1, owner = $2, claim = j.claim + 1,
            attempts = j.attempts + 1, lease_ends = now() + $4 * interval '1 microsecond'
        WHERE j.id = ANY (ARRAY(SELECT id FROM picked))
        RETURNING j.*
    ), counted AS (
        INSERT INTO lifecycle_worker.counters AS c (queue, owner, attempts)
        SELECT $1, $2, count(*) FROM taken HAVING count(*) > 0
        ON CONFLICT (queue, owner) DO UPDATE
        SET attempts = c.attempts + excluded.attempts, touched = now()
    )
    SELECT id, claim, kind, payload, headers, attempts, returns, checkpoint
    FROM taken ORDER BY priority DESC, due, id";

/// In how many microseconds a job may be claimable, if none is pushed before.
pub(super) const NEXT: &str = "
    WITH RECURSIVE levels (priority) AS (
        (SELECT priority FROM lifecycle_worker.jobs WHERE queue = $1 AND state = 0
            ORDER BY priority DESC LIMIT 1)
        UNION ALL
        SELECT (SELECT j.priority FROM lifecycle_worker.jobs j
            WHERE j.queue = $1 AND j.state = 0 AND j.priority < l.priority
            ORDER BY j.priority DESC LIMIT 1)
        FROM levels l WHERE l.priority IS NOT NULL
    )
    SELECT (extract(epoch FROM least(
        (SELECT min(first.due) FROM levels l CROSS JOIN LATERAL (
            SELECT j.due FROM lifecycle_worker.jobs j
            WHERE j.queue = $1 AND j.state = 0 AND j.priority = l.priority
            ORDER BY j.due, j.id LIMIT 1) AS first),
        (SELECT min(lease_ends) FROM lifecycle_worker.jobs WHERE queue = $1 AND state = 1)
    ) - now()) * 1000000)::bigint";

/// `$3` and `$4` are arrays: id and claim number.
pub(super) const ACK: &str = "
    WITH mine AS MATERIALIZED (
        SELECT j.id FROM unnest($3::bigint[], $4::bigint[]) AS g (id, claim)
        JOIN lifecycle_worker.jobs j ON j.id = g.id AND j.claim = g.claim
        WHERE j.queue = $1 AND j.owner = $2 AND j.state = 1
        ORDER BY j.id FOR UPDATE OF j
    ), touched AS (
        DELETE FROM lifecycle_worker.jobs j USING mine WHERE j.id = mine.id
        RETURNING j.id, j.claim
    ), counted AS (
        INSERT INTO lifecycle_worker.counters AS c (queue, owner, done)
        SELECT $1, $2, count(*) FROM touched HAVING count(*) > 0
        ON CONFLICT (queue, owner) DO UPDATE
        SET done = c.done + excluded.done, touched = now()
    )
    SELECT id, claim FROM touched";

/// `$3..$6` are arrays: id, claim number, checkpoint, delay; `$7` is the channel.
pub(super) const RELEASE: &str = "
    WITH mine AS MATERIALIZED (
        SELECT j.id, g.checkpoint, g.delay
        FROM unnest($3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[])
            AS g (id, claim, checkpoint, delay)
        JOIN lifecycle_worker.jobs j ON j.id = g.id AND j.claim = g.claim
        WHERE j.queue = $1 AND j.owner = $2 AND j.state = 1
        ORDER BY j.id FOR UPDATE OF j
    ), touched AS (
        UPDATE lifecycle_worker.jobs j SET state = 0, owner = NULL, lease_ends = NULL,
            attempts = j.attempts - 1, returns = j.returns + 1,
            checkpoint = coalesce(mine.checkpoint, j.checkpoint),
            due = CASE WHEN mine.delay > 0
                THEN greatest(j.due, now() + mine.delay * interval '1 microsecond')
                ELSE j.due END
        FROM mine WHERE j.id = mine.id
        RETURNING j.id, j.claim
    ), counted AS (
        INSERT INTO lifecycle_worker.counters AS c (queue, owner, attempts, returns)
        SELECT $1, $2, -count(*), count(*) FROM touched HAVING count(*) > 0
        ON CONFLICT (queue, owner) DO UPDATE
        SET attempts = c.attempts + excluded.attempts,
            returns = c.returns + excluded.returns, touched = now()
    ), told AS MATERIALIZED (
        SELECT pg_notify($7, $1) WHERE EXISTS (SELECT FROM touched)
    )
    SELECT id, claim FROM touched WHERE (SELECT count(*) FROM told) >= 0";

/// `$3..$7` are arrays: id, claim number, error, checkpoint, delay (`NULL`: dead); `$8` is the
/// channel.
pub(super) const FAIL: &str = "
    WITH mine AS MATERIALIZED (
        SELECT j.id, g.error, g.checkpoint, g.delay
        FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::bytea[], $7::bigint[])
            AS g (id, claim, error, checkpoint, delay)
        JOIN lifecycle_worker.jobs j ON j.id = g.id AND j.claim = g.claim
        WHERE j.queue = $1 AND j.owner = $2 AND j.state = 1
        ORDER BY j.id FOR UPDATE OF j
    ), touched AS (
        UPDATE lifecycle_worker.jobs j SET owner = NULL, lease_ends = NULL, error = mine.error,
            checkpoint = coalesce(mine.checkpoint, j.checkpoint),
            state = CASE WHEN mine.delay IS NULL THEN 2 ELSE 0 END,
            died = CASE WHEN mine.delay IS NULL THEN now() END,
            due = coalesce(now() + mine.delay * interval '1 microsecond', j.due)
        FROM mine WHERE j.id = mine.id
        RETURNING j.id, j.claim, j.state
    ), told AS MATERIALIZED (
        SELECT pg_notify($8, $1) WHERE EXISTS (SELECT FROM touched WHERE state = 0)
    )
    SELECT id, claim FROM touched WHERE (SELECT count(*) FROM told) >= 0";

/// `$3..$5` are arrays: id, claim number, checkpoint; `$6` is the lease in microseconds.
pub(super) const EXTEND: &str = "
    WITH mine AS MATERIALIZED (
        SELECT j.id, g.checkpoint
        FROM unnest($3::bigint[], $4::bigint[], $5::bytea[]) AS g (id, claim, checkpoint)
        JOIN lifecycle_worker.jobs j ON j.id = g.id AND j.claim = g.claim
        WHERE j.queue = $1 AND j.owner = $2 AND j.state = 1
        ORDER BY j.id FOR UPDATE OF j
    )
    UPDATE lifecycle_worker.jobs j SET lease_ends = now() + $6 * interval '1 microsecond',
        checkpoint = coalesce(mine.checkpoint, j.checkpoint)
    FROM mine WHERE j.id = mine.id
    RETURNING j.id, j.claim";

pub(super) const STATS: &str = "
    SELECT
        count(*) FILTER (WHERE (state = 0 AND due <= now())
            OR (state = 1 AND lease_ends <= now())) AS ready,
        count(*) FILTER (WHERE state = 0 AND due > now()) AS scheduled,
        count(*) FILTER (WHERE state = 1 AND lease_ends > now()) AS running,
        count(*) FILTER (WHERE state = 2) AS dead,
        (SELECT coalesce(sum(done), 0)::bigint
            FROM lifecycle_worker.counters WHERE queue = $1) AS done,
        (SELECT coalesce(sum(attempts), 0)::bigint
            FROM lifecycle_worker.counters WHERE queue = $1) AS attempts,
        (SELECT coalesce(sum(returns), 0)::bigint
            FROM lifecycle_worker.counters WHERE queue = $1) AS returns
    FROM lifecycle_worker.jobs WHERE queue = $1";

pub(super) const DEAD: &str = "
    SELECT id, kind, payload, attempts, coalesce(error, '') AS error
    FROM lifecycle_worker.jobs WHERE queue = $1 AND state = 2
    ORDER BY died DESC, id DESC LIMIT $2";

/// Adds this owner's counters to the common row, and those of owners that vanished a day ago
/// (who comes back begins a new row).
pub(super) const FOLD: &str = "
    WITH gone AS (
        DELETE FROM lifecycle_worker.counters WHERE queue = $1 AND owner <> ''
            AND (owner = $2 OR touched < now() - interval '1 day')
        RETURNING done, attempts, returns
    )
    INSERT INTO lifecycle_worker.counters AS c (queue, owner, done, attempts, returns)
    SELECT $1, '', sum(done)::bigint, sum(attempts)::bigint, sum(returns)::bigint
    FROM gone HAVING count(*) > 0
    ON CONFLICT (queue, owner) DO UPDATE
    SET done = c.done + excluded.done, attempts = c.attempts + excluded.attempts,
        returns = c.returns + excluded.returns";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_migration_is_applied_once_and_in_order() {
        let text = migrate();
        let places = (1..=MIGRATIONS.len()).map(|version| {
            let guard = format!("WHERE version >= {version})");
            assert_eq!(text.matches(&guard).count(), 1, "{guard}");
            text.find(&guard)
        });
        assert!(places.collect::<Vec<_>>().is_sorted());
    }

    #[test]
    fn what_settles_is_fenced_on_queue_owner_and_claim() {
        for statement in [ACK, RELEASE, FAIL, EXTEND] {
            let fence = "j.claim = g.claim\n        WHERE j.queue = $1 AND j.owner = $2";
            assert!(statement.contains(fence), "{statement}");
        }
    }
}
