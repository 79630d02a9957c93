//! The picture of one side: requests by outcome, the slowest answer, and each replica's life,
//! over one axis of time. Pure text.

use std::{fmt::Write as _, time::Duration};

use super::{
    account::{SLICE, Slice},
    report::{Replica, Side},
};

/// The picture of a side; `whole` is the length of the axis.
pub(super) fn picture(side: &Side, whole: Duration) -> String {
    let axis = Axis::of(whole);
    let lanes = lanes(&side.replicas, whole);
    let height = LANES_TOP + lanes.len() as f64 * LANE + 24.0;
    let mut svg = String::new();
    let width = axis.width + 2.0 * MARGIN;
    put(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">"
        ),
    );
    put(&mut svg, format_args!("<title>{}</title>", escape(&side.name)));
    axis.grid(&mut svg, height - 20.0);
    requests(&mut svg, axis, &side.account.slices);
    slowest(&mut svg, axis, &side.account.slices);
    for (row, replicas) in lanes.iter().enumerate() {
        let top = LANES_TOP + row as f64 * LANE;
        replicas.iter().for_each(|one| life(&mut svg, axis, one, whole, top));
    }
    svg.push_str("</svg>\n");
    svg
}

/// From time to the horizontal place.
#[derive(Clone, Copy, Debug)]
struct Axis {
    whole: f64,
    width: f64,
}

impl Axis {
    fn of(whole: Duration) -> Self {
        let whole = whole.as_secs_f64().max(1.0);
        Self { whole, width: (whole * PIXELS_A_SECOND).clamp(WIDTH_LEAST, WIDTH_MOST) }
    }

    fn at(self, time: Duration) -> f64 {
        MARGIN + time.as_secs_f64() / self.whole * self.width
    }

    fn grid(self, svg: &mut String, bottom: f64) {
        let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
        let wide = |step: &&f64| **step / self.whole * self.width >= 60.0;
        let step = *steps.iter().find(wide).unwrap_or(&3_600.0);
        let mut second = 0.0;
        while second <= self.whole {
            let x = self.at(Duration::from_secs_f64(second));
            put(
                svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{x:.1}\" y1=\"10\" x2=\"{x:.1}\" y2=\"{bottom:.0}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.0}\">{second} s</text>",
                    bottom + 14.0
                ),
            );
            second += step;
        }
    }
}

/// A bar a slice: answered, and above it in full height what was refused or lost.
fn requests(svg: &mut String, axis: Axis, slices: &[Slice]) {
    let sum = |slice: &Slice| slice.answered + slice.refused + slice.lost;
    let most = f64::from(slices.iter().map(sum).max().unwrap_or(1).max(1));
    put(svg, format_args!("<text x=\"2\" y=\"20\">requests</text>"));
    for (index, slice) in slices.iter().enumerate() {
        if sum(slice) == 0 {
            continue;
        }
        let from = SLICE * u32::try_from(index).unwrap_or(u32::MAX);
        let (left, right) = (axis.at(from), axis.at(from + SLICE));
        let mut below = BARS_BOTTOM;
        let parts =
            [("answered", slice.answered), ("refused", slice.refused), ("lost", slice.lost)];
        for (class, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
            // At least a pixel, so that a single failure is seen.
            let high = (f64::from(count) / most * BARS).max(1.5);
            below -= high;
            put(
                svg,
                format_args!(
                    "<rect class=\"{class}\" x=\"{left:.2}\" y=\"{below:.1}\" width=\"{:.2}\" \
                 height=\"{high:.1}\"/>",
                    right - left
                ),
            );
        }
    }
}

/// The slowest outcome of each slice, on a logarithmic scale from 1 ms to 10 s.
fn slowest(svg: &mut String, axis: Axis, slices: &[Slice]) {
    put(svg, format_args!("<text x=\"2\" y=\"{:.0}\">slowest</text>", TIMES_BOTTOM - TIMES - 7.0));
    for (label, ms) in [("1 ms", 1.0), ("100 ms", 100.0), ("10 s", 10_000.0)] {
        let y = level(ms);
        put(svg, format_args!("<text x=\"2\" y=\"{:.0}\" class=\"small\">{label}</text>", y + 3.0));
    }
    for (index, slice) in slices.iter().enumerate().filter(|(_, one)| !one.max.is_zero()) {
        let from = SLICE * u32::try_from(index).unwrap_or(u32::MAX);
        let (x, y) = (axis.at(from + SLICE / 2), level(slice.max.as_secs_f64() * 1_000.0));
        put(svg, format_args!("<circle class=\"slow\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.2\"/>"));
    }
}

fn level(ms: f64) -> f64 {
    TIMES_BOTTOM - ms.clamp(1.0, 10_000.0).log10() / 4.0 * TIMES
}

/// One replica: ready, to be deleted, told to stop; below it, while the balancer sends to it.
fn life(svg: &mut String, axis: Axis, replica: &Replica, whole: Duration, top: f64) {
    let Some(ready) = replica.ready else { return };
    let end = replica.ended.map_or(whole, |(at, _)| at);
    let deleted = replica.deleted.unwrap_or(end);
    let terminated = replica.terminated.unwrap_or(deleted.max(ready));
    let killed = replica.killed.unwrap_or(end);
    let parts = [
        ("ready", ready, deleted),
        ("pre-stop", deleted, terminated),
        ("stopping", terminated, killed.max(terminated)),
        ("killed", killed, end),
    ];
    put(svg, format_args!("<g><title>{}</title>", describe(replica)));
    for (class, from, to) in parts.into_iter().filter(|(_, from, to)| from < to) {
        bar(svg, axis, class, (from, to), (top, LANE * 0.55));
    }
    if let Some(told) = replica.told {
        let until = replica.removed.unwrap_or(whole).max(told);
        bar(svg, axis, "sends", (told, until), (top + LANE * 0.6, LANE * 0.2));
    }
    if let Some(unready) = replica.unready {
        let x = axis.at(unready);
        put(
            svg,
            format_args!(
                "<line class=\"unready\" x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>",
                top + LANE * 0.55
            ),
        );
    }
    svg.push_str("</g>");
}

fn bar(
    svg: &mut String,
    axis: Axis,
    class: &str,
    (from, to): (Duration, Duration),
    (top, high): (f64, f64),
) {
    let (left, right) = (axis.at(from), axis.at(to));
    put(
        svg,
        format_args!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
         height=\"{high:.1}\"/>",
            (right - left).max(0.5)
        ),
    );
}

fn describe(replica: &Replica) -> String {
    let mut text = replica.address.to_string();
    let times = [
        ("ready", replica.ready),
        ("sent to", replica.told),
        ("deleted", replica.deleted),
        ("SIGTERM", replica.terminated),
        ("readiness failed", replica.unready),
        ("no more sent to", replica.removed),
        ("SIGKILL", replica.killed),
        ("ended", replica.ended.map(|(at, _)| at)),
    ];
    for (name, at) in times {
        if let Some(at) = at {
            put(&mut text, format_args!("\n{name} {:.3} s", at.as_secs_f64()));
        }
    }
    if let Some((_, ended)) = replica.ended {
        put(&mut text, format_args!(", {ended}"));
    }
    escape(&text)
}

/// Those that do not overlap share a row.
fn lanes(replicas: &[Replica], whole: Duration) -> Vec<Vec<&Replica>> {
    let mut lanes: Vec<(Duration, Vec<&Replica>)> = Vec::new();
    for replica in replicas {
        let from = replica.ready.unwrap_or_default();
        let ended = replica.ended.map_or(whole, |(at, _)| at);
        let to = ended.max(replica.removed.unwrap_or_default());
        match lanes.iter_mut().find(|(free, _)| *free <= from) {
            Some((free, lane)) => {
                *free = to;
                lane.push(replica);
            }
            None => lanes.push((to, vec![replica])),
        }
    }
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

/// For text and attribute values of XML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _written = text.write_fmt(what);
}

const MARGIN: f64 = 52.0;
const PIXELS_A_SECOND: f64 = 12.0;
const WIDTH_LEAST: f64 = 900.0;
const WIDTH_MOST: f64 = 12_000.0;
const BARS: f64 = 100.0;
const BARS_BOTTOM: f64 = 122.0;
const TIMES: f64 = 60.0;
const TIMES_BOTTOM: f64 = 200.0;
const LANES_TOP: f64 = 214.0;
const LANE: f64 = 16.0;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn replica(ready: u64, ended: u64) -> Replica {
        let at = |second| Some(Duration::from_secs(second));
        Replica {
            address: SocketAddr::from(([127, 0, 0, 1], 80)),
            ready: at(ready),
            told: at(ready + 1),
            deleted: at(ended - 2),
            unready: at(ended - 2),
            terminated: at(ended - 1),
            removed: at(ended + 1),
            killed: None,
            ended: Some((Duration::from_secs(ended), crate::process::Ended::Code(0))),
        }
    }

    #[test]
    fn replicas_share_a_row_when_the_one_is_gone_from_the_balancer_too() {
        let all = [replica(0, 10), replica(0, 12), replica(11, 20), replica(12, 30)];
        let lanes = lanes(&all, Duration::from_secs(40));
        assert_eq!(lanes.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    }

    #[test]
    fn text_is_escaped_and_times_lie_on_the_axis() {
        assert_eq!(escape("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
        let axis = Axis::of(Duration::from_secs(100));
        assert!((axis.at(Duration::from_secs(50)) - (MARGIN + 600.0)).abs() < 0.01);
        assert!(level(1.0) > level(100.0) && level(1e9) >= TIMES_BOTTOM - TIMES - 0.01);
    }
}
