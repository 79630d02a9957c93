//! The client: an open loop at a constant rate, over HTTP/1 connections that are kept and over
//! a few HTTP/2 connections.
//!
//! # Invariants
//! 1. No request is sent twice; a failed connect is the outcome of its request.
//! 2. A worker that waits for an answer holds no other request back, as long as one is free.

mod cursor;
mod workers;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use self::cursor::Cursor;
use super::{account::Account, settings::Rollout};

/// Where to and what.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) http1: SocketAddr,
    pub(super) http2: SocketAddr,
    pub(super) get: Ask,
    pub(super) post: Option<Ask>,
    post_share: f64,
    limit: Duration,
}

/// One request, ready to be sent in either protocol.
#[derive(Debug)]
pub(super) struct Ask {
    method: &'static str,
    /// Head and body.
    http1: Vec<u8>,
    path: String,
    content_type: Option<String>,
    body: Bytes,
}

/// A running load.
#[derive(Debug)]
pub(super) struct Load {
    workers: JoinSet<()>,
    cursors: [Arc<Cursor>; 2],
    account: Arc<Mutex<Account>>,
    limit: Duration,
    /// When the first request is due.
    began: Instant,
}

/// What all workers share.
#[derive(Clone, Debug)]
struct Shared {
    plan: Arc<Plan>,
    cursor: Arc<Cursor>,
    account: Arc<Mutex<Account>>,
    /// When the first request is due.
    began: Instant,
    /// From the beginning of everything to that.
    offset: Duration,
}

impl Plan {
    pub(super) fn new(settings: &Rollout, http1: SocketAddr, http2: SocketAddr) -> Self {
        let post = settings
            .post
            .as_ref()
            .map(|post| Ask::new("POST", &post.path, Some(&post.content_type), post.body.clone()));
        Self {
            http1,
            http2,
            get: Ask::new("GET", &settings.get, None, Bytes::new()),
            post,
            post_share: settings.post_share,
            limit: settings.request_timeout,
        }
    }

    fn ask(&self, number: u64) -> &Ask {
        match &self.post {
            Some(post) if cursor::is_of(self.post_share, number) => post,
            _ => &self.get,
        }
    }
}

impl Ask {
    fn new(method: &'static str, path: &str, content_type: Option<&str>, body: Bytes) -> Self {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: drill\r\n");
        if let Some(content_type) = content_type {
            let length = body.len();
            head.push_str(&format!("content-type: {content_type}\r\ncontent-length: {length}\r\n"));
        }
        head.push_str("\r\n");
        let http1 = [head.as_bytes(), &body].concat();
        let content_type = content_type.map(str::to_owned);
        Self { method, http1, path: path.to_owned(), content_type, body }
    }
}

impl Load {
    /// Starts `least` requests at least, and goes on until it is stopped.
    pub(super) fn start(
        settings: &Rollout,
        plan: &Arc<Plan>,
        account: &Arc<Mutex<Account>>,
        epoch: Instant,
        least: u64,
    ) -> Self {
        let began = Instant::now() + WARM_UP;
        let offset = began.saturating_duration_since(epoch);
        let mut workers = JoinSet::new();
        let share = settings.h2_share;
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count of requests, far below 2^52"
        )]
        let cursors = [1.0 - share, share].map(|share| {
            let least = (least as f64 * share).ceil() as u64;
            Arc::new(Cursor::new(f64::from(settings.rate) * share, least))
        });
        let shared = |cursor: &Arc<Cursor>| Shared {
            plan: Arc::clone(plan),
            cursor: Arc::clone(cursor),
            account: Arc::clone(account),
            began,
            offset,
        };
        let [http1, http2] = &cursors;
        for _ in 0..settings.connections {
            workers.spawn(workers::http1(shared(http1)));
        }
        if share > 0.0 {
            let lines: Vec<_> = (0..HTTP2_CONNECTIONS).map(|_| Arc::default()).collect();
            for line in lines.iter().cycle().take(settings.connections as usize) {
                workers.spawn(workers::http2(shared(http2), Arc::clone(line)));
            }
        }
        let (account, limit) = (Arc::clone(account), settings.request_timeout);
        Self { workers, cursors, account, limit, began }
    }

    /// Begins no more than the least number and what was due by now, and waits for the outcomes of
    /// all, as long as there are some; `false` if a worker was lost with its request.
    pub(super) async fn finish(mut self) -> bool {
        let elapsed = self.began.elapsed();
        self.cursors.iter().for_each(|cursor| cursor.stop(elapsed));
        let (mut whole, mut before) = (true, None);
        loop {
            // A server that is too slow for the rate is behind for long; but each request ends.
            match timeout(self.limit * 3, self.workers.join_next()).await {
                Ok(Some(joined)) => whole &= joined.is_ok(),
                Ok(None) => return whole,
                Err(_) => {
                    let now = locked(&self.account).total();
                    if before.replace(now) == Some(now) {
                        return false;
                    }
                }
            }
        }
    }
}

pub(super) fn locked(account: &Mutex<Account>) -> std::sync::MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So that all workers are up when the first request is due.
const WARM_UP: Duration = Duration::from_millis(50);
const HTTP2_CONNECTIONS: usize = 8;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{client::Fate, rollout::kind::Kind, subject::Subject};

    /// Answers each request at once; the first of all only after `held`, or never.
    async fn serve(listener: TcpListener, held: Option<Duration>) {
        let mut is_first = true;
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let hold = is_first.then_some(held);
            is_first = false;
            connections.spawn(answer(stream, hold));
        }
    }

    async fn answer(mut stream: TcpStream, mut hold: Option<Option<Duration>>) {
        let mut chunk = [0; 4096];
        while let Ok(1..) = stream.read(&mut chunk).await {
            match hold.take() {
                Some(None) => return,
                // Sleeps: the server is slow.
                Some(Some(held)) => tokio::time::sleep(held).await,
                None => {}
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }

    async fn account_of(connections: u32, held: Option<Duration>) -> Account {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Rollout::new("x", Subject::new("x")).rate(100).connections(connections);
        let (plan, account) = (Arc::new(Plan::new(&settings, address, address)), Arc::default());
        let load = Load::start(&settings, &plan, &account, Instant::now(), 20);
        let loaded = load.finish();
        let whole = tokio::select! {
            whole = loaded => whole,
            () = serve(listener, held) => false,
        };
        assert!(whole, "all workers have ended by themselves");
        let account = locked(&account).clone();
        assert_eq!(account.total(), 20);
        account
    }

    #[tokio::test]
    async fn the_wait_behind_a_slow_answer_counts_as_time_and_another_connection_avoids_it() {
        let held = Duration::from_secs(3);
        let alone = account_of(1, Some(held)).await;
        // Due while the first was held: the second was late by nearly all of that.
        assert!(alone.late_max >= held - Duration::from_millis(50), "{:?}", alone.late_max);
        assert!(alone.always.quantile(0.5) >= held / 2, "{alone:?}");
        let many = account_of(20, Some(held)).await;
        assert!(many.always.max() >= held && many.always.quantile(0.5) < held / 2, "{many:?}");
    }

    #[tokio::test]
    async fn a_connection_that_closes_on_a_request_loses_it_and_it_alone() {
        let account = account_of(20, None).await;
        let lost = Kind::Failed(Fate::EofBeforeResponse);
        assert_eq!(account.by_kind.get(&lost), Some(&1), "{account:?}");
        assert_eq!(account.count(Kind::is_failure), 1, "{account:?}");
        assert!(account.failures[0].why.starts_with("closed"), "{account:?}");
    }
}
