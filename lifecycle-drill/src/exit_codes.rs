//! The exit codes that are expected of a command.

use crate::signal::Signal;

/// The exit codes that are expected, by situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ExitCodes {
    pub(crate) clean: i32,
    pub(crate) cut: i32,
    pub(crate) forced_base: i32,
    /// Whether the clean code will do for a stop that cut work.
    pub(crate) cut_untold: bool,
}

impl ExitCodes {
    /// 0 when all was drained, 3 when the deadline cut work or a job was left to its lease,
    /// 128 + n when forced by signal n.
    pub fn new() -> Self {
        Self { clean: 0, cut: 3, forced_base: 128, cut_untold: false }
    }

    /// The code of a stop that lost nothing (default 0).
    pub fn clean(mut self, code: i32) -> Self {
        self.clean = code;
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

    /// What is added to the number of a further signal that forced the stop (default 128).
    pub fn forced_base(mut self, base: i32) -> Self {
        self.forced_base = base;
        self
    }

    /// Those of a stop whose deadline cut work.
    pub(crate) fn of_cut(&self) -> Vec<i32> {
        if self.cut_untold { vec![self.cut, self.clean] } else { vec![self.cut] }
    }

    pub(crate) fn forced(&self, signal: Signal) -> i32 {
        self.forced_base + signal.number()
    }
}

impl Default for ExitCodes {
    fn default() -> Self {
        Self::new()
    }
}
