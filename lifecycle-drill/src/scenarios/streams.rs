//! Responses without an end.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::{
    client::{Answering, Fate, Framing, H2c, Reader, Response, Wire},
    flaw::{During as _, Flaw, ensure, ms},
    process::Setting,
    scenario::{Need, Scenario, Theme},
    scenarios::signals::SETTLE,
    stage::Stage,
};

pub(super) const SCENARIOS: [Scenario; 2] = [
    Scenario::new(Theme::Streams, "streams-sse", TEXT, &[Need::Events], |stage| {
        Box::pin(over_http1(stage))
    }),
    Scenario::new(Theme::Streams, "streams-sse-http2", TEXT, &[Need::Events, Need::H2c], |stage| {
        Box::pin(over_http2(stage))
    }),
];

/// What a listener to the stream has seen.
#[derive(Default)]
struct Heard {
    /// Time since the signal of the last piece that came in the lame duck.
    last_in_lame_duck: Option<Duration>,
    pieces: u32,
    /// Since the beginning of the stream, over HTTP/1.
    bytes: u64,
}

async fn over_http1(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let path = stage.subject.routes.events.clone().unwrap_or_default();
    let mut wire = stage.wire().await?;
    let mut reader = opened(&mut wire, &path, stage.subject.request_timeout, SETTLE).await?;
    stage.stop()?;
    let deadline = stage.cause() + stage.subject.grace;
    let before = reader.so_far().map_or(0, Response::body_length);
    let mut heard = Heard { bytes: before, ..Heard::default() };
    while !wire.advance(&mut reader, deadline).await.during("an event stream in the drain")? {
        let bytes = reader.so_far().map_or(0, Response::body_length);
        let new = bytes.saturating_sub(heard.bytes);
        heard.piece(stage, new);
    }
    judge(stage, &heard).await
}

async fn over_http2(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let path = stage.subject.routes.events.clone().unwrap_or_default();
    let client = stage.h2c().await?;
    let mut answering = opened_over_http2(&client, &path, SETTLE).await?;
    stage.stop()?;
    let mut heard = Heard::default();
    let reading = "an event stream in the drain";
    while let Some(bytes) = client.data(&mut answering).await.during(reading)? {
        heard.piece(stage, bytes as u64);
        let timed_out = Fate::TimedOut;
        ensure(stage.cause().elapsed() < stage.subject.grace, || {
            format!("{reading}: {timed_out}")
        })?;
    }
    judge(stage, &heard).await
}

/// Asks for the stream over HTTP/1 and reads until it is known to go on for so long.
async fn opened(
    wire: &mut Wire,
    path: &str,
    limit: Duration,
    open_for: Duration,
) -> Result<Reader, Flaw> {
    wire.send(wire.request("GET", path, None)).await.during("asking for events")?;
    let mut reader = Reader::new();
    wire.head(&mut reader).await.during("the head of an event stream")?;
    let head = reader.so_far().map(|response| (response.status(), response.framing()));
    let (status, framing) = head.unzip();
    is_200(status)?;
    ensure(framing == Some(Framing::Chunked), || {
        format!(
            "an event stream ends by {framing:?}, not by a last chunk: nobody can tell \
                 whether it was cut"
        )
    })?;
    let patience = Instant::now() + limit;
    let mut over = reader.is_done();
    while !over && reader.so_far().is_none_or(|response| response.body_length() == 0) {
        over = wire.advance(&mut reader, patience).await.during("waiting for a first event")?;
    }
    let end = async {
        // Over, it must not be read again: that is ready at once, for ever.
        while !over {
            over = wire.advance(&mut reader, patience).await.during("the first events")?;
        }
        Ok(())
    };
    goes_on(end, open_for).await?;
    Ok(reader)
}

/// The same over HTTP/2.
async fn opened_over_http2(
    client: &H2c,
    path: &str,
    open_for: Duration,
) -> Result<Answering, Flaw> {
    let asked = client.ask(path).await.during("asking for events")?;
    let mut answering = client.head(asked).await.during("the head of an event stream")?;
    is_200(Some(answering.status()))?;
    let mut piece = client.data(&mut answering).await.during("waiting for a first event")?;
    let end = async {
        while piece.is_some() {
            piece = client.data(&mut answering).await.during("the first events")?;
        }
        Ok(())
    };
    goes_on(end, open_for).await?;
    Ok(answering)
}

fn is_200(status: Option<u16>) -> Result<(), Flaw> {
    let status = status.unwrap_or_default();
    ensure(status == 200, || format!("an event stream: answered {status}"))
}

/// The stream's end must not come for a moment: only one that is open can be ended by a drain.
async fn goes_on(
    end: impl Future<Output = Result<(), Flaw>>,
    open_for: Duration,
) -> Result<(), Flaw> {
    match timeout(open_for, end).await {
        Err(_) => Ok(()),
        Ok(over) => over.and(Err(Flaw::Seen("the event stream ended before the signal".into()))),
    }
}

impl Heard {
    fn piece(&mut self, stage: &Stage, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let since = stage.cause().elapsed();
        self.pieces += 1;
        self.bytes += bytes;
        if since < stage.subject.lame_duck {
            self.last_in_lame_duck = Some(since);
        }
    }
}

/// The stream has ended in order: was it at the right time, and does the process follow?
async fn judge(stage: &mut Stage, heard: &Heard) -> Result<(), Flaw> {
    let ended = stage.cause().elapsed();
    stage.note(format!("the stream ended in order, {} pieces since the signal", heard.pieces));
    let (lame_duck, slack) = (stage.subject.lame_duck, stage.subject.slack);
    ensure(ended + CLOCKS_APART >= lame_duck, || {
        format!("ended {} after the signal, before the drain began", ms(ended))
    })?;
    ensure(ended <= lame_duck + slack, || {
        format!("ended {} after the signal, expected by {}", ms(ended), ms(lame_duck + slack))
    })?;
    let ticking = heard.last_in_lame_duck.is_some_and(|last| last >= lame_duck / 2);
    ensure(ticking || lame_duck < Duration::from_millis(600), || {
        format!("no event in the second half of the lame duck; last: {:?}", heard.last_in_lame_duck)
    })?;
    stage.exits_clean(stage.idle_end()).await
}

const TEXT: (&str, &str) = (
    "an endless stream never lets a naive drain end; cut at the deadline, its clients cannot \
     tell a restart from a failure, and the exit code cries wolf",
    "end event streams with a proper last chunk when the drain begins: their clients connect \
     again elsewhere",
);
const CLOCKS_APART: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::sleep,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// What is seen in that time of a stream whose server answers with these pieces, a moment
    /// apart, and keeps the connection.
    async fn seen(pieces: &'static [&'static str], open_for: Duration) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut wire = Wire::connect(listener.local_addr().unwrap(), LIMIT).await.unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut chunk = [0; 1024];
            assert!(stream.read(&mut chunk).await.unwrap() > 0);
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                // Sleeps: the pieces are to come in reads of their own.
                sleep(Duration::from_millis(20)).await;
            }
            std::future::pending::<()>().await
        };
        tokio::select! {
            opened = Box::pin(opened(&mut wire, "/events", LIMIT, open_for)) => {
                opened.map(drop).map_err(|flaw| flaw.to_string())
            }
            () = serve => Ok(()),
        }
    }

    #[tokio::test]
    async fn a_stream_that_goes_on_is_taken() {
        let taken = seen(&[OK, "3\r\nabc\r\n"], SETTLE).await;
        assert_eq!(taken, Ok(()));
    }

    #[tokio::test]
    async fn a_stream_that_is_over_before_the_signal_is_none() {
        let over = Err("the event stream ended before the signal".to_owned());
        for pieces in [
            &[OK, "0\r\n\r\n"][..],
            &[OK, "3\r\nabc\r\n0\r\n\r\n"],
            &[OK, "3\r\nabc\r\n", "0\r\n\r\n"],
        ] {
            assert_eq!(seen(pieces, LIMIT).await, over, "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_not_found_is_none() {
        let answered = seen(&[NOT_FOUND, "3\r\nabc\r\n"], LIMIT).await;
        assert_eq!(answered, Err("an event stream: answered 404".to_owned()));
    }

    /// The same over HTTP/2: a server that ends its stream after one event.
    #[tokio::test]
    async fn a_stream_over_http2_that_is_over_before_the_signal_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                body.send_data(bytes::Bytes::from_static(b"abc"), true).unwrap();
            }
        };
        let ask = async {
            let client = H2c::connect(&address.into(), LIMIT).await.unwrap();
            let opened = opened_over_http2(&client, "/events", LIMIT).await;
            opened.map(drop).map_err(|flaw| flaw.to_string())
        };
        let opened = tokio::select! {
            opened = ask => opened,
            () = serve => Ok(()),
        };
        assert_eq!(opened, Err("the event stream ended before the signal".to_owned()));
    }

    const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
}
