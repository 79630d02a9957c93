//! The way to the server: what the URL says, and whether the server will do.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, ServerAddr};
use tokio::time::timeout;

use super::fault;
use super::refusal::Refusals;
use crate::error::QueueError;

/// A connection to that server, with the credentials of the URL, which the client itself leaves
/// unread.
pub(super) async fn open(
    address: ServerAddr,
    bound: Duration,
    refusals: &Refusals,
) -> Result<Client, QueueError> {
    let options = ConnectOptions::new().name("lifecycle").request_timeout(None);
    let heard = refusals.clone();
    let options = options.connection_timeout(bound).event_callback(move |event| {
        heard.hear(&event);
        std::future::ready(())
    });
    let options = match (address.username().map(decoded), address.password().map(decoded)) {
        (Some(token), None) => options.token(token),
        (Some(user), Some(password)) => options.user_and_password(user, password),
        (None, _) => options,
    };
    let client = match timeout(bound, Box::pin(options.connect(address))).await {
        Ok(client) => client.map_err(fault::of_connect)?,
        Err(_) => return Err(QueueError::timed_out(bound)),
    };
    check_server(&client)?;
    Ok(client)
}

pub(super) fn address(url: &str) -> Result<ServerAddr, QueueError> {
    if !url.starts_with("nats://") && !url.starts_with("tls://") {
        return Err(fault::not_a_url());
    }
    if url.starts_with("tls://") && cfg!(not(feature = "nats-tls")) {
        let what = "a tls:// URL needs the feature `nats-tls`".to_owned();
        return Err(QueueError::Invalid { what });
    }
    let address: ServerAddr = url.parse().map_err(|_| fault::not_a_url())?;
    if address.host().is_empty() { Err(fault::not_a_url()) } else { Ok(address) }
}

fn check_server(client: &Client) -> Result<(), QueueError> {
    let info = client.server_info();
    if !client.is_server_compatible(2, 9, 0) {
        let what = format!("NATS {}: a queue needs 2.9 or later", info.version);
        return Err(QueueError::Unsupported { what });
    }
    if info.jetstream { Ok(()) } else { Err(fault::no_jetstream()) }
}

/// A part of a URL as it was meant: `%20` is a space.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_url_is_decoded() {
        for (text, meant) in
            [("a%20b", "a b"), ("%c3%A9", "\u{e9}"), ("100%", "100%"), ("%zz", "%zz")]
        {
            assert_eq!(decoded(text), meant);
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for url in ["", "mail", "redis://x", "nats:secret", "nats://", "nats://u:secret@h:port"] {
            let error = address(url).map(|_| ()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{url}: {error}");
        }
    }
}
