//! What haproxy says: one line for each request that failed there, counted by how.

use std::collections::{BTreeMap, VecDeque};

use super::config::LOG_MARK;

/// All that it said so far.
#[derive(Clone, Debug, Default)]
pub(in crate::rollout) struct Seen {
    /// Failed requests by status and termination state, as `503 SC`.
    pub(in crate::rollout) failed: BTreeMap<String, u64>,
    /// The first of those lines.
    pub(in crate::rollout) first: Vec<String>,
    /// The last of everything else.
    rest: VecDeque<String>,
}

impl Seen {
    pub(super) fn push(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        let Some(request) = line.strip_prefix(LOG_MARK) else {
            if self.rest.len() == REST_KEPT {
                self.rest.pop_front();
            }
            self.rest.push_back(line);
            return;
        };
        let mut words = request.split(' ');
        let state = [words.next().unwrap_or_default(), words.next().unwrap_or_default()].join(" ");
        *self.failed.entry(state).or_default() += 1;
        if self.first.len() < FIRST_KEPT {
            self.first.push(request.to_owned());
        }
    }

    /// The last lines that are not about requests.
    pub(super) fn tail(&self) -> String {
        self.rest.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

const REST_KEPT: usize = 10;
const FIRST_KEPT: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_state_and_the_rest_is_kept_short() {
        let mut seen = Seen::default();
        for _ in 0..30 {
            seen.push(b"drill 503 SC to_h1/s1 conn=-1 resp=-1 GET /work\n");
            seen.push(b"[WARNING] Server to_h1/s1 is DOWN\n");
        }
        seen.push(b"drill 502 SH to_h2/s2 conn=0 resp=-1 POST /orders\n");
        assert_eq!(seen.failed["503 SC"], 30);
        assert_eq!(seen.failed["502 SH"], 1);
        assert_eq!((seen.first.len(), seen.rest.len()), (20, 10));
    }
}
