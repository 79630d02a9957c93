//! Upgraded connections.

use tokio::time::Instant;

use crate::{
    client::{Ws, WsEnd},
    flaw::{During as _, Flaw, ensure, ms},
    process::Setting,
    scenario::{Need, Scenario, Theme},
    stage::Stage,
};

pub(super) const SCENARIOS: [Scenario; 1] = [Scenario::new(
    Theme::Websocket,
    "websocket-closed-1001",
    (
        "most servers forget a connection once it is upgraded: the process exits under it, or \
         waits for it for ever",
        "count upgraded connections, tell their handlers at the drain, let them close with 1001 \
         (going away)",
    ),
    &[Need::Ws],
    |stage| Box::pin(closed_1001(stage)),
)];

async fn closed_1001(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let path = stage.subject.routes.ws.clone().unwrap_or_default();
    let (peer, limit) = (stage.peer()?, stage.subject.request_timeout);
    let mut ws = Ws::connect(&peer, &path, limit).await.during("opening a WebSocket")?;
    ws.echo("before").await.during("an echo before the signal")?;
    stage.stop()?;
    let (lame_duck, slack) = (stage.subject.lame_duck, stage.subject.slack);
    if !lame_duck.is_zero() {
        stage.at(lame_duck / 2).await;
        ws.echo("during").await.during("an echo in the lame duck")?;
        stage.note("echo in the lame duck");
    }
    let left = (stage.cause() + stage.subject.grace).saturating_duration_since(Instant::now());
    let end = ws.end(left).await;
    let ended = stage.cause().elapsed();
    stage.note(format!("the WebSocket ended: {end:?}"));
    // Going away, or a restart of the service: either tells the client to come again.
    ensure(matches!(end, Some(WsEnd::Closed(1001 | 1012))), || match end {
        None => "the WebSocket is not closed".to_owned(),
        Some(WsEnd::Torn) => "the WebSocket was torn off without a close frame".to_owned(),
        Some(WsEnd::Closed(code)) => format!("the WebSocket was closed with {code}, not 1001"),
    })?;
    ensure(ended <= lame_duck + slack, || {
        format!("closed {} after the signal, expected by {}", ms(ended), ms(lame_duck + slack))
    })?;
    stage.exits_clean(stage.idle_end()).await
}
