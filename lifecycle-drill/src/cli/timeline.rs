//! The timeline picture of one scenario, as SVG.
//!
//! Time goes to the right, its zero is the first signal. On top what is known of the process:
//! until when it ran, listened, was ready. Below a lane for each client, its connection as a
//! thin line and its requests as bars in the colour of what became of them.
//!
//! It needs no style sheet and no script: every colour is an attribute, which a style sheet may
//! override by class, for dark pages.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use lifecycle_drill::{Event, What};

use super::{
    escape::Escaped,
    kind::Kind,
    lanes::{Lanes, lanes},
    report::{Readiness, ms_since, signal_at},
};

/// What is expected of the service, drawn behind what happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) lame_duck: Duration,
    pub(crate) grace: Duration,
    pub(crate) readiness: Readiness,
}

/// The picture.
pub(crate) fn svg(name: &str, events: &[Event], expected: Expected) -> String {
    let picture = Picture::new(events, expected);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _fits = picture.draw(&mut text, name);
    text
}

struct Picture<'a> {
    events: &'a [Event],
    expected: Expected,
    signal: Option<Duration>,
    /// The times at the left and the right edge, in seconds since the start.
    from: f64,
    until: f64,
    lanes: Lanes<'a>,
}

impl<'a> Picture<'a> {
    fn new(events: &'a [Event], expected: Expected) -> Self {
        let signal = signal_at(events);
        let exit = time_of(events, |what| matches!(what, What::Exited(_)));
        let ends = events.iter().map(|event| (event.at + took(&event.what)).as_secs_f64());
        let last = exit.map_or_else(|| ends.fold(0.0, f64::max), |exit| exit.as_secs_f64());
        let clients = events.iter().filter(|event| client(&event.what).is_some());
        let first = clients.map(|event| event.at.as_secs_f64()).fold(f64::INFINITY, f64::min);
        let from = match signal {
            Some(signal) => first.min(signal.as_secs_f64() - BEFORE).max(0.0),
            None => 0.0,
        };
        // One that failed early shows some of what it expected, too.
        let last = last.max(signal.unwrap_or_default().as_secs_f64() + BEHIND);
        let until = last.max(from + NARROWEST) + (last - from).max(NARROWEST) * AFTER;
        Self { events, expected, signal, from, until, lanes: lanes(events) }
    }

    fn draw(&self, out: &mut String, name: &str) -> fmt::Result {
        let height = self.bottom() + AXIS;
        write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"100%\" role=\"img\" aria-label=\"timeline of {name}\" data-scenario=\"{name}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"11\">"
        )?;
        self.expectations(out)?;
        self.axis(out)?;
        self.process(out)?;
        self.clients(out)?;
        self.signals(out)?;
        out.write_str("</svg>")
    }

    fn x(&self, at: Duration) -> f64 {
        let share = (at.as_secs_f64() - self.from) / (self.until - self.from);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn bottom(&self) -> f64 {
        CLIENTS_TOP + self.lanes.height() + 4.0
    }

    /// A time for people, since the signal.
    fn since(&self, at: Duration) -> String {
        match self.signal {
            Some(_) => format!("{:+.0} ms", ms_since(self.signal, at)),
            None => format!("{:.0} ms after the start", at.as_secs_f64() * 1e3),
        }
    }

    /// The lame duck as a band, the end of the grace period as a line.
    fn expectations(&self, out: &mut String) -> fmt::Result {
        let Some(signal) = self.signal else { return Ok(()) };
        let height = self.bottom() - TOP;
        if !self.expected.lame_duck.is_zero() {
            let (x, end) = (self.x(signal), self.x(signal + self.expected.lame_duck));
            write!(
                out,
                "<rect class=\"duck\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{:.1}\" \
                 height=\"{height:.1}\" fill=\"#e8b931\" fill-opacity=\".15\">\
                 <title>lame duck, as expected</title></rect>",
                end - x
            )?;
        }
        let grace = signal + self.expected.grace;
        if grace.as_secs_f64() > self.until {
            return Ok(());
        }
        let x = self.x(grace);
        write!(
            out,
            "<path class=\"grace\" d=\"M{x:.1} {TOP}v{height:.1}\" stroke=\"#d62839\" \
             stroke-dasharray=\"2 3\" fill=\"none\"><title>the grace period is over: SIGKILL \
             would come</title></path>"
        )
    }

    fn axis(&self, out: &mut String) -> fmt::Result {
        let (bottom, top) = (self.bottom(), TOP);
        let zero = self.signal.unwrap_or_default().as_secs_f64();
        let step = step(self.until - self.from);
        let mut number = ((self.from - zero) / step).ceil();
        while zero + number * step <= self.until {
            let at = zero + number * step;
            let x = self.x(Duration::from_secs_f64(at.max(0.0)));
            let label = tick(number * step, step);
            write!(
                out,
                "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom:.1}\" stroke=\"#8886\" \
                 stroke-width=\".5\"/><text class=\"faint\" x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\" fill=\"#777\">{label}</text>",
                bottom + 13.0
            )?;
            number += 1.0;
        }
        Ok(())
    }

    /// The rows of the process: alive, listening, ready.
    fn process(&self, out: &mut String) -> fmt::Result {
        let at = |fits: fn(&What) -> bool| time_of(self.events, fits);
        let ready = at(|what| *what == What::Ready);
        let exit = self.events.iter().find_map(|event| match event.what {
            What::Exited(ended) => Some((event.at, ended.to_string())),
            _ => None,
        });
        let gone = exit.as_ref().map(|(at, _)| *at);
        let told = exit
            .map_or("still running".to_owned(), |(at, how)| format!("{how}, {}", self.since(at)));
        self.row(out, 0, ("process", "#68727d"), Some((Duration::ZERO, gone)), &told)?;
        let closed = at(|what| *what == What::ListenerClosed).into_iter().chain(gone).min();
        let told = closed.map_or(String::new(), |at| format!("closed, {}", self.since(at)));
        let listened = ready.map(|ready| (ready, closed));
        self.row(out, 1, ("listener", "#4f8fbf"), listened, &told)?;
        if self.expected.readiness == Readiness::Unknown {
            return Ok(());
        }
        // Nobody is ready who is gone, though the probe asks only now and then.
        let fell = at(|what| *what == What::ReadinessFell).into_iter().chain(gone).min();
        let told = fell.map_or(String::new(), |at| format!("not ready, {}", self.since(at)));
        self.row(out, 2, ("readiness", "#5aa469"), ready.map(|ready| (ready, fell)), &told)
    }

    fn row(
        &self,
        out: &mut String,
        number: u8,
        (name, colour): (&str, &str),
        span: Option<(Duration, Option<Duration>)>,
        told: &str,
    ) -> fmt::Result {
        let y = TOP + 4.0 + f64::from(number) * ROW;
        write!(
            out,
            "<text class=\"text\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" \
             fill=\"#444\">{name}</text>",
            LEFT - 8.0,
            y + 10.5,
        )?;
        // One that was never ready has, as far as we know, neither listened nor been ready.
        let Some((from, until)) = span else { return Ok(()) };
        let x = self.x(from);
        let end = until.map_or(WIDTH - RIGHT, |until| self.x(until));
        // Beside the bar's end if there is room, else inside, else before it.
        let (text_x, anchor, class) = if end + TEXT_ROOM < WIDTH {
            (end + 5.0, "start", "text")
        } else if end - x > TEXT_ROOM {
            (end - 5.0, "end", "inside")
        } else {
            (x - 5.0, "end", "text")
        };
        let fill = if class == "inside" { "#fff" } else { "#444" };
        let (text_y, told) = (y + 10.5, Escaped(told));
        write!(
            out,
            "<rect class=\"{name}\" x=\"{x:.1}\" y=\"{y:.1}\" \
             width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{colour}\"/><text \
             class=\"{class}\" x=\"{text_x:.1}\" y=\"{text_y:.1}\" text-anchor=\"{anchor}\" \
             fill=\"{fill}\">{told}</text>",
            (end - x).max(1.0),
            ROW - 5.0,
        )
    }

    fn clients(&self, out: &mut String) -> fmt::Result {
        let labels = self.lanes.labels().into_iter();
        let labels = labels.map(|(lane, label)| (CLIENTS_TOP + self.lanes.y(lane) + 9.5, label));
        // Beside the axis.
        let left_out = self
            .left_out()
            .map(|count| (self.bottom() + 13.0, format!("{count} answers not drawn")));
        for (y, label) in labels.chain(left_out) {
            let label = Escaped(label);
            write!(
                out,
                "<text class=\"faint\" x=\"{:.0}\" y=\"{y:.1}\" text-anchor=\"end\" \
                 fill=\"#777\">{label}</text>",
                LEFT - 8.0
            )?;
        }
        let exit = time_of(self.events, |what| matches!(what, What::Exited(_)));
        for (lane, event) in self.lanes.spans() {
            self.span(out, CLIENTS_TOP + self.lanes.y(lane), event, exit)?;
        }
        Ok(())
    }

    /// How many answers the record has not.
    fn left_out(&self) -> Option<u64> {
        self.events.iter().find_map(|event| match event.what {
            What::AnswersLeftOut { count } => Some(count),
            _ => None,
        })
    }

    fn span(&self, out: &mut String, y: f64, event: &Event, exit: Option<Duration>) -> fmt::Result {
        let mut end = event.at + took(&event.what);
        // What was held until the end was held until the process' end.
        if let (What::Connection { .. }, Some(exit)) = (&event.what, exit) {
            end = end.min(exit.max(event.at));
        }
        let (x, width) = (self.x(event.at), (self.x(end) - self.x(event.at)).max(1.5));
        let (height, when) = (self.lanes.thickness(), self.when(event.at, end));
        match &event.what {
            What::Connection { .. } => write!(
                out,
                "<rect class=\"connection\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
                 height=\"1.4\" fill=\"#9aa3ad\"><title>connection, {when}</title></rect>",
                y + height / 2.0 - 0.7
            ),
            What::Request { name, count, fate, .. } => {
                let kind = Kind::of(*fate);
                let (class, fill) = kind.paint();
                let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
                let fate = fate.map_or_else(|| kind.meaning().to_owned(), |fate| fate.to_string());
                let name = Escaped(name);
                write!(
                    out,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
                     height=\"{height}\" rx=\"1\" fill=\"{fill}\"><title>{name}{times}: {fate}, \
                     {when}</title></rect>"
                )
            }
            _ => Ok(()),
        }
    }

    fn when(&self, from: Duration, until: Duration) -> String {
        format!("{} to {}", self.since(from), self.since(until))
    }

    fn signals(&self, out: &mut String) -> fmt::Result {
        let (mut last_x, mut row) = (f64::NEG_INFINITY, 0.0);
        for event in self.events {
            let What::Signal(signal) = event.what else { continue };
            let x = self.x(event.at);
            // A label that would cover the last goes above it.
            row = if x - last_x < LABEL_ROOM { 1.0 - row } else { 0.0 };
            last_x = x;
            write!(
                out,
                "<path class=\"signal\" d=\"M{x:.1} {:.1}V{:.1}\" stroke=\"#c2410c\" \
                 stroke-width=\"1.5\"/><text class=\"signal-name\" x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\" fill=\"#c2410c\" font-weight=\"600\">{signal}</text>",
                TOP - 4.0,
                self.bottom(),
                TOP - 7.0 - row * 12.0,
            )?;
        }
        Ok(())
    }
}

/// How long what happened lasted; nothing for a moment.
pub(super) fn took(what: &What) -> Duration {
    match what {
        What::Request { took, .. } | What::Connection { took, .. } => *took,
        _ => Duration::ZERO,
    }
}

/// Whose it is, if a client's.
pub(super) fn client(what: &What) -> Option<u32> {
    match what {
        What::Request { client, .. } | What::Connection { client, .. } => Some(*client),
        _ => None,
    }
}

fn time_of(events: &[Event], fits: impl Fn(&What) -> bool) -> Option<Duration> {
    events.iter().find(|event| fits(&event.what)).map(|event| event.at)
}

/// The distance of two ticks: 1, 2 or 5 of a power of ten, about ten in all.
fn step(span: f64) -> f64 {
    let power = 10_f64.powf((span / 10.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| span / step <= 11.0).unwrap_or(span)
}

fn tick(seconds: f64, step: f64) -> String {
    if seconds.abs() < step / 2.0 {
        "0".to_owned()
    } else if step < 0.1 {
        format!("{:+.0} ms", seconds * 1e3)
    } else if step < 1.0 {
        format!("{seconds:+.1} s")
    } else {
        format!("{seconds:+.0} s")
    }
}

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 12.0;
/// Two rows of the names of signals.
const TOP: f64 = 32.0;
const ROW: f64 = 19.0;
const CLIENTS_TOP: f64 = TOP + 4.0 + 3.0 * ROW + 6.0;
const AXIS: f64 = 20.0;
const TEXT_ROOM: f64 = 170.0;
const LABEL_ROOM: f64 = 52.0;
/// Seconds that are shown before the signal and behind it at least; the narrowest picture.
const BEFORE: f64 = 0.1;
const BEHIND: f64 = 0.2;
const NARROWEST: f64 = 0.2;
/// The share of the picture that is left free behind the end.
const AFTER: f64 = 0.04;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_ten_ticks_whatever_the_span() {
        for span in [0.21, 0.5, 0.99, 1.3, 2.0, 4.7, 12.0, 95.0] {
            let ticks = span / step(span);
            assert!((4.0..=11.0).contains(&ticks), "{span}: {ticks}");
        }
        assert_eq!(tick(0.05, 0.05), "+50 ms");
        assert_eq!(tick(-0.5, 0.5), "-0.5 s");
        assert_eq!(tick(3.0, 1.0), "+3 s");
    }

    #[test]
    fn nothing_at_all_is_still_a_picture() {
        let expected = Expected {
            lame_duck: Duration::ZERO,
            grace: Duration::ZERO,
            readiness: Readiness::Probed,
        };
        let text = svg("some-name", &[], expected);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
