//! The report as one self-contained page: nothing is loaded, nothing is run.

use std::fmt::Write as _;

use super::{
    report::{Latency, RolloutReport, Side},
    settings::Checks,
    svg::{escape, picture},
};

impl RolloutReport {
    /// A page with the counts, and a picture of each side over time.
    #[must_use]
    pub fn html(&self) -> String {
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <title>lifecycle-drill rollout</title><style>{STYLE}</style></head><body>\
             <h1>Rolling update behind haproxy</h1><p>{}</p>\n",
            escape(&self.course())
        );
        page.push_str(&self.table());
        for side in &self.sides {
            let (name, words) = (escape(&side.name), escape(&side.to_string()));
            // Writing to a String does not fail.
            let _written = write!(
                page,
                "<h2>{name}</h2>\n<div class=\"picture\">{}</div>\n<pre>{words}</pre>\n",
                picture(side, self.elapsed)
            );
        }
        page.push_str(LEGEND);
        page.push_str("</body></html>\n");
        page
    }

    fn course(&self) -> String {
        let settings = &self.settings;
        let checks = match settings.checks {
            Checks::Every(period) => format!("asks for readiness every {period:?}"),
            Checks::Off => "does not ask for readiness".to_owned(),
        };
        format!(
            "{} replicas, replaced {} times each, {} requests a second ({:.0} % by h2c, {:.0} % \
             POST). The balancer hears of changes {:?} late, {checks}, tries nothing twice and \
             uses its connections again.",
            settings.replicas,
            settings.rolls,
            settings.rate,
            settings.h2_share * 100.0,
            settings.post_share * 100.0,
            settings.endpoint_lag
        )
    }

    fn table(&self) -> String {
        let mut table = String::from(
            "<table><tr><th></th><th>requests</th><th>failed</th><th>refused by replicas</th>\
             <th>sent and lost</th><th>p50</th><th>p99</th><th>slowest</th></tr>\n",
        );
        self.sides.iter().for_each(|side| table.push_str(&row(side)));
        table.push_str("</table>\n");
        table
    }
}

fn row(side: &Side) -> String {
    let Latency { p50, p99, max, .. } = side.latency();
    let class = |count: u64| if count == 0 { "good" } else { "bad" };
    format!(
        "<tr><th>{}</th><td>{}</td><td class=\"{}\">{}</td><td>{}</td><td class=\"{}\">{}</td>\
         <td>{p50:.1?}</td><td>{p99:.1?}</td><td>{max:.1?}</td></tr>\n",
        escape(&side.name),
        side.requests(),
        class(side.failed()),
        side.failed(),
        side.balanced().refused,
        class(side.lost()),
        side.lost()
    )
}

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#222;--paper:#fff;--grid:#ddd}\
@media(prefers-color-scheme:dark){:root{--text:#ddd;--paper:#181818;--grid:#333}}\
body{font:14px sans-serif;margin:2em;color:var(--text);background:var(--paper)}\
table{border-collapse:collapse}td,th{border:1px solid var(--grid);padding:.3em .8em}\
td{text-align:right}.good{color:#2a2}.bad{color:#d33;font-weight:bold}\
.picture{overflow-x:auto}svg text{font:10px sans-serif;fill:var(--text)}\
svg .small{font-size:8px}.grid{stroke:var(--grid)}\
.answered{fill:#5a9bd5}.refused{fill:#f0a020}.lost,.killed{fill:#d33}\
.slow{fill:#888}.ready{fill:#4caf50}.pre-stop{fill:#c0a0e0}.stopping{fill:#f0c060}\
.sends{fill:#5a9bd5}.unready{stroke:#d33;stroke-width:1.5}\
.key span{display:inline-block;width:1em;height:1em;margin:0 .3em 0 1em;vertical-align:middle}\
pre{overflow-x:auto}";
const LEGEND: &str = "<p class=\"key\">Requests:\
<span style=\"background:#5a9bd5\"></span>answered 2xx\
<span style=\"background:#f0a020\"></span>failed, safe to repeat\
<span style=\"background:#d33\"></span>sent and lost. Replicas:\
<span style=\"background:#4caf50\"></span>ready\
<span style=\"background:#c0a0e0\"></span>preStop\
<span style=\"background:#f0c060\"></span>after SIGTERM\
<span style=\"background:#d33\"></span>after SIGKILL; the thin bar below: the balancer sends \
to it; the red line: readiness fails.</p>\n";
