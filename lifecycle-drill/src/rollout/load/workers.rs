//! One worker: takes the next request that is due, sends it, counts its outcome.

use std::sync::Arc;

use tokio::{sync::Mutex, time::Instant};

use crate::{
    client::{Alpn, Fate, H2c, Wire, WireError},
    rollout::{
        account::{Done, HTTP1, HTTP2},
        haproxy::SIGNED,
        kind::Kind,
    },
};

use super::{Ask, Shared, locked};

/// An HTTP/2 connection that several workers use.
pub(super) type Line = Mutex<Option<Arc<H2c>>>;

/// Asks over one HTTP/1 connection until the server says close.
pub(super) async fn http1(shared: Shared) {
    let mut kept: Option<Wire> = None;
    while let Some((number, due)) = shared.cursor.take() {
        let due = shared.began + due;
        if !shared.cursor.wait(number, due).await {
            return;
        }
        let sent = Instant::now();
        let ask = shared.plan.ask(number);
        let wire = match kept.take() {
            Some(wire) => Ok(wire),
            None => Wire::open(&shared.plan.http1.into(), Alpn::Http1, shared.plan.limit).await,
        };
        let outcome = match wire {
            Ok(mut wire) => match exchange(&mut wire, ask).await {
                Ok((kind, closes)) => {
                    kept = Some(wire).filter(|_| !closes);
                    Ok(kind)
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        shared.count(due, sent, HTTP1, ask, outcome);
    }
}

async fn exchange(wire: &mut Wire, ask: &Ask) -> Result<(Kind, bool), WireError> {
    wire.send(&ask.http1).await?;
    let response = wire.response().await?;
    let kind = Kind::of_answer(response.status(), response.header(SIGNED).is_some());
    Ok((kind, response.closes()))
}

/// Asks over an HTTP/2 connection that others use too.
pub(super) async fn http2(shared: Shared, line: Arc<Line>) {
    while let Some((number, due)) = shared.cursor.take() {
        let due = shared.began + due;
        if !shared.cursor.wait(number, due).await {
            return;
        }
        let sent = Instant::now();
        let ask = shared.plan.ask(number);
        let outcome = match connection(&shared, &line).await {
            Ok(connection) => {
                let outcome = stream(&connection, ask).await;
                if outcome.is_err() && connection.has_ended() {
                    let mut line = line.lock().await;
                    // Unless another has made a new one meanwhile.
                    *line = line.take().filter(|now| !Arc::ptr_eq(now, &connection));
                }
                outcome
            }
            Err(error) => Err(error),
        };
        shared.count(due, sent, HTTP2, ask, outcome);
    }
}

/// The connection, or a new one if it has been told to go.
async fn connection(shared: &Shared, line: &Line) -> Result<Arc<H2c>, WireError> {
    let mut line = line.lock().await;
    if let Some(connection) = line.as_ref().filter(|one| !one.told_to_go() && !one.has_ended()) {
        return Ok(Arc::clone(connection));
    }
    let made = Arc::new(H2c::connect(&shared.plan.http2.into(), shared.plan.limit).await?);
    *line = Some(Arc::clone(&made));
    Ok(made)
}

async fn stream(connection: &H2c, ask: &Ask) -> Result<Kind, WireError> {
    let mut request =
        http::Request::builder().method(ask.method).uri(format!("http://drill{}", ask.path));
    if let Some(content_type) = &ask.content_type {
        request = request.header("content-type", content_type);
    }
    let request = request.body(()).map_err(|error| WireError::caused(Fate::NotSent, error))?;
    let asked = connection.send(request, ask.body.clone()).await?;
    let mut answering = connection.head(asked).await?;
    while connection.data(&mut answering).await?.is_some() {}
    Ok(Kind::of_answer(answering.status(), answering.has_header(SIGNED)))
}

impl Shared {
    fn count(
        &self,
        due: Instant,
        sent: Instant,
        protocol: &'static str,
        ask: &Ask,
        outcome: Result<Kind, WireError>,
    ) {
        let took = due.elapsed();
        let kind = outcome.as_ref().copied().unwrap_or_else(|error| Kind::Failed(error.fate));
        let due_at = self.offset + due.saturating_duration_since(self.began);
        let done = Done { due: due_at, took, kind, protocol, method: ask.method };
        let mut account = locked(&self.account);
        account.late_max = account.late_max.max(sent.saturating_duration_since(due));
        account.add(done, || match outcome {
            Ok(kind) => kind.to_string(),
            Err(error) => match error.source {
                Some(source) => format!("{}: {source}", error.fate),
                None => error.fate.to_string(),
            },
        });
    }
}
