//! haproxy's own counters, from `show stat`.

use super::config::HTTP2;

/// The sums over both frontends and both backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::rollout) struct Stats {
    /// Requests that came in.
    pub(in crate::rollout) requests: u64,
    /// Connections to replicas that could not be made.
    pub(in crate::rollout) connect_errors: u64,
    /// Those of them that were for requests by HTTP/2.
    pub(in crate::rollout) connect_errors_http2: u64,
    /// Requests that were handed to a replica and got no whole answer.
    pub(in crate::rollout) response_errors: u64,
    /// Requests that were tried again: none, by the configuration.
    pub(in crate::rollout) retries: u64,
    /// Requests for which a connection was made.
    pub(in crate::rollout) connects: u64,
    /// Requests that went over a connection that had been used before.
    pub(in crate::rollout) reuses: u64,
}

impl Stats {
    pub(super) fn parse(table: &str) -> Self {
        let mut lines = table.lines();
        let head = lines.next().unwrap_or_default().trim_start_matches("# ");
        let columns: Vec<_> = head.split(',').collect();
        let mut sum = Self::default();
        for line in lines {
            let cells: Vec<_> = line.split(',').collect();
            let cell = |name: &str| {
                let at = columns.iter().position(|column| *column == name)?;
                cells.get(at).copied()
            };
            let count = |name: &str| cell(name).and_then(|text| text.parse().ok()).unwrap_or(0);
            match cell("svname") {
                Some("FRONTEND") => sum.requests += count("req_tot"),
                Some("BACKEND") => {
                    sum.connect_errors += count("econ");
                    if cell("pxname") == Some(HTTP2) {
                        sum.connect_errors_http2 += count("econ");
                    }
                    sum.response_errors += count("eresp");
                    sum.retries += count("wretr") + count("wredis");
                    sum.connects += count("connect");
                    sum.reuses += count("reuse");
                }
                _ => {}
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_rows_of_frontends_and_backends_alone() {
        let table = "# pxname,svname,econ,eresp,wretr,wredis,req_tot,connect,reuse,\n\
                     h1,FRONTEND,,,,,90,,,\n\
                     to_h1,s1,5,1,0,0,,,,\n\
                     to_h1,BACKEND,5,1,0,0,,7,83,\n\
                     to_h2,BACKEND,2,0,0,0,,1,9,\n\n";
        let sum = Stats::parse(table);
        let whole = Stats {
            requests: 90,
            connect_errors: 7,
            connect_errors_http2: 2,
            response_errors: 1,
            retries: 0,
            connects: 8,
            reuses: 92,
        };
        assert_eq!(sum, whole);
        assert_eq!(Stats::parse(""), Stats::default());
    }
}
