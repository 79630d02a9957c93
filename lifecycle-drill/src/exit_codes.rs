//! The exit codes that are expected of a command.

use crate::{process::Ended, signal::Signal};

/// The exit codes that are expected, by situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ExitCodes {
    clean: Clean,
    cut: i32,
    forced_base: i32,
    /// Whether the clean code will do for a stop that cut work.
    cut_untold: bool,
}

/// How a stop ends that lost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clean {
    Code(i32),
    /// By the signal that asked for it, or by the code that a shell makes of that.
    Signal,
}

impl ExitCodes {
    /// 0 when all was drained, 3 when the deadline cut work or a job was left to its lease,
    /// 128 + n when forced by signal n.
    pub fn new() -> Self {
        Self { clean: Clean::Code(0), cut: 3, forced_base: 128, cut_untold: false }
    }

    /// The code of a stop that lost nothing (default 0).
    pub fn clean(mut self, code: i32) -> Self {
        self.clean = Clean::Code(code);
        self
    }

    /// A stop that lost nothing ends by the signal that asked for it, raised again after the
    /// drain (uvicorn, Puma), or with 128 and its number (a JVM).
    pub fn clean_by_signal(mut self) -> Self {
        self.clean = Clean::Signal;
        self
    }

    /// The code of a stop whose deadline cut work (default 3).
    pub fn cut(mut self, code: i32) -> Self {
        self.cut = code;
        self
    }

    /// The clean code will do as well for a stop whose deadline cut work: the process need not
    /// tell the two apart.
    pub fn cut_untold(mut self) -> Self {
        self.cut_untold = true;
        self
    }

    /// What is added to the number of a further signal that forced the stop (default 128: death
    /// by that signal is taken for the same).
    pub fn forced_base(mut self, base: i32) -> Self {
        self.forced_base = base;
        self
    }

    /// How a stop may end that lost nothing and that this signal asked for.
    pub(crate) fn of_clean(self, asked_by: Signal) -> Vec<Ended> {
        match self.clean {
            Clean::Code(code) => vec![Ended::Code(code)],
            Clean::Signal => by_signal(asked_by, SHELLS_BASE),
        }
    }

    /// Whether it says that nothing was cut. What ends by the signal that it was sent says nothing.
    pub(crate) fn claims_clean(self, ended: Ended) -> bool {
        matches!((self.clean, ended), (Clean::Code(clean), Ended::Code(code)) if clean == code)
    }

    /// How one may end whose deadline cut work.
    pub(crate) fn of_cut(self, asked_by: Signal) -> Vec<Ended> {
        let mut ends = vec![Ended::Code(self.cut)];
        if self.cut_untold {
            ends.extend(self.of_clean(asked_by));
        }
        ends
    }

    /// How one may end that this further signal forced.
    pub(crate) fn of_forced(self, by: Signal) -> Vec<Ended> {
        by_signal(by, self.forced_base)
    }
}

impl Default for ExitCodes {
    fn default() -> Self {
        Self::new()
    }
}

/// The code, and death by the signal where a shell would tell that by the same code.
fn by_signal(signal: Signal, base: i32) -> Vec<Ended> {
    let mut ends = vec![Ended::Code(base + signal.number())];
    if base == SHELLS_BASE {
        ends.push(Ended::Signal(signal.number()));
    }
    ends
}

/// What shells add to the number of the signal that a command died of.
const SHELLS_BASE: i32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forced_codes_count_from_the_base_and_a_shell_makes_no_difference() {
        let forced = |codes: ExitCodes, by| codes.of_forced(by);
        let by_term = [Ended::Code(143), Ended::Signal(15)];
        assert_eq!(forced(ExitCodes::new(), Signal::Term), by_term);
        assert_eq!(forced(ExitCodes::new().forced_base(0), Signal::Int), [Ended::Code(2)]);
    }

    #[test]
    fn a_cut_has_a_code_of_its_own_unless_it_need_not() {
        assert_eq!(ExitCodes::new().of_cut(Signal::Term), [Ended::Code(3)]);
        let untold = ExitCodes::new().cut(101).cut_untold();
        assert_eq!(untold.of_cut(Signal::Term), [101, 0].map(Ended::Code));
    }

    #[test]
    fn a_clean_stop_may_end_by_the_signal_that_asked_for_it_and_by_no_other() {
        let codes = ExitCodes::new().clean_by_signal();
        assert_eq!(codes.of_clean(Signal::Hup), [Ended::Code(129), Ended::Signal(1)]);
        assert_eq!(codes.of_clean(Signal::Term), [Ended::Code(143), Ended::Signal(15)]);
        assert_eq!(ExitCodes::new().clean(7).of_clean(Signal::Term), [Ended::Code(7)]);
    }
}
