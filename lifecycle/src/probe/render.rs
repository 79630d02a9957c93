//! The words of a probe's answer: `ok`, a list, or JSON.
//!
//! Pure: what is known in, a status and a text out. Reasons are withheld: these endpoints
//! are public, the log and `/statusz` have them.

use crate::health::Item;
use crate::probe::ask::{Form, List, Probe};

/// An answer, but for what every answer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// A whole probe.
pub(crate) fn probe(probe: Probe, items: &[Item], list: &List) -> Answer {
    let counts = |item: &&Item| !item.informational && !list.exclude.contains(&item.name);
    let passes = items.iter().filter(counts).all(|item| item.met);
    let status = if passes { 200 } else { 503 };
    if list.form == Form::Json {
        return json(status, items, list);
    }
    if passes && !list.verbose && unknown(items, list).next().is_none() {
        return Answer::text(status, "ok");
    }
    let mut body = String::new();
    for item in items {
        let name = &item.name;
        body.push_str(&match (list.exclude.contains(name), item.met, item.informational) {
            (true, ..) => format!("[+]{name} excluded: ok\n"),
            (_, true, _) => format!("[+]{name} ok\n"),
            (_, _, true) => format!("[!]{name} failed: informational, reason withheld\n"),
            _ => format!("[-]{name} failed: reason withheld\n"),
        });
    }
    for unknown in unknown(items, list) {
        body.push_str(&format!("warn: {unknown:?} cannot be excluded: there is no such check\n"));
    }
    let word = if passes { "passed" } else { "failed" };
    body.push_str(&format!("{} check {word}\n", probe.name()));
    Answer::text(status, body)
}

/// One check of a probe.
pub(crate) fn check(probe: Probe, items: &[Item], name: &str, list: &List) -> Answer {
    // Of two of one name the one that fails, as the whole probe has it.
    let of_name = items.iter().filter(|item| item.name == name);
    let Some(item) = of_name.min_by_key(|item| item.met) else {
        let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
        let known = if names.is_empty() { "it has none".to_owned() } else { names.join(", ") };
        let path = probe.name();
        return Answer::text(404, format!("no check {name:?} in /{path}: {known}\n"));
    };
    let status = if item.met { 200 } else { 503 };
    match list.form {
        Form::Json => json(status, std::slice::from_ref(item), list),
        _ if item.met => Answer::text(status, "ok"),
        _ => Answer::text(status, format!("[-]{name} failed: reason withheld\n")),
    }
}

/// As `application/health+json` has it (draft-inadarei-api-health-check).
fn json(status: u16, items: &[Item], list: &List) -> Answer {
    let word = |passes: bool| if passes { "pass" } else { "fail" };
    // A list each, as the draft has it: two of one name are both shown.
    let mut checks = serde_json::Map::new();
    for item in items {
        let warn = item.informational && !item.met;
        let mut one = serde_json::json!({ "status": if warn { "warn" } else { word(item.met) } });
        if list.exclude.contains(&item.name) {
            one["excluded"] = true.into();
        }
        let of_name = checks.entry(item.name.clone()).or_insert_with(|| serde_json::json!([]));
        if let Some(of_name) = of_name.as_array_mut() {
            of_name.push(one);
        }
    }
    let mut body = serde_json::json!({ "status": word(status == 200), "checks": checks });
    let unknown: Vec<_> = unknown(items, list).collect();
    if !unknown.is_empty() {
        let notes = unknown.iter().map(|name| format!("no check {name:?} to exclude"));
        body["notes"] = notes.collect::<Vec<_>>().into();
    }
    Answer { status, kind: "application/health+json", body: format!("{body}\n") }
}

fn unknown<'a>(items: &'a [Item], list: &'a List) -> impl Iterator<Item = &'a String> {
    list.exclude.iter().filter(|name| items.iter().all(|item| item.name != **name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Item> {
        let item = |name: &str, met, informational| Item { name: name.into(), met, informational };
        vec![item("shutdown", true, false), item("db", false, false), item("cache", false, true)]
    }

    fn list(verbose: bool, exclude: &[&str], form: Form) -> List {
        List { verbose, exclude: exclude.iter().map(|name| (*name).to_owned()).collect(), form }
    }

    #[test]
    fn a_probe_that_passes_says_ok_unless_asked_for_more() {
        let passing = [&items()[..1], &items()[2..]].concat();
        assert_eq!(probe(Probe::Ready, &passing, &List::default()), Answer::text(200, "ok"));
        let verbose = probe(Probe::Ready, &passing, &list(true, &[], Form::Text));
        assert_eq!(
            verbose,
            Answer::text(
                200,
                "[+]shutdown ok\n[!]cache failed: informational, reason withheld\n\
                 readyz check passed\n"
            )
        );
        assert_eq!(probe(Probe::Live, &[], &List::default()), Answer::text(200, "ok"));
    }

    #[test]
    fn a_probe_that_fails_lists_who_without_why() {
        let answer = probe(Probe::Ready, &items(), &List::default());
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("[-]db failed: reason withheld\n"));
        assert!(answer.body.ends_with("readyz check failed\n"));
    }

    #[test]
    fn what_is_excluded_does_not_count_and_what_is_unknown_is_said() {
        let answer = probe(Probe::Ready, &items(), &list(true, &["db", "dc"], Form::Text));
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("[+]db excluded: ok\n"));
        assert!(answer.body.contains("warn: \"dc\" cannot be excluded: there is no such check\n"));
    }

    #[test]
    fn one_check_is_asked_by_its_name() {
        let list = List::default();
        assert_eq!(check(Probe::Ready, &items(), "shutdown", &list), Answer::text(200, "ok"));
        assert_eq!(check(Probe::Ready, &items(), "db", &list).status, 503);
        let mut twice = items();
        twice.insert(0, Item { met: true, ..twice[1].clone() });
        assert_eq!(check(Probe::Ready, &twice, "db", &list).status, 503, "one of two of its name");
        let none = check(Probe::Ready, &items(), "dc", &list);
        assert_eq!(none, Answer::text(404, "no check \"dc\" in /readyz: shutdown, db, cache\n"));
    }

    #[test]
    fn json_has_the_fields_of_the_draft() {
        let answer = probe(Probe::Ready, &items(), &list(false, &["dc"], Form::Json));
        assert_eq!((answer.status, answer.kind), (503, "application/health+json"));
        let value: serde_json::Value = serde_json::from_str(&answer.body).expect("json");
        assert_eq!(value["status"], "fail");
        assert_eq!(value["checks"]["db"][0]["status"], "fail");
        assert_eq!(value["checks"]["cache"][0]["status"], "warn");
        assert_eq!(value["notes"][0], "no check \"dc\" to exclude");
        let [mut twice, one] = [items(), items()];
        twice.push(Item { met: true, ..one[1].clone() });
        let answer = probe(Probe::Ready, &twice, &list(false, &[], Form::Json));
        let value: serde_json::Value = serde_json::from_str(&answer.body).expect("json");
        assert_eq!(value["checks"]["db"][0]["status"], "fail", "of two of one name");
        assert_eq!(value["checks"]["db"][1]["status"], "pass");
    }
}
