//! What `lifecycle-drill compare` has counted, read from the table that it wrote.
//!
//! Pure: its text in, sums out. Not here: the scenarios, and who is stopped how.

/// What each server made of it, ours first.
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
    /// Scenarios under load that failed.
    pub failed: usize,
    /// Scenarios of a client or a stream that it played.
    pub states: usize,
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
                && HELD.iter().any(|words| seen.contains(words))
            {
                let of = servers.iter_mut().find(|server| server.short() == name);
                if let Some(server) = of {
                    server.held += 1;
                }
            }
        }
        let about = text.lines().find(|line| line.contains("stops under each load"))?;
        Some(Self { about: about.trim_end_matches('.').to_owned(), servers })
    }

    /// Who has lost how many, and whether ours has lost none.
    #[must_use]
    pub fn lost(&self) -> (bool, String) {
        let is_reached = self.servers.first().is_some_and(|ours| ours.failed == 0);
        (is_reached, self.list(|server| server.lost.to_string()))
    }

    /// Who was held by how many, and whether ours was by none.
    #[must_use]
    pub fn held(&self) -> (bool, String) {
        let is_reached = self.servers.first().is_some_and(|ours| ours.held == 0);
        (is_reached, self.list(|server| format!("{} of {}", server.held, server.states)))
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
        if cell == "n/a" {
            return;
        }
        if is_client(scenario) {
            self.states += 1;
        }
        if scenario.starts_with("load-") && cell != "pass" {
            self.failed += 1;
            let lost = cell.split_once(": ").and_then(|(_, cell)| cell.split(' ').next());
            self.lost += lost.and_then(|lost| lost.parse().ok()).unwrap_or(0);
        }
    }
}

fn is_client(scenario: &str) -> bool {
    CLIENTS.iter().any(|theme| scenario.starts_with(theme))
}

const CLIENTS: [&str; 4] = ["http1-", "http2-", "streams-", "websocket-"];
/// What is seen of a server that did not end.
const HELD: [&str; 2] = ["still running after", "timed out"];

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Title\n\n2026-11-30, 2 cores; 5 stops under each load.\n\n\
        | scenario | lifecycle 0.1.0 | axum 0.8.9 | tonic 0.14 |\n|---|---|---|---|\n\
        | `signals-quit` | pass | **fail** | pass |\n\
        | `http1-half-head` | pass | **fail** | pass |\n\
        | `streams-sse` | pass | **fail** | n/a |\n\
        | `load-a` | pass | **fail**: 7 of 9 lost | pass |\n\
        | `load-b` | pass | **fail**: 5 of 9 lost | **fail** |\n\
        | pass, fail, n/a | 3, 0, 0 | 0, 3, 0 | 2, 1, 0 |\n\n## What was seen\n\n\
        `signals-quit`: why.\n\n- axum: still running after 8 s\n\n\
        `http1-half-head`: why.\n\n- axum: still running after 8 s\n\n\
        `streams-sse`: why.\n\n- axum: an event stream: truncated\n";

    #[test]
    fn what_was_lost_is_added_up_and_who_was_held_is_counted() {
        let compared = Compared::of(TEXT).expect("a table");
        assert_eq!(compared.about, "2026-11-30, 2 cores; 5 stops under each load");
        let lost = "lifecycle 0.1.0 0, axum 0.8.9 12, tonic 0.14 0";
        assert_eq!(compared.lost(), (true, lost.to_owned()));
        let held = "lifecycle 0.1.0 0 of 2, axum 0.8.9 1 of 2, tonic 0.14 0 of 1";
        assert_eq!(compared.held(), (true, held.to_owned()));
        assert_eq!(Compared::of("# Nothing here\n"), None);
    }

    #[test]
    fn ours_is_judged_by_its_own_column() {
        let failing = TEXT.replace("| `load-a` | pass |", "| `load-a` | **fail** |");
        assert!(!Compared::of(&failing).expect("a table").lost().0);
        let held = format!("{TEXT}- lifecycle: an event stream in the drain: timed out\n");
        assert!(!Compared::of(&held).expect("a table").held().0);
    }

    #[test]
    fn the_table_of_the_repository_can_be_read() {
        let text = include_str!("../../docs/compare.md");
        let compared = Compared::of(text).expect("a table");
        assert!(compared.servers.iter().all(|server| server.states > 10), "{compared:?}");
        assert_eq!(compared.servers[0].short(), "lifecycle");
    }
}
