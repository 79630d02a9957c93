//! Which client is drawn in which lane: as few lanes as their times allow.

use std::{collections::BTreeMap, time::Duration};

use lifecycle_drill::{Event, Fate, What};

use super::timeline::{client, took};

/// The clients' spans, each in its lane.
#[derive(Debug)]
pub(crate) struct Lanes<'a> {
    spans: Vec<(usize, &'a Event)>,
    labels: BTreeMap<usize, String>,
    count: usize,
    left_out: usize,
}

/// What one client does, none of it at the same time but its connection.
struct Track<'a> {
    from: Duration,
    until: Duration,
    spans: Vec<&'a Event>,
}

/// Gives every span its lane.
pub(crate) fn lanes(events: &[Event]) -> Lanes<'_> {
    let mut clients = BTreeMap::<u32, Vec<&Event>>::new();
    for event in events {
        if let Some(client) = client(&event.what) {
            clients.entry(client).or_default().push(event);
        }
    }
    let mut tracks: Vec<_> = clients.into_values().flat_map(tracks).collect();
    tracks.sort_by_key(|track| track.from);
    let placed = place(&tracks);
    if placed.left_out == 0 {
        return placed;
    }
    // What was lost is what one looks for.
    tracks.sort_by_key(|track| (!track.has_lost(), track.from));
    place(&tracks)
}

/// Gives each track the first lane that is free, as long as there are lanes.
fn place<'a>(tracks: &[Track<'a>]) -> Lanes<'a> {
    let mut lanes = Lanes { spans: Vec::new(), labels: BTreeMap::new(), count: 0, left_out: 0 };
    let mut taken = Vec::<Vec<&Track<'a>>>::new();
    for track in tracks {
        let is_free = |lane: &Vec<&Track<'a>>| !lane.iter().any(|other| other.overlaps(track));
        let index = taken.iter().position(is_free).unwrap_or(taken.len());
        if index == LANES_MOST {
            lanes.left_out += 1;
            continue;
        }
        if index == taken.len() {
            taken.push(Vec::new());
        }
        if let Some(lane) = taken.get_mut(index) {
            lane.push(track);
        }
        lanes.labels.entry(index).or_insert_with(|| track.label());
        lanes.spans.extend(track.spans.iter().map(|span| (index, *span)));
    }
    lanes.count = taken.len();
    lanes
}

/// The spans of one client, in as many tracks as it does things at once (streams of HTTP/2).
fn tracks(mut spans: Vec<&Event>) -> Vec<Track<'_>> {
    let end = |span: &Event| span.at + took(&span.what);
    let until = spans.iter().map(|span| end(span)).max().unwrap_or_default();
    let from = spans.iter().map(|span| span.at).min().unwrap_or_default();
    // Connections first: they are drawn beneath.
    spans.sort_by_key(|span| (matches!(span.what, What::Request { .. }), span.at));
    let mut tracks = Vec::<(Duration, Track<'_>)>::new();
    for span in spans {
        let is_request = matches!(span.what, What::Request { .. });
        let free = |(until, _): &(Duration, Track<'_>)| !is_request || *until <= span.at;
        let index = tracks.iter().position(free).unwrap_or_else(|| {
            tracks.push((Duration::ZERO, Track { from, until, spans: Vec::new() }));
            tracks.len() - 1
        });
        if let Some((busy, track)) = tracks.get_mut(index) {
            if is_request {
                *busy = end(span);
            }
            track.spans.push(span);
        }
    }
    tracks.into_iter().map(|(_, track)| track).collect()
}

impl Track<'_> {
    fn overlaps(&self, other: &Track<'_>) -> bool {
        self.from < other.until && other.from < self.until
    }

    fn has_lost(&self) -> bool {
        self.spans.iter().any(|span| match span.what {
            What::Request { fate, .. } => fate.is_some_and(Fate::is_lost),
            _ => false,
        })
    }

    fn label(&self) -> String {
        let name = self.spans.iter().find_map(|span| match &span.what {
            What::Request { name, .. } => Some(name.as_str()),
            _ => None,
        });
        let name = name.unwrap_or("connection");
        if name.chars().count() <= LABEL_LENGTH_MAX {
            return name.to_owned();
        }
        let mut short: String = name.chars().take(LABEL_LENGTH_MAX - 1).collect();
        short.push('\u{2026}');
        short
    }
}

impl<'a> Lanes<'a> {
    /// Every span with its lane; connections before the requests on them.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (usize, &'a Event)> {
        self.spans.iter().copied()
    }

    /// What is written beside the lanes: names while there is room, else how many there are.
    pub(crate) fn labels(&self) -> Vec<(usize, String)> {
        if self.pitch() >= LABEL_PITCH {
            return self.labels.iter().map(|(lane, label)| (*lane, label.clone())).collect();
        }
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!(", {count} not shown"),
        };
        vec![(0, format!("{} clients{left_out}", self.count))]
    }

    /// Where a lane begins, below the first.
    pub(crate) fn y(&self, lane: usize) -> f64 {
        // Less than a hundred: exact.
        f64::from(u32::try_from(lane).unwrap_or(u32::MAX)) * self.pitch()
    }

    /// The height of all lanes.
    pub(crate) fn height(&self) -> f64 {
        self.y(self.count)
    }

    /// The height of a bar.
    pub(crate) fn thickness(&self) -> f64 {
        self.pitch() - if self.pitch() > 6.0 { 3.0 } else { 1.0 }
    }

    /// From one lane to the next.
    fn pitch(&self) -> f64 {
        match self.count {
            ..=16 => LABEL_PITCH,
            17..=40 => 8.0,
            _ => 4.0,
        }
    }
}

const LANES_MOST: usize = 96;
const LABEL_LENGTH_MAX: usize = 24;
const LABEL_PITCH: f64 = 15.0;

#[cfg(test)]
mod tests {
    use lifecycle_drill::{Outcome, ReadyWhen, Routes, Subject, by_name};

    use super::*;

    /// Events cannot be made outside the library: those of a real drill.
    #[tokio::test]
    async fn spans_of_one_lane_never_overlap() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/service.py");
        let subject = Subject::new("python3")
            .arg(script)
            .env("GRACE", "6")
            .env("LAME_DUCK", "1")
            .start_timeout(Duration::from_secs(30))
            .grace(Duration::from_secs(8))
            .lame_duck(Duration::from_secs(1))
            .slack(Duration::from_secs(3))
            .routes(Routes::conventional());
        let scenario = by_name("http1-new-connections-lame-duck").unwrap();
        let mut verdict = scenario.run(&subject).await;
        if !verdict.passed() {
            // A busy machine is late now and then.
            verdict = scenario.run(&subject).await;
        }
        assert_eq!(*verdict.outcome(), Outcome::Pass, "{verdict}");
        let lanes = lanes(verdict.events());
        // One after another: a lane is enough, or two where a close was seen late.
        assert!((1..=3).contains(&lanes.count), "{lanes:?}");
        let requests = |(_, event): &(usize, &Event)| matches!(event.what, What::Request { .. });
        let mut requests: Vec<_> = lanes.spans().filter(requests).collect();
        requests.sort_by_key(|(lane, event)| (*lane, event.at));
        assert!(requests.len() > 5);
        for pair in requests.windows(2) {
            let [(lane, first), (next_lane, second)] = pair else { continue };
            let end = first.at + took(&first.what);
            assert!(lane != next_lane || end <= second.at, "{first:?} {second:?}");
        }
        let answered = |fate: &Option<Fate>| fate.is_some_and(Fate::is_answered);
        assert!(requests.iter().all(|(_, event)| match &event.what {
            What::Request { fate, .. } => answered(fate),
            _ => true,
        }));
    }
    /// More clients than lanes, all at once; the last has lost its request.
    #[tokio::test]
    async fn losses_are_drawn_whoever_else_is_left_out() {
        let subject = Subject::new("sh")
            .args(["-c", "echo ready; exec sleep 60"])
            .ready_when(ReadyWhen::Line("ready".into()));
        let verdict = by_name("signals-sigterm-idle").unwrap().run(&subject).await;
        let event = verdict.events().first().unwrap();
        let request = |client: u32, fate| {
            let (name, took) = ("GET /".to_owned(), Duration::from_secs(1));
            let mut event = event.clone();
            event.at = Duration::from_millis(client.into());
            event.what = What::Request { client, name, took, count: 1, fate: Some(fate) };
            event
        };
        let ok = Fate::Answered { status: 200, close: false };
        let last = u32::try_from(LANES_MOST).unwrap() + 2;
        let mut events: Vec<_> = (0..last).map(|client| request(client, ok)).collect();
        events.push(request(last, Fate::TimedOut));
        let drawn = lanes(&events);
        assert_eq!((drawn.count, drawn.left_out), (LANES_MOST, 3));
        assert!(drawn.spans().any(|(_, event)| client(&event.what) == Some(last)));
        assert!(drawn.labels()[0].1.contains("3 not shown"), "{:?}", drawn.labels());
    }
}
