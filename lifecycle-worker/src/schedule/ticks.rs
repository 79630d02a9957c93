//! When a cron expression ticks in a time zone. Pure: whole seconds since 1970 in and out.
//!
//! Not here: which ticks are to be enqueued (`plan`), and what time it is (`clock`).
//!
//! # Invariants
//! 1. The ticks are one set: from wherever one looks, forwards or backwards, they are the same.
//! 2. `next` is later than what it is asked about, `last` is not.

use croner::Cron;
use croner::parser::CronParser;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::ScheduleError;

/// The ticks of one expression.
#[derive(Clone, Debug)]
pub(super) struct Ticks {
    cron: Cron,
    zone: TimeZone,
}

impl Ticks {
    pub(super) fn new(name: &str, expression: &str, zone: &str) -> Result<Self, ScheduleError> {
        let parsed = CronParser::builder().build().parse(expression);
        let cron = parsed.map_err(|error| ScheduleError::Expression {
            name: name.to_owned(),
            expression: expression.to_owned(),
            source: error.into(),
        })?;
        let zone = TimeZone::get(zone).map_err(|error| ScheduleError::Zone {
            name: name.to_owned(),
            zone: zone.to_owned(),
            source: error.into(),
        })?;
        let ticks = Self { cron, zone };
        if ticks.next(0).is_none() {
            let (name, expression) = (name.to_owned(), expression.to_owned());
            return Err(ScheduleError::Never { name, expression });
        }
        Ok(ticks)
    }

    /// The first tick after that second; none also where the search would have to cross a day
    /// that its zone leaves out, as Samoa did in 2011: ask again later.
    pub(super) fn next(&self, after: i64) -> Option<i64> {
        let found = self.cron.find_next_occurrence(&self.at(after)?, false).ok()?;
        let tick = found.timestamp().as_second();
        debug_assert!(tick > after, "invariant 2: {tick} is not after {after}");
        Some(tick)
    }

    /// The last tick at or before that second.
    pub(super) fn last(&self, until: i64) -> Option<i64> {
        let found = self.cron.find_previous_occurrence(&self.at(until)?, true).ok()?;
        let tick = found.timestamp().as_second();
        debug_assert!(tick <= until, "invariant 2: {tick} is after {until}");
        Some(tick)
    }

    fn at(&self, second: i64) -> Option<Zoned> {
        Some(Timestamp::from_second(second).ok()?.to_zoned(self.zone.clone()))
    }
}

/// That second as RFC 3339 has it, in UTC.
pub(super) fn rfc3339(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(expression: &str, zone: &str) -> Ticks {
        Ticks::new("test", expression, zone).expect("a good expression")
    }

    fn second(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_second()
    }

    /// The ticks after that time, without the seconds and the year of 2026.
    fn after(ticks: &Ticks, from: &str, count: usize) -> Vec<String> {
        let mut at = second(from);
        let mut next = || {
            at = ticks.next(at).expect("it ticks for ever");
            rfc3339(at).replace("2026-", "").replace(":00Z", "")
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_time_that_is_left_out_comes_right_after_the_gap_and_an_interval_does_not() {
        for (expression, zone, from, expected) in [
            // 02:00 becomes 03:00 on 29 March.
            ("30 2 * * *", "Europe/Berlin", "28T01:00", ["28T01:30", "29T01:00", "30T00:30"]),
            ("*/30 2 * * *", "Europe/Berlin", "28T01:00", ["28T01:30", "30T00:00", "30T00:30"]),
            ("0 2,3 * * *", "Europe/Berlin", "28T01:30", ["28T02:00", "29T01:00", "30T00:00"]),
            ("*/30 * * * *", "Europe/Berlin", "29T00:30", ["29T01:00", "29T01:30", "29T02:00"]),
            // Midnight becomes 01:00 there on the same day, which is midnight in UTC.
            ("0 0 * * *", "Atlantic/Azores", "28T01:30", ["29T01:00", "30T00:00", "31T00:00"]),
            ("30 0 * * *", "Atlantic/Azores", "28T01:30", ["29T01:00", "30T00:30", "31T00:30"]),
        ] {
            let from = format!("2026-03-{from}:00Z");
            let found = after(&ticks(expression, zone), &from, 3);
            let expected = expected.map(|tick| format!("03-{tick}"));
            assert_eq!(found, expected, "{expression} in {zone}");
        }
    }

    #[test]
    fn a_time_that_comes_twice_ticks_the_first_time_and_an_interval_each_time() {
        for (expression, zone, from, expected) in [
            // 03:00 becomes 02:00 on 25 October.
            ("30 2 * * *", "Europe/Berlin", "24T01:00", ["25T00:30", "26T01:30", "27T01:30"]),
            ("*/30 2 * * *", "Europe/Berlin", "25T00:00", ["25T00:30", "25T01:00", "25T01:30"]),
            ("*/30 * * * *", "Europe/Berlin", "25T00:00", ["25T00:30", "25T01:00", "25T01:30"]),
            ("0 3 * * *", "Europe/Berlin", "24T00:00", ["24T01:00", "25T02:00", "26T02:00"]),
        ] {
            let from = format!("2026-10-{from}:00Z");
            let found = after(&ticks(expression, zone), &from, 3);
            let expected = expected.map(|tick| format!("10-{tick}"));
            assert_eq!(found, expected, "{expression} in {zone}");
        }
    }

    #[test]
    fn fields_are_those_of_cron_with_seconds_names_and_last_days() {
        for (expression, expected) in [
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("15 10 L * *", "2026-01-31T10:15:00Z"),
            ("*/10 * * * * *", "2026-01-01T00:00:10Z"),
            ("0 9 * * MON-FRI", "2026-01-01T09:00:00Z"),
            ("0 9 * * mon#1", "2026-01-05T09:00:00Z"),
            ("@hourly", "2026-01-01T01:00:00Z"),
            ("0 0 0 1 1 * 2030", "2030-01-01T00:00:00Z"),
        ] {
            let next = ticks(expression, "UTC").next(second("2026-01-01T00:00:00Z"));
            assert_eq!(next.map(rfc3339).as_deref(), Some(expected), "{expression}");
        }
        let once = ticks("0 0 0 1 1 * 2020", "UTC");
        assert_eq!(once.next(second("2026-01-01T00:00:00Z")), None);
        let at = once.last(second("2026-01-01T00:00:00Z")).map(rfc3339);
        assert_eq!(at.as_deref(), Some("2020-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_none_is_named() {
        for (expression, zone, said) in [
            ("0 3 * *", "UTC", r#"schedule "test": "0 3 * *" is not a cron expression"#),
            ("0 25 * * *", "UTC", r#"schedule "test": "0 25 * * *" is not a cron expression"#),
            ("", "UTC", r#"schedule "test": "" is not a cron expression"#),
            ("@reboot", "UTC", r#"schedule "test": "@reboot" is not a cron expression"#),
            ("0 0 30 2 *", "UTC", r#"schedule "test": no time matches "0 0 30 2 *""#),
            (
                "0 3 * * *",
                "Mars/Olympus",
                r#"schedule "test": "Mars/Olympus" is not a time zone, as Europe/Berlin or UTC is"#,
            ),
        ] {
            let error = Ticks::new("test", expression, zone).expect_err(said);
            assert_eq!(error.to_string(), said);
        }
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        const EXPRESSIONS: [&str; 12] = [
            "30 2 * * *",
            "0 3 * * *",
            "*/30 2 * * *",
            "15,45 1-3 * * *",
            "0 */2 * * *",
            "0 0 * * *",
            "7 7 7 * * *",
            "0 0 29 2 *",
            "0 12 * * 1-5",
            "0 0 L * *",
            "*/20 59 1,2 * * *",
            "59 23 31 * *",
        ];
        const ZONES: [&str; 8] = [
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "America/Santiago",
            "UTC",
            "Asia/Kathmandu",
            "Africa/Casablanca",
            "Atlantic/Azores",
        ];

        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

            /// Invariant 1.
            #[test]
            fn one_set_whichever_way_one_looks(
                expression in prop::sample::select(&EXPRESSIONS[..]),
                zone in prop::sample::select(&ZONES[..]),
                from in 1_600_000_000_i64..1_900_000_000,
                steps in 1_usize..12,
            ) {
                let ticks = ticks(expression, zone);
                let mut at = from;
                let mut all = Vec::new();
                for _ in 0..steps {
                    let next = ticks.next(at).expect("it ticks for ever");
                    let between = at + (next - at) / 2;
                    prop_assert_eq!(ticks.next(between), Some(next), "from {} {}", at, between);
                    prop_assert_eq!(ticks.last(next), Some(next));
                    prop_assert_eq!(ticks.next(next - 1), Some(next));
                    if let Some(&before) = all.last() {
                        prop_assert_eq!(ticks.last(next - 1), Some(before));
                        prop_assert_eq!(ticks.last(between), Some(before));
                    }
                    all.push(next);
                    at = next;
                }
            }
        }
    }
}
