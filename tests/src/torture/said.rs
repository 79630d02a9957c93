//! What a worker process says of its jobs when it leaves.

/// The job line of a report on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Said {
    /// Finished since the signal.
    pub finished: u64,
    /// Returned before they were started.
    pub returned_unstarted: u64,
    /// Returned half done.
    pub returned_started: u64,
    /// Left to their lease.
    pub left_to_lease: u64,
    /// Claimed perhaps.
    pub claims_uncertain: u64,
    /// Whether it says that a deadline has cut work.
    pub has_cut: bool,
}

impl Said {
    /// From all that was written to stderr; `None` without a job line.
    #[must_use]
    pub fn read(stderr: &str) -> Option<Self> {
        let line =
            stderr.lines().rev().find_map(|line| line.split_once("jobs of ")).map(|it| it.1)?;
        let has_cut = stderr.contains("cut at the end of");
        let mut said = Self { has_cut, ..Self::default() };
        for part in line.split_once(": ")?.1.split(", ") {
            let Some((count, what)) = part.split_once(' ') else { continue };
            let Ok(count) = count.parse() else { continue };
            match what {
                "finished" => said.finished = count,
                "returned unstarted" => said.returned_unstarted = count,
                "returned half done" => said.returned_started = count,
                "left to their lease" => said.left_to_lease = count,
                "claimed perhaps" => said.claims_uncertain = count,
                _ => {}
            }
        }
        Some(said)
    }

    /// Whether it says that something was not finished, nor given back untouched.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.returned_started > 0 || self.has_left_any()
    }

    /// Whether it says that somebody may have to wait for the end of a lease.
    #[must_use]
    pub fn has_left_any(&self) -> bool {
        self.left_to_lease + self.claims_uncertain > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_line_is_read() {
        let line = "shutdown: SIGTERM\n  +2.1 s    cut at the end of draining: 1 left\n  +2.3 s    \
                    jobs of torture: 3 finished, 1 returned unstarted, 2 returned half done, \
                    1 left to their lease, the last lease ends in 4.2 s\n";
        let said = Said::read(line).unwrap();
        assert_eq!((said.finished, said.returned_unstarted, said.returned_started), (3, 1, 2));
        assert_eq!((said.left_to_lease, said.claims_uncertain), (1, 0));
        assert!(said.has_cut && said.is_cut());
        assert_eq!(Said::read("error: no"), None);
        assert!(!Said::read("jobs of a: 1 finished").unwrap().is_cut());
    }
}
