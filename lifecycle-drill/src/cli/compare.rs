//! `lifecycle-drill compare`: the same scenarios against servers of other frameworks and against
//! ours, as a table.
//!
//! Not here: the servers, which are a workspace of their own (`drill-peers`), and how the table
//! is written ([`super::table`]).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Args;
use futures_util::{StreamExt as _, stream};
use lifecycle_drill::{
    BlockerReport, ExitCodes, Outcome, Protocol, ReadyWhen, Routes, Scenario, Signal, Subject,
    Theme, scenarios,
};

use super::{
    Ended,
    error::CliError,
    note, print,
    table::{Cell, Column, Table, is_half_marked, quoted},
    trial,
    values::theme,
    written::judged,
};

/// Which servers, by which scenarios, and where the table goes.
#[derive(Args, Debug)]
pub(crate) struct Compare {
    /// The workspace of the other servers, inside that of ours; it is built first
    #[arg(long, value_name = "DIR", default_value = "drill-peers")]
    peers: PathBuf,
    /// Our server, built already [default: builds the example `target`]
    #[arg(long, value_name = "PROGRAM")]
    ours: Option<PathBuf>,
    /// Writes the table into this file, or between its two marker lines if it has them; may be
    /// repeated; - is stdout
    #[arg(long, value_name = "FILE", default_value = "-")]
    markdown: Vec<PathBuf>,
    /// Only these servers; ours is `lifecycle`
    #[arg(long = "server", value_name = "NAME", value_delimiter = ',')]
    servers: Vec<String>,
    /// Only scenarios of this theme; may be repeated, or separated by commas
    #[arg(long = "theme", value_name = "THEME", value_delimiter = ',', value_parser = theme)]
    themes: Vec<Theme>,
    /// How many times each scenario of the load theme stops each server
    #[arg(long, value_name = "COUNT", default_value_t = 30)]
    stops: u32,
    /// How many scenarios are played at once; those of the load theme alone
    #[arg(long, value_name = "COUNT", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
}

/// A server that is compared: its program, and what it is.
struct Server {
    name: &'static str,
    version: String,
    subject: Subject,
}

/// What is known of another framework's server.
struct Peer {
    /// Of the program, and of the package.
    name: &'static str,
    /// The routes that it lacks, of all.
    lacks: &'static [&'static str],
    /// The code with which it ends when it has cut work.
    cut: i32,
}

impl Compare {
    /// Builds, plays and writes. What fails with the others is what the table is for; ours is not
    /// to fail.
    pub(crate) async fn run(self) -> Result<Ended, CliError> {
        let chosen: Vec<_> = scenarios()
            .iter()
            .filter(|one| self.themes.is_empty() || self.themes.contains(&one.theme()))
            .collect();
        let servers = self.servers().await?;
        let mut columns = Vec::new();
        for server in &servers {
            trial(&server.subject, Signal::Term, GRACE).await?;
            let cells = self.play(server, &chosen).await;
            columns.push(Column { name: server.name, version: server.version.clone(), cells });
        }
        let ours_failed = |column: &Column| {
            let failed = column.cells.iter().any(Cell::is_against);
            column.name == OURS && failed
        };
        let ended = if columns.iter().any(ours_failed) { Ended::Failed } else { Ended::Passed };
        let table = Table { scenarios: chosen, columns, about: self.about().await };
        let unwritten = self.markdown.iter().filter_map(|file| write(file, &table).err()).collect();
        judged(Ok(ended), unwritten)
    }

    /// Those that were chosen, ours first, all built.
    async fn servers(&self) -> Result<Vec<Server>, CliError> {
        let named = |name: &str| {
            self.servers.is_empty() || self.servers.iter().any(|chosen| chosen == name)
        };
        let known = |name: &&String| *name != OURS && PEERS.iter().all(|peer| peer.name != **name);
        if let Some(unknown) = self.servers.iter().find(known) {
            return Err(CliError::NoServer(unknown.clone()));
        }
        let mut servers = Vec::new();
        if named(OURS) {
            let program = match &self.ours {
                Some(program) => program.clone(),
                None => {
                    let root = self.peers.join("..");
                    build(&root, &["-p", "examples", "--bin", "target"]).await?;
                    root.join("target/release/target")
                }
            };
            let version = env!("CARGO_PKG_VERSION").to_owned();
            servers.push(Server { name: OURS, version, subject: self.ours(&program) });
        }
        let peers: Vec<_> = PEERS.iter().filter(|peer| named(peer.name)).collect();
        if peers.is_empty() {
            return Ok(servers);
        }
        build(&self.peers, &[]).await?;
        let lock = self.peers.join("Cargo.lock");
        let lock = fs::read_to_string(&lock)
            .map_err(|source| CliError::ReadConfig { file: lock, source })?;
        for peer in peers {
            let program = self.peers.join("target/release").join(peer.name);
            let version = version(&lock, peer.name).unwrap_or_default();
            servers.push(Server { name: peer.name, version, subject: self.peer(peer, &program) });
        }
        Ok(servers)
    }

    /// The example `target`: told its timing, with probes apart.
    fn ours(&self, program: &Path) -> Subject {
        let told = |time: Duration| humantime::format_duration(time).to_string();
        self.common(program)
            .probe_addr_env("LIFECYCLE_PROBE_ADDR")
            .env("LIFECYCLE_GRACE_PERIOD", told(GRACE))
            .env("LIFECYCLE_LAME_DUCK", told(LAME_DUCK))
            .single_thread_env("TARGET_RUNTIME", "current_thread")
            .lame_duck(LAME_DUCK)
            .startup_path("/startupz")
            .blocker_report(BlockerReport::Named)
            .exit_codes(ExitCodes::new())
            .routes(Routes::conventional())
    }

    /// As its documentation has it: no lame duck, and no bound of its own for idle connections,
    /// which may hold it as long as it is gone in time.
    fn peer(&self, peer: &Peer, program: &Path) -> Subject {
        let has = |route: &str| !peer.lacks.contains(&route);
        let mut routes = Routes::new()
            .work("/work?ms={ms}")
            .echo("/echo")
            .big("/big?bytes={bytes}")
            .events("/events")
            .block("/block?ms={ms}")
            .panic("/panic");
        if has("pool") {
            routes = routes.pool("/pool?ms={ms}");
        }
        if has("ws") {
            routes = routes.ws("/ws");
        }
        self.common(program)
            .lame_duck(Duration::ZERO)
            .blocker_report(BlockerReport::Unnamed)
            .exit_codes(ExitCodes::new().cut(peer.cut).cut_untold())
            .idle_drain_timeout(IDLE_OF_PEERS)
            .routes(routes)
    }

    fn common(&self, program: &Path) -> Subject {
        Subject::new(program)
            .port_env("PORT")
            .host_env("HOST")
            .ready_when(ReadyWhen::Http("/readyz".to_owned()))
            .protocol(Protocol::Http1AndH2c)
            .without_probes()
            .ready_path("/readyz")
            .live_path("/livez")
            .grace(GRACE)
            .stop_count(self.stops)
    }

    /// All scenarios against one server: several at once, but those under load alone.
    async fn play(&self, server: &Server, chosen: &[&'static Scenario]) -> Vec<Cell> {
        let one = async |scenario: &'static Scenario| {
            let verdict = scenario.run(&server.subject).await;
            let cell = Cell::of(&verdict);
            let outcome = match verdict.outcome() {
                Outcome::Pass => "pass".to_owned(),
                Outcome::Fail { seen } => format!("FAIL: {seen}"),
                Outcome::NotStarted { why } => format!("ERROR: {why}"),
                Outcome::Skipped { why } => format!("skip: {why}"),
                _ => "of an unknown outcome".to_owned(),
            };
            note(format_args!("{}: {}: {outcome}", server.name, scenario.name()));
            cell
        };
        let is_load = |scenario: &&Scenario| scenario.theme() == Theme::Load;
        let (loads, others): (Vec<_>, Vec<_>) = chosen.iter().copied().partition(is_load);
        let jobs = usize::from(self.jobs);
        let others = stream::iter(others).map(one).buffered(jobs).collect::<Vec<_>>().await;
        let loads = stream::iter(loads).then(one).collect::<Vec<_>>().await;
        let (mut loads, mut others) = (loads.into_iter(), others.into_iter());
        let next = |one: &&Scenario| if is_load(one) { loads.next() } else { others.next() };
        chosen.iter().filter_map(next).collect()
    }

    /// When and on what this was measured.
    async fn about(&self) -> String {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let day = now.split('T').next().unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let asked = tokio::process::Command::new("rustc").arg("--version").output().await;
        let rust = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let rust = rust.unwrap_or_default();
        let words: Vec<_> = rust.split_whitespace().take(2).collect();
        let ours = match &self.ours {
            Some(program) => format!(" (`lifecycle`: {})", program.display()),
            None => String::new(),
        };
        format!(
            "{day}, {cores} cores, Linux {}, {}, release builds{ours}; {} stops under each load",
            kernel.trim(),
            words.join(" "),
            self.stops
        )
    }
}

/// Builds what is in that folder, in release mode; cargo tells its progress itself.
async fn build(folder: &Path, what: &[&str]) -> Result<(), CliError> {
    let mut cargo = tokio::process::Command::new("cargo");
    cargo.args(["build", "--release", "--locked"]).args(what).current_dir(folder);
    // One of the caller's would take the programs elsewhere.
    cargo.env_remove("CARGO_TARGET_DIR").kill_on_drop(true);
    let built = cargo.status().await;
    let failed = |source| CliError::Build { folder: folder.to_owned(), source };
    match built {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(io::Error::other(format!("cargo: {status}")))),
        Err(error) => Err(failed(error)),
    }
}

/// The version that a lock file has of that package.
fn version(lock: &str, package: &str) -> Option<String> {
    let named = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != named).skip(1);
    let version = lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')?;
    Some(version.to_owned())
}

/// Into the whole file with its details, or between the marks that it has.
fn write(file: &Path, table: &Table) -> Result<(), CliError> {
    if file == Path::new("-") {
        return print(&table.to_string());
    }
    let text = match fs::read_to_string(file) {
        // Else a slip of the pen would cost the whole file.
        Ok(there) if is_half_marked(&there) => {
            return Err(CliError::HalfMarked { file: file.to_owned() });
        }
        Ok(there) => quoted(&there, &table.brief()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(CliError::ReadConfig { file: file.to_owned(), source }),
    };
    let text = text.unwrap_or_else(|| table.to_string());
    fs::write(file, text).map_err(|source| CliError::Write { file: file.to_owned(), source })
}

const OURS: &str = "lifecycle";
const PEERS: [Peer; 5] = [
    Peer { name: "axum", lacks: &[], cut: 0 },
    Peer { name: "axum-server", lacks: &[], cut: 0 },
    Peer { name: "actix-web", lacks: &["pool"], cut: 0 },
    // It panics then, or ends with 0 if closing the connections was enough.
    Peer { name: "rocket", lacks: &[], cut: 101 },
    // Its server knows no upgrades.
    Peer { name: "tonic", lacks: &["ws"], cut: 0 },
];
const GRACE: Duration = Duration::from_secs(6);
const LAME_DUCK: Duration = Duration::from_secs(1);
/// With the slack of 0.7 s and what some scenarios add to it within the grace.
const IDLE_OF_PEERS: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_that_of_the_package_and_of_no_other() {
        let lock = "[[package]]\nname = \"axum-core\"\nversion = \"0.5.6\"\n\n[[package]]\n\
                    name = \"axum\"\nversion = \"0.8.9\"\nsource = \"x\"\n";
        assert_eq!(version(lock, "axum").as_deref(), Some("0.8.9"));
        assert_eq!(version(lock, "rocket"), None);
    }
}
