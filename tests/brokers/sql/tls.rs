//! TLS to PostgreSQL.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use lifecycle_worker::{PostgresQueue, Queue, QueueError};
use sqlx::Row;
use tempfile::TempDir;
use tests::brokers::PrivatePostgres;
use tokio::time::{Instant, sleep};

use super::common::{jobs, postgres_pool};

fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Where the server looks for it, as its own.
fn put(folder: &Path, name: &str, text: &str) {
    let (path, owner) = (folder.join(name), fs::metadata(folder).unwrap());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[tokio::test]
async fn postgres_is_reached_by_tls_and_its_certificate_is_checked() {
    let server = PrivatePostgres::start().await;
    let url = server.url().replace("127.0.0.1", "localhost");
    let error = PostgresQueue::connect(&format!("{url}?sslmode=require"), "mail").await;
    let error = error.unwrap_err();
    assert!(matches!(&error, QueueError::Invalid { what } if what.contains("TLS")), "{error:?}");

    let pool = postgres_pool(&server.url()).await;
    let folder = sqlx::query("SHOW data_directory").fetch_one(&pool).await.unwrap();
    let folder = folder.get::<String, _>(0);
    let (certificate_pem, key) = certificate();
    put(folder.as_ref(), "server.crt", &certificate_pem);
    put(folder.as_ref(), "server.key", &key);
    sqlx::query("ALTER SYSTEM SET ssl = on").execute(&pool).await.unwrap();
    sqlx::query("SELECT pg_reload_conf()").execute(&pool).await.unwrap();
    let limit = Instant::now() + Duration::from_secs(20);
    while let Err(error) = PostgresQueue::connect(&format!("{url}?sslmode=require"), "mail").await {
        assert!(Instant::now() < limit, "{error:?}");
        // Sleeps: the server tells nobody that it has read its settings again.
        sleep(Duration::from_millis(20)).await;
    }

    let trusted = TempDir::new().unwrap();
    let (right, wrong) = (trusted.path().join("right.pem"), trusted.path().join("wrong.pem"));
    fs::write(&right, certificate_pem).unwrap();
    fs::write(&wrong, certificate().0).unwrap();
    let checked = |path: &Path| format!("{url}?sslmode=verify-full&sslrootcert={}", path.display());
    let queue = PostgresQueue::connect(&checked(&right), "mail").await.unwrap();
    queue.prepare().await.unwrap();
    queue.push(&jobs(1)).await.unwrap();
    let text = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                WHERE s.ssl AND a.query LIKE '%lifecycle_worker%'";
    let encrypted = sqlx::query(text).fetch_one(&pool).await.unwrap().get::<i64, _>(0);
    assert!(encrypted > 0, "nobody uses TLS");
    let error = PostgresQueue::connect(&checked(&wrong), "mail").await.unwrap_err();
    let said = format!("{error:?}").to_lowercase();
    assert!(said.contains("certificate"), "{said}");
}
