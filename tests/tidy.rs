//! House rules that no lint knows, as a test: CONTRIBUTING.md says why.
//!
//! Line by line and without a parser: a rule that would need one is left to review.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// One file: where it is from the workspace root, and its lines.
struct Source<'a> {
    path: &'a str,
    lines: Vec<&'a str>,
}

/// The line numbers that break a rule.
type Rule = fn(&Source<'_>) -> Vec<usize>;

#[test]
fn the_house_rules_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let paths = rust_files(&root);
    assert!(paths.iter().any(|path| path == "lifecycle/src/gate.rs"), "found {paths:?}");
    let mut broken = Vec::new();
    for path in &paths {
        // A file may be listed and not yet committed as deleted.
        let Ok(text) = fs::read_to_string(root.join(path)) else { continue };
        let source = Source::new(path, &text);
        for (name, rule) in RULES {
            broken.extend(rule(&source).into_iter().map(|line| format!("{path}:{line}: {name}")));
        }
    }
    assert!(broken.is_empty(), "{} broken rules:\n{}", broken.len(), broken.join("\n"));
}

/// A test says by `/// Cancels: Type::name` what it drops after any number of polls.
#[test]
fn every_public_future_has_a_test_that_drops_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut futures, mut dropped) = (Vec::new(), Vec::new());
    for path in rust_files(&root) {
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        let source = Source::new(&path, &text);
        futures.extend(public_futures(&source).into_iter().map(|name| (path.clone(), name)));
        dropped.extend(said_to_be_dropped(&source));
    }
    assert!(futures.iter().any(|(_, name)| name == "drained"), "found {futures:?}");
    futures.retain(|(_, name)| !dropped.contains(name));
    assert!(futures.is_empty(), "no `/// Cancels: ` in any `tests` folder for {futures:?}");
}

/// The names of public async functions, and of public types that are futures. The drill's are
/// left out: what is dropped there kills its process, as `tests/processes.rs` shows.
fn public_futures(source: &Source<'_>) -> Vec<String> {
    let name = |text: &str| {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    if !source.is_library() || source.path.starts_with("lifecycle-drill/") {
        return Vec::new();
    }
    let code = source.lines[..source.tests_from()].iter().map(|line| line.trim_start());
    let is_public = |name: &String| {
        let made = format!("pub struct {name}");
        code.clone().any(|line| line.starts_with(&made))
    };
    let functions = code.clone().filter_map(|line| line.strip_prefix("pub async fn "));
    let types = code.clone().filter(|line| line.starts_with("impl"));
    let types = types.filter_map(|line| line.split(" Future for ").nth(1));
    functions.map(name).chain(types.map(name).filter(is_public)).collect()
}

fn said_to_be_dropped(source: &Source<'_>) -> Vec<String> {
    if !source.is_test_file() {
        return Vec::new();
    }
    let said = source.lines.iter().filter_map(|line| line.strip_prefix("/// Cancels: "));
    let names = said.flat_map(|names| names.split(", "));
    names.map(|name| name.rsplit("::").next().unwrap_or(name).to_owned()).collect()
}

impl<'a> Source<'a> {
    fn new(path: &'a str, text: &'a str) -> Self {
        Self { path, lines: text.lines().collect() }
    }

    fn is_library(&self) -> bool {
        LIBRARIES.iter().any(|name| self.path.starts_with(&format!("{name}/src/")))
    }

    fn is_test_file(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "benches")
    }

    /// Where the unit tests begin: at the first module that is compiled for tests alone.
    fn tests_from(&self) -> usize {
        let is_test_module = |at: &usize| {
            let marks = ["#[cfg(test)]", "#[cfg(all(test"];
            let mut rest = self.lines[*at..].iter().skip_while(|line| line.starts_with("#["));
            marks.iter().any(|mark| self.lines[*at].starts_with(mark))
                && rest.next().is_some_and(|line| line.starts_with("mod "))
        };
        (0..self.lines.len()).find(is_test_module).unwrap_or(self.lines.len())
    }

    /// The lines of this part of the file that are no comments and hold what is looked for.
    fn find(&self, tests: Part, looked_for: impl Fn(&str) -> bool) -> Vec<usize> {
        let split = if self.is_test_file() { 0 } else { self.tests_from() };
        let lines = self.lines.iter().enumerate();
        let hits = lines.filter(|(at, line)| {
            let wanted = match tests {
                Part::Code => *at < split,
                Part::Tests => *at >= split,
                Part::All => true,
            };
            wanted && !is_comment(line) && looked_for(line)
        });
        // This file must name what it forbids.
        if self.path == "tests/tidy.rs" { Vec::new() } else { hits.map(|(at, _)| at + 1).collect() }
    }

    fn find_in_library(&self, looked_for: impl Fn(&str) -> bool) -> Vec<usize> {
        if self.is_library() { self.find(Part::Code, looked_for) } else { Vec::new() }
    }
}

#[derive(Clone, Copy)]
enum Part {
    Code,
    Tests,
    All,
}

fn opens_with_its_purpose(source: &Source<'_>) -> Vec<usize> {
    let opens = source.lines.first().is_some_and(|line| line.starts_with("//! "));
    if opens { Vec::new() } else { vec![1] }
}

fn is_short(source: &Source<'_>) -> Vec<usize> {
    let (length, most) = if source.is_test_file() {
        (source.lines.len(), LINES_OF_TESTS_MOST)
    } else {
        (source.tests_from(), LINES_MOST)
    };
    if length > most { vec![most + 1] } else { Vec::new() }
}

fn says_what_a_dropped_future_loses(source: &Source<'_>) -> Vec<usize> {
    let mut found = source.find_in_library(|line| line.trim_start().starts_with("pub async fn"));
    found.retain(|line| {
        let above = source.lines[..line - 1].iter().rev();
        let mut head = above.take_while(|line| {
            let line = line.trim();
            !line.is_empty() && line != "}" && !line.ends_with('{')
        });
        !head.any(|line| line.trim() == "/// # Cancel safety")
    });
    found
}

fn gives_a_reason_for_each_ordering(source: &Source<'_>) -> Vec<usize> {
    let names_one = |line: &str| ORDERINGS.iter().any(|name| line.contains(name));
    let mut found = source.find_in_library(names_one);
    found.retain(|line| {
        let above = &source.lines[line.saturating_sub(1 + REASON_WITHIN)..line - 1];
        !above.iter().any(|line| line.trim_start().starts_with("// Ordering: "))
    });
    found
}

fn names_atomics_in_sync_rs_alone(source: &Source<'_>) -> Vec<usize> {
    if source.path.ends_with("/src/sync.rs") {
        return Vec::new();
    }
    source.find_in_library(|line| line.contains("sync::atomic") || line.contains("loom::"))
}

/// A real socket gives no event for "nothing came": such a sleep says so right above.
fn does_not_sleep_in_tests(source: &Source<'_>) -> Vec<usize> {
    let unit = source.is_library() || source.path.starts_with("lifecycle/tests/");
    let paused = source.lines.iter().any(|line| line.contains("start_paused = true"));
    if paused || !(unit || source.path.starts_with("tests/cross/")) {
        return Vec::new();
    }
    let mut found = source.find(Part::Tests, |line| line.contains("sleep("));
    found.retain(|line| {
        let above = source.lines[..line - 1].iter().rev().take_while(|line| is_comment(line));
        !above.into_iter().any(|line| line.trim_start().starts_with("// Sleeps: "))
    });
    found
}

fn leaves_nothing_unfinished(source: &Source<'_>) -> Vec<usize> {
    source.find(Part::All, |line| UNFINISHED.iter().any(|word| line.contains(word)))
}

fn has_typed_errors(source: &Source<'_>) -> Vec<usize> {
    source.find_in_library(|line| {
        line.match_indices("Result<")
            .any(|(at, start)| fails_with_string(&line[at + start.len()..]))
    })
}

fn bounds_its_channels(source: &Source<'_>) -> Vec<usize> {
    source.find_in_library(|line| {
        let unbounded = ["unbounded_channel", "mpsc::unbounded", "Unbounded"];
        let std_call = line.contains("mpsc::channel") && line.contains("()");
        std_call || unbounded.iter().any(|name| line.contains(name))
    })
}

fn does_not_unwrap(source: &Source<'_>) -> Vec<usize> {
    source.find_in_library(|line| line.contains(".unwrap()"))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Whether the rest of a `Result<` ends in `, String>` at its own depth.
fn fails_with_string(rest: &str) -> bool {
    let (mut depth, mut comma) = (0, None);
    for (at, letter) in rest.char_indices() {
        match letter {
            '<' | '(' | '[' => depth += 1,
            ',' if depth == 0 => comma = Some(at + 1),
            '>' if depth == 0 => {
                return comma.is_some_and(|comma| rest[comma..at].trim() == "String");
            }
            '>' | ')' | ']' => depth -= 1,
            _ => {}
        }
    }
    false
}

/// All that git knows or would add; without git, all outside hidden and target folders.
fn rust_files(root: &Path) -> Vec<String> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"];
    let listed = Command::new("git").args(arguments).current_dir(root).output();
    if let Ok(output) = listed
        && output.status.success()
    {
        return String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    }
    let mut found = Vec::new();
    walk(root, &mut found).expect("the workspace can be read");
    let relative = found.iter().filter_map(|path| path.strip_prefix(root).ok());
    relative.map(|path| path.to_string_lossy().into_owned()).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            walk(&path, found)?;
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    Ok(())
}

const RULES: &[(&str, Rule)] = &[
    ("a file opens with `//!` and what it is", opens_with_its_purpose),
    ("400 lines at most before the tests, 600 in a test file", is_short),
    ("a public async fn has a section `# Cancel safety`", says_what_a_dropped_future_loses),
    ("a comment `// Ordering: ` within 8 lines above", gives_a_reason_for_each_ordering),
    ("atomics are named in the crate's `sync.rs` alone", names_atomics_in_sync_rs_alone),
    (
        "no sleep in unit and cross tests without `// Sleeps: ` and why above",
        does_not_sleep_in_tests,
    ),
    ("nothing unfinished, ignored or left from debugging", leaves_nothing_unfinished),
    ("errors are types, not strings", has_typed_errors),
    ("every channel has a bound", bounds_its_channels),
    ("no unwrap in library code", does_not_unwrap),
];
const LIBRARIES: [&str; 4] =
    ["lifecycle", "lifecycle-tower", "lifecycle-worker", "lifecycle-drill"];
const ORDERINGS: [&str; 5] = [
    "Ordering::Relaxed",
    "Ordering::Acquire",
    "Ordering::Release",
    "Ordering::AcqRel",
    "Ordering::SeqCst",
];
const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
const LINES_MOST: usize = 400;
const LINES_OF_TESTS_MOST: usize = 600;
const REASON_WITHIN: usize = 8;

/// That no rule is vacuous: what each finds, and what it lets pass.
mod the_rules_themselves {
    use super::*;

    fn check(rule: Rule, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::new(path, text))
    }

    fn library(rule: Rule, text: &str) -> Vec<usize> {
        check(rule, "lifecycle/src/x.rs", text)
    }

    #[test]
    fn a_file_says_what_it_is() {
        assert_eq!(library(opens_with_its_purpose, "use std::fmt;"), [1]);
        assert_eq!(library(opens_with_its_purpose, ""), [1]);
        assert!(library(opens_with_its_purpose, "//! The gate.").is_empty());
    }

    #[test]
    fn length_is_counted_before_the_tests_and_whole_in_test_files() {
        let long = "x\n".repeat(401);
        assert_eq!(library(is_short, &long), [401]);
        let tested = format!("{}#[cfg(all(test, x))]\nmod t {{\n{long}", "x\n".repeat(400));
        assert!(library(is_short, &tested).is_empty());
        assert!(check(is_short, "tests/cross/x.rs", &long).is_empty());
        assert_eq!(check(is_short, "lifecycle/tests/x.rs", &"x\n".repeat(601)), [601]);
    }

    #[test]
    fn a_cancel_note_stands_above_its_own_fn() {
        let note = "/// Waits.\n///\n/// # Cancel safety\n/// Safe.\n#[must_use]\n";
        let rule = says_what_a_dropped_future_loses;
        assert!(library(rule, &format!("{note}pub async fn a() {{}}")).is_empty());
        assert_eq!(library(rule, &format!("{note}pub async fn a() {{\n}}\npub async fn b()")), [8]);
        assert_eq!(library(rule, "impl X {\n    pub async fn a() {}"), [2]);
        assert!(check(rule, "examples/src/lib.rs", "pub async fn a()").is_empty());
    }

    #[test]
    fn a_future_is_an_async_fn_or_a_public_type() {
        let find = |path, text| public_futures(&Source::new(path, text));
        let text = "    pub async fn a(&self) {\npub struct B<F> {\nimpl<F> Future for B<F>\n\
                    struct C;\nimpl Future for C {\nasync fn d() {";
        assert_eq!(find("lifecycle/src/x.rs", text), ["a", "B"]);
        assert!(find("lifecycle-drill/src/x.rs", text).is_empty());
        let told = "/// Cancels: Lifecycle::run, Reached\n#[tokio::test]";
        assert_eq!(said_to_be_dropped(&Source::new("tests/x.rs", told)), ["run", "Reached"]);
        assert!(said_to_be_dropped(&Source::new("lifecycle/src/x.rs", told)).is_empty());
    }

    #[test]
    fn an_ordering_has_its_reason_near() {
        let rule = gives_a_reason_for_each_ordering;
        let used = "a.load(Ordering::Acquire)";
        assert_eq!(library(rule, used), [1]);
        assert_eq!(library(rule, &format!("// See Ordering::Acquire.\n{used}")), [2]);
        assert!(library(rule, &format!("// Ordering: Acquire, for x.\n{used}")).is_empty());
        let far = format!("// Ordering: Acquire, for x.\n{}{used}", "x\n".repeat(8));
        assert_eq!(library(rule, &far), [10]);
        assert!(library(rule, "std::cmp::Ordering::Less").is_empty());
        assert!(library(rule, &format!("#[cfg(test)]\nmod t {{\n{used}")).is_empty());
        assert_eq!(library(rule, &format!("#[cfg(test)]\nuse x;\n{used}")), [3], "not the tests");
    }

    #[test]
    fn atomics_come_from_sync_rs() {
        let rule = names_atomics_in_sync_rs_alone;
        assert_eq!(library(rule, "use std::sync::atomic::AtomicU8;"), [1]);
        assert_eq!(library(rule, "use loom::sync::Arc;"), [1]);
        assert!(library(rule, "use crate::sync::AtomicU8;").is_empty());
        assert!(
            library(rule, "#[cfg(all(test, lifecycle_loom))]\nmod t {\nuse loom::thread;")
                .is_empty()
        );
        assert!(check(rule, "lifecycle/src/sync.rs", "use loom::sync::atomic;").is_empty());
    }

    #[test]
    fn sleep_is_for_paused_time_and_real_processes() {
        let rule = does_not_sleep_in_tests;
        let slept = "#[cfg(test)]\nmod t {\nsleep(LONG).await;";
        assert_eq!(library(rule, slept), [3]);
        assert_eq!(check(rule, "tests/cross/h1.rs", "thread::sleep(LONG);"), [1]);
        let why = "// Sleeps: a silent peer gives no event,\n// ever.\nsleep(LONG).await;";
        assert!(check(rule, "tests/cross/h1.rs", why).is_empty());
        assert_eq!(check(rule, "tests/cross/h1.rs", &format!("{why}\nsleep(LONG)")), [4]);
        assert!(library(rule, "sleep(LONG).await;").is_empty());
        assert!(library(rule, &format!("{slept}\n#[tokio::test(start_paused = true)]")).is_empty());
        assert!(check(rule, "tests/e2e/stop.rs", "thread::sleep(LONG);").is_empty());
    }

    #[test]
    fn unfinished_work_shows_everywhere() {
        for word in ["todo!()", "unimplemented!()", "dbg!(x)", "#[ignore = \"slow\"]"] {
            assert_eq!(check(leaves_nothing_unfinished, "examples/src/lib.rs", word), [1]);
        }
        assert!(library(leaves_nothing_unfinished, "// no todo! here").is_empty());
    }

    #[test]
    fn a_string_is_no_error() {
        assert_eq!(library(has_typed_errors, "fn a() -> Result<(), String> {"), [1]);
        assert_eq!(library(has_typed_errors, "x: Vec<Result<Map<u8, u8>, String>>"), [1]);
        assert!(library(has_typed_errors, "-> Result<Map<u8, String>, Error>").is_empty());
        assert!(library(has_typed_errors, "-> io::Result<String>").is_empty());
    }

    #[test]
    fn channels_have_bounds() {
        for made in ["unbounded_channel()", "mpsc::channel()", "std_mpsc::channel::<u8>()"] {
            assert_eq!(library(bounds_its_channels, made), [1], "{made}");
        }
        assert!(library(bounds_its_channels, "mpsc::channel(8)").is_empty());
        assert!(library(bounds_its_channels, "mpsc::sync_channel(1)").is_empty());
    }

    #[test]
    fn unwrap_is_for_tests() {
        assert_eq!(library(does_not_unwrap, "x.unwrap();"), [1]);
        assert!(
            library(does_not_unwrap, "/// x.unwrap();\n#[cfg(test)]\nmod t {\nx.unwrap();")
                .is_empty()
        );
        assert!(library(does_not_unwrap, "x.unwrap_or_default();").is_empty());
    }
}
