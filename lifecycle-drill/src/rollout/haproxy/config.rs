//! The configuration that haproxy is given. Pure.
//!
//! Hides nothing: `retries 0`, no redispatch; reuses its connections to the replicas as much
//! as it can (`http-reuse always`), which is what a stop suffers most from.

use std::{net::SocketAddr, path::Path};

use crate::rollout::settings::Checks;

/// The header by which haproxy signs what it answers in a replica's place.
pub(in crate::rollout) const SIGNED: &str = "x-drill-balancer";
/// What its log lines begin with.
pub(super) const LOG_MARK: &str = "drill ";
/// Its backends: to the replicas by HTTP/1.1 and by h2c.
pub(super) const BACKENDS: [&str; 2] = ["to_h1", HTTP2];
/// That by h2c.
pub(super) const HTTP2: &str = "to_h2";

/// The backend whose servers are asked for readiness. Those of the other follow them: a replica
/// is ready or not as a whole. Besides, haproxy 2.6 begins some checks of a `proto h2` server in
/// HTTP/2 in spite of `check-proto h1`, and takes out a replica whose probe server has HTTP/1.
pub(super) const CHECKED: &str = "to_h1";

/// What differs from one haproxy to the next.
#[derive(Clone, Debug)]
pub(in crate::rollout) struct Config {
    /// How many replicas it can know at a time.
    pub(in crate::rollout) slots: usize,
    pub(in crate::rollout) checks: Checks,
    /// What it asks for by itself.
    pub(in crate::rollout) ready_path: String,
}

impl Config {
    pub(super) fn text(&self, http1: SocketAddr, http2: SocketAddr, socket: &Path) -> String {
        let signed = |status: u16| {
            format!(
                "    http-error status {status} content-type text/plain \
                 string \"by the balancer\" hdr {SIGNED} \"{status}\"\n"
            )
        };
        let mut text = format!(
            "global\n    \
                 stats socket {} mode 600 level admin\n    \
                 log stdout len 4096 format raw local0\n\
             defaults\n    \
                 mode http\n    \
                 log global\n    \
                 option dontlog-normal\n    \
                 log-format \"{LOG_MARK}%ST %ts %b/%s conn=%Tc resp=%Tr %HM %HPO\"\n    \
                 timeout connect 5s\n    \
                 timeout client 1h\n    \
                 timeout http-keep-alive 1h\n    \
                 timeout server 60s\n    \
                 timeout queue 5s\n    \
                 retries 0\n    \
                 http-reuse always\n",
            socket.display()
        );
        [502, 503, 504].into_iter().for_each(|status| text.push_str(&signed(status)));
        text.push_str(&format!(
            "frontend h1\n    bind {http1}\n    default_backend to_h1\n\
             frontend h2\n    bind {http2} proto h2\n    default_backend to_h2\n"
        ));
        let protocols = BACKENDS.into_iter().zip(["", " proto h2"]);
        protocols.for_each(|(name, protocol)| text.push_str(&self.backend(name, protocol)));
        text
    }

    fn backend(&self, name: &str, protocol: &str) -> String {
        let mut text = format!("backend {name}\n    balance roundrobin\n");
        let is_checked = name == CHECKED;
        if let (Checks::Every(_), true) = (self.checks, is_checked) {
            let path = &self.ready_path;
            text.push_str(&format!(
                "    option httpchk GET {path}\n    http-check expect status 200\n"
            ));
        }
        for slot in 1..=self.slots {
            let check = match self.checks {
                Checks::Off => String::new(),
                Checks::Every(period) if is_checked => {
                    format!(" check port 1 inter {}ms fall 2 rise 1", period.as_millis().max(1))
                }
                Checks::Every(_) => format!(" track {CHECKED}/s{slot}"),
            };
            text.push_str(&format!("    server s{slot} 127.0.0.1:1 disabled{check}{protocol}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn says_what_hides_nothing_and_checks_only_if_asked() {
        let of = |checks| {
            let config = Config { slots: 8, checks, ready_path: "/readyz".into() };
            let address = SocketAddr::from(([127, 0, 0, 1], 80));
            config.text(address, address, Path::new("/x/admin"))
        };
        let checked = of(Checks::Every(Duration::from_millis(500)));
        for line in ["retries 0", "http-reuse always", "option httpchk GET /readyz"] {
            assert!(checked.lines().any(|one| one.trim() == line), "{line} in\n{checked}");
        }
        assert!(checked.contains("server s8 127.0.0.1:1 disabled check port 1 inter 500ms"));
        assert!(checked.contains("server s8 127.0.0.1:1 disabled track to_h1/s8 proto h2"));
        assert!(!of(Checks::Off).contains("check") && !of(Checks::Off).contains("track"));
        assert!(!checked.contains("redispatch"));
    }
}
