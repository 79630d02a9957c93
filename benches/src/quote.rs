//! What `lifecycle-drill compare` has counted, read from the table that it wrote.
//!
//! Pure: its text in, sums out. Not here: the scenarios, and who is stopped how.
//!
//! # Invariants
//! 1. What is missing is not a success: of a table that lacks ours, or most of what ours is judged
//!    by, nothing is said.

/// What each server made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Compared {
    /// When and on what.
    pub about: String,
    /// In the order of the columns.
    pub servers: Vec<Server>,
}

/// One column, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Server {
    /// Name and version.
    pub name: String,
    /// Requests lost in the scenarios under load.
    pub lost: u64,
    /// Scenarios under load that it played.
    pub loads: usize,
    /// Those of them that failed.
    pub failed: usize,
    /// Scenarios of a client or a stream that it played.
    pub states: usize,
    /// Those of them that failed and of which nothing is said to have been seen yet.
    pub unexplained: Vec<String>,
    /// Those of them that held it until it was given up.
    pub held: usize,
}

impl Compared {
    /// Reads `docs/compare.md`; `None` if there is no such table in it.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let head = text.lines().find_map(|line| line.strip_prefix("| scenario | "))?;
        let names = head.trim_end_matches(" |").split(" | ");
        let mut servers: Vec<_> =
            names.map(|name| Server { name: name.to_owned(), ..Server::default() }).collect();
        let (table, seen) = text.split_once("## What was seen").unwrap_or((text, ""));
        for line in table.lines() {
            let Some((scenario, cells)) =
                line.strip_prefix("| `").and_then(|row| row.split_once("` | "))
            else {
                continue;
            };
            let cells = cells.trim_end_matches(" |").split(" | ");
            servers.iter_mut().zip(cells).for_each(|(server, cell)| server.note(scenario, cell));
        }
        let mut scenario = "";
        for line in seen.lines() {
            if let Some((name, _)) = line.strip_prefix('`').and_then(|line| line.split_once('`')) {
                scenario = name;
            } else if is_client(scenario)
                && let Some((name, seen)) =
                    line.strip_prefix("- ").and_then(|line| line.split_once(": "))
                && let Some(server) = servers.iter_mut().find(|server| server.short() == name)
            {
                server.unexplained.retain(|failed| failed != scenario);
                server.held += usize::from(HELD.iter().any(|words| seen.contains(words)));
            }
        }
        let about = text.lines().find(|line| line.contains("stops under each load"))?;
        Some(Self { about: about.trim_end_matches('.').to_owned(), servers })
    }

    /// Who has lost how many, and whether ours has lost none; `None` if ours has not played enough
    /// to tell.
    #[must_use]
    pub fn lost(&self) -> Option<(bool, String)> {
        let ours = self.ours().filter(|ours| ours.loads >= LOADS_LEAST)?;
        Some((ours.failed == 0, self.list(|server| server.lost.to_string())))
    }

    /// Who was held by how many, and whether ours was by none; `None` if ours has not played
    /// enough to tell, or has failed and it is not said how.
    #[must_use]
    pub fn held(&self) -> Option<(bool, String)> {
        let is_told = |ours: &&Server| ours.states >= STATES_LEAST && ours.unexplained.is_empty();
        let ours = self.ours().filter(is_told)?;
        let held = self.list(|server| format!("{} of {}", server.held, server.states));
        Some((ours.held == 0, held))
    }

    fn ours(&self) -> Option<&Server> {
        self.servers.iter().find(|server| server.short() == OURS)
    }

    fn list(&self, of: impl Fn(&Server) -> String) -> String {
        let one = |server: &Server| format!("{} {}", server.name, of(server));
        self.servers.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

impl Server {
    fn short(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }

    fn note(&mut self, scenario: &str, cell: &str) {
        let has_failed = cell.starts_with("**fail**");
        // Not played, or not known to have been.
        if !has_failed && cell != "pass" {
            return;
        }
        if is_client(scenario) {
            self.states += 1;
            self.unexplained.extend(has_failed.then(|| scenario.to_owned()));
        }
        if scenario.starts_with("load-") {
            self.loads += 1;
            self.failed += usize::from(has_failed);
            let lost = cell.split_once(": ").and_then(|(_, cell)| cell.split(' ').next());
            self.lost += lost.and_then(|lost| lost.parse().ok()).unwrap_or(0);
        }
    }
}

fn is_client(scenario: &str) -> bool {
    CLIENTS.iter().any(|theme| scenario.starts_with(theme))
}

const OURS: &str = "lifecycle";
/// What ours has to have played before it has lost nothing, and was not held.
const LOADS_LEAST: usize = 3;
const STATES_LEAST: usize = 10;
const CLIENTS: [&str; 4] = ["http1-", "http2-", "streams-", "websocket-"];
/// What is seen of a server that did not end.
const HELD: [&str; 2] = ["still running after", "timed out"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Ours passes all; of the others one was held by a client, and one has lost.
    fn text(states: usize, loads: usize) -> String {
        let mut text = "# Title\n\n2026-11-30, 2 cores; 5 stops under each load.\n\n\
            | scenario | axum 0.8.9 | lifecycle 0.1.0 | tonic 0.14 |\n|---|---|---|---|\n\
            | `signals-quit` | **fail** | **fail** | pass |\n"
            .to_owned();
        for state in 0..states {
            text.push_str(&format!("| `http1-{state}` | **fail** | pass | n/a |\n"));
        }
        for load in 0..loads {
            text.push_str(&format!("| `load-{load}` | **fail**: 7 of 9 lost | pass | pass |\n"));
        }
        text.push_str("| pass, fail, n/a | 0, 9, 0 | 9, 0, 0 | 9, 0, 0 |\n\n## What was seen\n\n");
        text.push_str("`signals-quit`: why.\n\n- axum: still running after 8 s\n\n");
        for state in 0..states {
            let seen = if state == 0 { "still running after 8 s" } else { "truncated" };
            text.push_str(&format!("`http1-{state}`: why.\n\n- axum: {seen}\n\n"));
        }
        text
    }

    fn of(text: &str) -> Compared {
        Compared::of(text).expect("a table")
    }

    #[test]
    fn what_was_lost_is_added_up_and_who_was_held_is_counted() {
        let compared = of(&text(10, 3));
        assert_eq!(compared.about, "2026-11-30, 2 cores; 5 stops under each load");
        let lost = "axum 0.8.9 21, lifecycle 0.1.0 0, tonic 0.14 0";
        assert_eq!(compared.lost(), Some((true, lost.to_owned())));
        let held = "axum 0.8.9 1 of 10, lifecycle 0.1.0 0 of 10, tonic 0.14 0 of 0";
        assert_eq!(compared.held(), Some((true, held.to_owned())));
        assert_eq!(Compared::of("# Nothing here\n"), None);
    }

    #[test]
    fn ours_is_judged_by_its_own_column() {
        let failing = text(10, 3).replace(
            "| `load-1` | **fail**: 7 of 9 lost | pass |",
            "| `load-1` | pass | **fail** |",
        );
        assert_eq!(of(&failing).lost().map(|(is_reached, _)| is_reached), Some(false));
        let held = format!("{}- lifecycle: an event stream in the drain: timed out\n", text(10, 3));
        assert_eq!(of(&held).held().map(|(is_reached, _)| is_reached), Some(false));
    }

    #[test]
    fn what_is_missing_is_no_success() {
        assert_eq!((of(&text(9, 3)).held(), of(&text(10, 2)).lost()), (None, None));
        let renamed = text(10, 3).replace("lifecycle", "target").replace("`load-", "`under-load-");
        assert_eq!((of(&renamed).held(), of(&renamed).lost()), (None, None));
        let unknown = text(10, 3).replace("| pass | pass |", "| skipped | pass |");
        assert_eq!(of(&unknown).lost(), None);
        let silent = text(10, 3)
            .replace("| `http1-3` | **fail** | pass |", "| `http1-3` | pass | **fail** |");
        assert_eq!(of(&silent).held(), None, "it is not said how ours has failed");
    }

    #[test]
    fn the_table_of_the_repository_can_be_read() {
        let compared = of(include_str!("../../docs/compare.md"));
        assert!(compared.lost().is_some() && compared.held().is_some(), "{compared:?}");
    }
}
