//! The page of `/statusz`: what an operator looks at while a stop takes long.
//!
//! Pure: the status as JSON in, HTML out.
//!
//! # Invariants
//! 1. Nothing is loaded from elsewhere.
//! 2. No text of a status is markup: names come from clients and code.

use serde_json::Value;

/// The whole page. It refreshes itself, and keeps what it last saw once the process is gone.
pub(super) fn page(status: &Value) -> String {
    let phase = text(&status["phase"]);
    let mut page = format!("{HEAD}<title>{phase}</title>\n{REST_OF_HEAD}<main>\n");
    page.push_str(&format!("<h1 id=phase class={phase}>{}</h1>\n<dl>\n", phase.replace('_', " ")));
    for (key, label, show) in FACTS {
        let value = &status[key];
        // Before the cause, what belongs to a shutdown is left out.
        if !value.is_null() {
            let id = key.trim_end_matches("_ms");
            page.push_str(&format!("<dt>{label}<dd id={id}{}\n", show.cell(value)));
        }
    }
    page.push_str("</dl>\n");
    for (key, label, columns) in TABLES {
        let rows = status[key].as_array().map(Vec::as_slice).unwrap_or_default();
        page.push_str(&format!("<h2>{label}</h2>\n<table id={key}>\n<tr>"));
        for Column(_, label, _) in columns {
            page.push_str(&format!("<th>{label}"));
        }
        for row in rows {
            page.push_str("\n<tr>");
            for Column(column, _, show) in columns {
                page.push_str(&format!("<td{}", show.cell(&row[*column])));
            }
        }
        if rows.is_empty() {
            page.push_str(&format!("\n<tr><td class=none colspan={}>none", columns.len()));
        }
        page.push_str("\n</table>\n");
    }
    let notes = status["notes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !notes.is_empty() {
        let items: String = notes.iter().map(|note| format!("<li>{}\n", text(note))).collect();
        page.push_str(&format!("<h2>Notes</h2>\n<ul id=notes>\n{items}</ul>\n"));
    }
    page.push_str("</main>\n");
    page
}

/// The key of its value, its head, and how the value is shown.
struct Column(&'static str, &'static str, Show);

/// How a value is shown.
#[derive(Clone, Copy, Debug)]
enum Show {
    /// How long ago.
    Ago,
    /// Text that may be long.
    Long,
    /// Yes or no, coloured.
    Truth,
    /// A check's state, coloured.
    State,
    Text,
    Time,
}

impl Show {
    /// The rest of an opened tag and the content of its cell.
    fn cell(self, value: &Value) -> String {
        match (self, value) {
            (Self::Truth, Value::Bool(true)) => " class=good>yes".to_owned(),
            (Self::Truth, Value::Bool(false)) => " class=bad>no".to_owned(),
            (Self::State, Value::String(state)) => match state.as_str() {
                "passing" => " class=good>passing".to_owned(),
                "failing" => " class=bad>failing".to_owned(),
                other => format!(">{}", escaped(other)),
            },
            (Self::Time, value) => format!(" class=time>{}", time(value)),
            (Self::Ago, Value::Null) => ">never".to_owned(),
            (Self::Ago, value) => format!(" class=time>{} ago", time(value)),
            (Self::Long, value) => format!(" class=long>{}", text(value)),
            (_, value) => format!(">{}", text(value)),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => escaped(text),
        Value::Null => String::new(),
        Value::Bool(truth) => if *truth { "yes" } else { "no" }.to_owned(),
        other => escaped(&other.to_string()),
    }
}

/// Milliseconds as people say them.
fn time(value: &Value) -> String {
    let Some(ms) = value.as_u64() else { return text(value) };
    let (secs, minutes, hours, days) = (ms / 1_000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match () {
        () if secs == 0 => format!("{ms} ms"),
        () if secs < 10 => format!("{secs}.{} s", ms % 1_000 / 100),
        () if minutes == 0 => format!("{secs} s"),
        () if hours == 0 => format!("{minutes} min {} s", secs % 60),
        () if days == 0 => format!("{hours} h {} min", minutes % 60),
        () => format!("{days} d {} h", hours % 24),
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// What the page may do, told to the browser: its own style and script, its own address.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'";

const HEAD: &str = "<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">
<meta name=color-scheme content=\"light dark\"><link rel=icon href=\"data:,\">
";

/// The script asks again every second and takes the new `main`. When the process is gone it
/// keeps the old one, which a reload would lose: just then people want to know what held it.
const REST_OF_HEAD: &str = "<noscript><meta http-equiv=refresh content=1></noscript>
<style>
:root{--ink:#222;--dim:#666;--line:#ccc;--good:#176f43;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--dim:#999;--line:#444;--good:#5cc98d;--bad:#ff8a80}
body{background:#181818}}
body{font:15px/1.5 system-ui,sans-serif;margin:1.5em auto;padding:0 1em;max-width:60em;color:var(--ink)}
h1{display:inline-block;margin:0 0 .6em;padding:.1em .5em;border-radius:.2em;font-size:1.6em;
background:#176f43;color:#fff}
h1.starting{background:#666}h1.lame_duck,h1.draining{background:#9a5b00}
h1.cancelling,h1.closing,h1.stopped{background:#b3261e}
h2{font-size:1.1em;margin:1.5em 0 .3em}
dl{display:grid;grid-template-columns:max-content auto;gap:.1em 1.5em;margin:0}dt{color:var(--dim)}dd{margin:0}
table{border-collapse:collapse;width:100%}ul{margin:0;padding-left:1.2em}
td,th{text-align:left;vertical-align:top;padding:.25em 1em .25em 0;border-bottom:1px solid var(--line);
overflow-wrap:break-word}
th,.time{white-space:nowrap}th{color:var(--dim);font-weight:normal}
.long{overflow-wrap:anywhere;min-width:9em}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}.none{color:var(--dim)}
#gone{padding:.5em 1em;background:#b3261e;color:#fff;border-radius:.2em}
</style>
<p id=gone hidden></p>
<script>
(async () => {
  let seen = Date.now()
  for (;;) {
    await new Promise(done => setTimeout(done, 1000))
    const gone = document.getElementById('gone')
    try {
      const signal = AbortSignal.timeout(3000), headers = {accept: 'text/html'}
      const answer = await fetch(location.href, {headers, signal, cache: 'no-store'})
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
      document.querySelector('main').replaceWith(page.querySelector('main'))
      document.title = page.title
      seen = Date.now()
      gone.hidden = true
    } catch {
      const ago = Math.round((Date.now() - seen) / 1000)
      gone.textContent = `no answer for ${ago} s: below is what was last known`
      gone.hidden = false
    }
  }
})()
</script>
";

const FACTS: [(&str, &str, Show); 8] = [
    ("ready", "Ready", Show::Truth),
    ("live", "Live", Show::Truth),
    ("started", "Started", Show::Truth),
    ("uptime_ms", "Up for", Show::Time),
    ("cause", "Cause of the shutdown", Show::Text),
    ("phase_left_ms", "Left of this phase", Show::Time),
    ("exit_left_ms", "Left until the exit", Show::Time),
    ("in_flight", "In flight", Show::Text),
];

const TABLES: [(&str, &str, &[Column]); 2] = [
    (
        "blockers",
        "Waited for",
        &[
            Column("age_ms", "Age", Show::Time),
            Column("kind", "Kind", Show::Text),
            Column("name", "Name", Show::Long),
            Column("stage", "Stage", Show::Text),
        ],
    ),
    (
        "checks",
        "Checks",
        &[
            Column("name", "Name", Show::Text),
            Column("kind", "Kind", Show::Text),
            Column("state", "State", Show::State),
            Column("since_ms", "For", Show::Time),
            Column("last_run_ms", "Last run", Show::Ago),
            Column("latency_ms", "Took", Show::Time),
            Column("informational", "Informational", Show::Text),
            Column("error", "Error", Show::Long),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_client_has_named_cannot_write_the_page() {
        let nasty = "GET /<script>&\"'";
        let status = json!({
            "phase": "draining",
            "cause": nasty,
            "blockers": [{ "kind": "request", "name": nasty, "age_ms": 5 }],
            "checks": [{ "name": nasty, "kind": nasty, "state": nasty, "error": nasty }],
            "notes": [nasty],
        });
        let page = page(&status);
        let shown = "GET /&lt;script&gt;&amp;&quot;&#39;";
        assert_eq!(page.matches(shown).count(), 7, "{page}");
        assert_eq!(page.matches("<script").count(), 1, "our own: {page}");
        assert!(page.contains("<h1 id=phase class=draining>draining</h1>"));
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let page = page(&json!({ "phase": "running" }));
        for word in ["http:", "https:", "//", "src=", "@import", "url("] {
            assert!(!page.contains(word), "{word} in {page}");
        }
        assert!(page.contains("<table id=checks>") && page.contains("none"));
        assert!(!page.contains("id=cause"), "before the cause there is none");
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        for (ms, said) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (9_950, "9.9 s"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h 0 min"),
            (200_000_000, "2 d 7 h"),
        ] {
            assert_eq!(time(&json!(ms)), said);
        }
    }
}
