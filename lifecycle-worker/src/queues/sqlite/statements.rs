//! Every statement of the SQLite queue.
//!
//! Times are microseconds of the machine's clock since 1970. `?1` is the queue, where there is
//! one.

/// The schema, step by step: the statement at place n leads from version n to n + 1.
pub(super) const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE lifecycle_worker_jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        kind TEXT NOT NULL,
        payload BLOB NOT NULL,
        headers TEXT,
        priority INTEGER NOT NULL,
        due INTEGER NOT NULL,
        state INTEGER NOT NULL DEFAULT 0,
        owner TEXT,
        lease_ends INTEGER,
        claim INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        returns INTEGER NOT NULL DEFAULT 0,
        checkpoint BLOB,
        error TEXT,
        died INTEGER
    );
    CREATE INDEX lifecycle_worker_jobs_waiting
        ON lifecycle_worker_jobs (queue, priority DESC, due, id) WHERE state = 0;
    CREATE INDEX lifecycle_worker_jobs_due
        ON lifecycle_worker_jobs (queue, due) WHERE state = 0;
    CREATE INDEX lifecycle_worker_jobs_running
        ON lifecycle_worker_jobs (queue, lease_ends) WHERE state = 1;
    CREATE INDEX lifecycle_worker_jobs_dead
        ON lifecycle_worker_jobs (queue, died DESC, id DESC) WHERE state = 2;
    CREATE TABLE lifecycle_worker_dedupe (
        queue TEXT NOT NULL,
        key TEXT NOT NULL,
        expires INTEGER NOT NULL,
        PRIMARY KEY (queue, key)
    ) WITHOUT ROWID;
    CREATE INDEX lifecycle_worker_dedupe_expires ON lifecycle_worker_dedupe (queue, expires);
    CREATE TABLE lifecycle_worker_counters (
        queue TEXT NOT NULL,
        owner TEXT NOT NULL,
        done INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        returns INTEGER NOT NULL DEFAULT 0,
        touched INTEGER NOT NULL,
        PRIMARY KEY (queue, owner)
    ) WITHOUT ROWID;
"];

pub(super) const VERSIONS: &str =
    "CREATE TABLE IF NOT EXISTS lifecycle_worker_version (version INTEGER PRIMARY KEY)";

pub(super) const VERSION: &str = "SELECT max(version) FROM lifecycle_worker_version";

pub(super) const APPLIED: &str = "INSERT INTO lifecycle_worker_version (version) VALUES (?1)";

pub(super) const PUSH: &str = "
    INSERT INTO lifecycle_worker_jobs (queue, kind, payload, headers, priority, due)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id";

/// `?2` is the key, `?3` when it is forgotten, `?4` now. Touches no row when it is remembered.
pub(super) const KEY: &str = "
    INSERT INTO lifecycle_worker_dedupe AS d (queue, key, expires) VALUES (?1, ?2, ?3)
    ON CONFLICT (queue, key) DO UPDATE SET expires = excluded.expires WHERE d.expires <= ?4";

/// Forgets keys whose time is over by `?2`, a bounded number of them.
pub(super) const FORGET: &str = "
    DELETE FROM lifecycle_worker_dedupe WHERE queue = ?1 AND key IN (
        SELECT key FROM lifecycle_worker_dedupe WHERE queue = ?1 AND expires <= ?2 LIMIT 1000)";

/// When the first job is due, and when the first lease ends: two index seeks.
pub(super) const NEXT: &str = "
    SELECT (SELECT min(due) FROM lifecycle_worker_jobs WHERE queue = ?1 AND state = 0),
        (SELECT min(lease_ends) FROM lifecycle_worker_jobs WHERE queue = ?1 AND state = 1)";

/// Makes jobs claimable whose lease has ended by `?2`. Owner and claim number stay until
/// somebody claims them, so that a late settle still finds its job.
pub(super) const RESCUE: &str = "
    UPDATE lifecycle_worker_jobs SET state = 0, lease_ends = NULL
    WHERE queue = ?1 AND state = 1 AND lease_ends <= ?2";

/// The next priority below `?2` that a waiting job has.
pub(super) const LEVEL: &str = "
    SELECT max(priority) FROM lifecycle_worker_jobs
    WHERE queue = ?1 AND state = 0 AND priority < ?2";

/// Up to `?4` jobs of priority `?2` that are due by `?3`.
pub(super) const READY: &str = "
    SELECT id FROM lifecycle_worker_jobs
    WHERE queue = ?1 AND state = 0 AND priority = ?2 AND due <= ?3
    ORDER BY due, id LIMIT ?4";

/// `?1` is a JSON array of ids. The rows come in any order.
pub(super) const TAKE: &str = "
    UPDATE lifecycle_worker_jobs SET state = 1, owner = ?2, lease_ends = ?3, claim = claim + 1,
        attempts = attempts + 1
    WHERE id IN (SELECT value FROM json_each(?1))
    RETURNING id, claim, kind, payload, headers, attempts, returns, checkpoint, priority, due";

/// `?3` done, `?4` attempts and `?5` returns are added to owner `?2`'s; `?6` is now.
pub(super) const COUNT: &str = "
    INSERT INTO lifecycle_worker_counters AS c (queue, owner, done, attempts, returns, touched)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (queue, owner) DO UPDATE SET done = c.done + excluded.done,
        attempts = c.attempts + excluded.attempts, returns = c.returns + excluded.returns,
        touched = excluded.touched";

/// `?2` is the owner, `?3` a JSON array of pairs: id and claim number.
pub(super) const ACK: &str = "
    DELETE FROM lifecycle_worker_jobs
    WHERE queue = ?1 AND owner = ?2 AND state < 2
        AND id IN (SELECT value ->> 0 FROM json_each(?3))
        AND (id, claim) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?3))
    RETURNING id, claim";

// The others that settle, one job each: `?2` is the owner, `?3` the id, `?4` the claim number.

/// `?5` is the checkpoint, `?6` the earliest time.
pub(super) const RELEASE: &str = "
    UPDATE lifecycle_worker_jobs SET state = 0, owner = NULL, lease_ends = NULL,
        attempts = attempts - 1, returns = returns + 1,
        checkpoint = coalesce(?5, checkpoint), due = max(due, ?6)
    WHERE queue = ?1 AND owner = ?2 AND id = ?3 AND claim = ?4 AND state < 2";

/// `?5` is the error, `?6` the checkpoint, `?7` when it is due (`NULL`: never), `?8` now.
pub(super) const FAIL: &str = "
    UPDATE lifecycle_worker_jobs SET owner = NULL, lease_ends = NULL, error = ?5,
        checkpoint = coalesce(?6, checkpoint), due = coalesce(?7, due),
        state = iif(?7 IS NULL, 2, 0), died = iif(?7 IS NULL, ?8, NULL)
    WHERE queue = ?1 AND owner = ?2 AND id = ?3 AND claim = ?4 AND state < 2";

/// `?5` is the checkpoint, `?6` when the lease ends.
pub(super) const EXTEND: &str = "
    UPDATE lifecycle_worker_jobs SET state = 1, lease_ends = ?6,
        checkpoint = coalesce(?5, checkpoint)
    WHERE queue = ?1 AND owner = ?2 AND id = ?3 AND claim = ?4 AND state < 2";

/// `?2` is now.
pub(super) const STATS: &str = "
    SELECT
        count(*) FILTER (WHERE (state = 0 AND due <= ?2) OR (state = 1 AND lease_ends <= ?2))
            AS ready,
        count(*) FILTER (WHERE state = 0 AND due > ?2) AS scheduled,
        count(*) FILTER (WHERE state = 1 AND lease_ends > ?2) AS running,
        count(*) FILTER (WHERE state = 2) AS dead,
        (SELECT coalesce(sum(done), 0) FROM lifecycle_worker_counters WHERE queue = ?1) AS done,
        (SELECT coalesce(sum(attempts), 0)
            FROM lifecycle_worker_counters WHERE queue = ?1) AS attempts,
        (SELECT coalesce(sum(returns), 0)
            FROM lifecycle_worker_counters WHERE queue = ?1) AS returns
    FROM lifecycle_worker_jobs WHERE queue = ?1";

pub(super) const DEAD: &str = "
    SELECT id, kind, payload, attempts, coalesce(error, '') AS error
    FROM lifecycle_worker_jobs WHERE queue = ?1 AND state = 2
    ORDER BY died DESC, id DESC LIMIT ?2";

/// What this owner counted, and owners that were not heard of since `?3`.
pub(super) const FOLD: &str = "
    DELETE FROM lifecycle_worker_counters
    WHERE queue = ?1 AND owner <> '' AND (owner = ?2 OR touched < ?3)
    RETURNING done, attempts, returns";
