//! What a server has on its hands when it is told to stop, beside the load.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lifecycle::{End, ExitReason, Handle, Report};
use lifecycle_drill::Wire;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::client::Leave;
use super::server::{Common, LIMIT, Server};

/// What is held at a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Burden {
    /// A request that does not end: cut.
    Endless,
    /// A stream of events: ended.
    Events,
    /// A close hook that does not end: given up, which is a cut.
    Hook,
    /// A job that outlasts the grace: cut and returned, the next server does it.
    Job,
    /// Requests on one HTTP/2 connection: answered.
    Streams,
    /// A request whose body is half there: answered.
    Upload,
}

/// A burden that a server has taken on.
pub(super) struct Held {
    burden: Burden,
    client: JoinHandle<Result<(), String>>,
}

impl Burden {
    pub(super) const ALL: [Self; 6] =
        [Self::Endless, Self::Events, Self::Hook, Self::Job, Self::Streams, Self::Upload];

    /// That of a cycle, counted from 1: every tenth has one, in turn.
    pub(super) fn of(cycle: u32) -> Option<Self> {
        let turn = (cycle / EVERY) as usize;
        cycle
            .is_multiple_of(EVERY)
            .then(|| Self::ALL[(turn + Self::ALL.len() - 1) % Self::ALL.len()])
    }

    /// Whether the server runs out of time by it. Then its time is short, and the load goes
    /// before it does.
    pub(super) fn outlasts(self) -> bool {
        matches!(self, Self::Endless | Self::Job)
    }

    pub(super) fn leave(burden: Option<Self>) -> Leave {
        if burden.is_some_and(Self::outlasts) { Leave::AtOnce } else { Leave::WhenTold }
    }

    /// Gives it to a server, and returns when that has it.
    pub(super) async fn begin(self, server: &Server, common: &Common) -> Held {
        let (address, handle) = (server.address, server.handle.clone());
        let client = match self {
            Self::Endless => tokio::spawn(endless(address)),
            Self::Events => tokio::spawn(events(address)),
            Self::Hook => tokio::spawn(async { Ok(()) }),
            Self::Job => {
                common.push_outlasting().await;
                tokio::spawn(async { Ok(()) })
            }
            Self::Streams => tokio::spawn(streams(address)),
            Self::Upload => tokio::spawn(upload(address, handle)),
        };
        match self {
            Self::Endless => server.holds("GET /endless", 1).await,
            Self::Events => server.holds("GET /events", 1).await,
            Self::Hook => {}
            Self::Job => common.outlasting_began().await,
            Self::Streams => server.holds("GET /streams", STREAMS).await,
            Self::Upload => server.holds("POST /upload", 1).await,
        }
        Held { burden: self, client }
    }

    /// Whether the report says of it what it should.
    fn is_told(self, report: &Report) -> bool {
        let cut = report.exit_reason() == ExitReason::Cut;
        match self {
            Self::Endless => {
                let mut blockers = report.cuts().iter().flat_map(|cut| &cut.blockers);
                cut && blockers.any(|blocker| blocker.name == "GET /endless")
            }
            Self::Events | Self::Streams | Self::Upload => {
                report.exit_reason() == ExitReason::Clean
            }
            Self::Hook => {
                let mut hooks = report.hooks().iter();
                cut && hooks.any(|hook| hook.name == STUCK && hook.end == End::Aborted)
            }
            Self::Job => cut && report.jobs().iter().any(|jobs| jobs.returned_started > 0),
        }
    }
}

impl Held {
    /// What its client has seen and the report says, if that is not as it should be.
    pub(super) async fn end(self, report: &Report) -> Result<(), String> {
        let seen = match timeout(LIMIT, self.client).await {
            Ok(seen) => seen.unwrap_or_else(|error| Err(error.to_string())),
            Err(_) => Err("its client hangs".to_owned()),
        };
        seen.map_err(|seen| format!("{:?}: {seen}", self.burden))?;
        let told = self.burden.is_told(report);
        if told { Ok(()) } else { Err(format!("{:?}: {report}", self.burden)) }
    }
}

/// A hook that does not end.
pub(super) async fn stuck() {
    pending().await
}

async fn endless(server: SocketAddr) -> Result<(), String> {
    let mut wire = connect(server).await?;
    match wire.get("/endless").await {
        Ok(response) => Err(format!("answered {}", response.status())),
        Err(error) if error.fate.is_lost() => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn events(server: SocketAddr) -> Result<(), String> {
    is_ok(connect(server).await?.get("/events").await)
}

/// The second half goes when the drain has begun.
async fn upload(server: SocketAddr, handle: Handle) -> Result<(), String> {
    let mut wire = connect(server).await?;
    let head = "POST /upload HTTP/1.1\r\nhost: soak\r\ncontent-length: 8\r\n\r\nhalf";
    wire.send(head).await.map_err(|error| error.to_string())?;
    handle.draining().await;
    wire.send("half").await.map_err(|error| error.to_string())?;
    is_ok(wire.response().await)
}

async fn streams(server: SocketAddr) -> Result<(), String> {
    let broken = |error: hyper::Error| error.to_string();
    let stream = TcpStream::connect(server).await.map_err(|error| error.to_string())?;
    let io = TokioIo::new(stream);
    let (sender, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let mut answers = JoinSet::new();
    for _ in 0..STREAMS {
        let mut sender = sender.clone();
        answers.spawn(async move {
            let request = http::Request::get("http://soak/streams").body(Empty::new());
            let response = sender.send_request(request.expect("a request")).await?;
            let status = response.status();
            response.into_body().collect().await.map(|_| status)
        });
    }
    drop(sender);
    while let Some(answer) = answers.join_next().await {
        let status = answer.expect("a client does not panic").map_err(broken)?;
        if !status.is_success() {
            return Err(format!("answered {status}"));
        }
    }
    connection.await.expect("a client does not panic").map_err(broken)
}

async fn connect(server: SocketAddr) -> Result<Wire, String> {
    Wire::connect(server, LIMIT).await.map_err(|error| error.to_string())
}

fn is_ok(
    result: Result<lifecycle_drill::Response, lifecycle_drill::WireError>,
) -> Result<(), String> {
    match result {
        Ok(response) if response.status() == 200 => Ok(()),
        Ok(response) => Err(format!("answered {}", response.status())),
        Err(error) => Err(error.to_string()),
    }
}

/// The name of the hook that does not end, and what it is given.
pub(super) const STUCK: &str = "stuck";
pub(super) const STUCK_LIMIT: Duration = Duration::from_millis(100);
const STREAMS: usize = 3;
/// One cycle in so many holds something.
const EVERY: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_cycles_hold_each_once() {
        let held: Vec<_> = (1..=60).filter_map(Burden::of).collect();
        assert_eq!(held, Burden::ALL);
        assert_eq!(Burden::of(70), Some(Burden::ALL[0]));
    }
}
