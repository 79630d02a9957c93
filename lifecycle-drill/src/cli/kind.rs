//! The colours of the timelines: what became of a request, as far as they tell it apart.

use lifecycle_drill::Fate;

/// What became of a request, as far as colours tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Answered,
    AnsweredClose,
    ServerError,
    Lost,
    Repeatable,
    Left,
}

impl Kind {
    /// All, as the legend has them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Answered,
        Self::AnsweredClose,
        Self::ServerError,
        Self::Lost,
        Self::Repeatable,
        Self::Left,
    ];

    pub(crate) fn of(fate: Option<Fate>) -> Self {
        match fate {
            None => Self::Left,
            Some(Fate::Answered { status: 500.., .. }) => Self::ServerError,
            Some(Fate::Answered { close: true, .. }) => Self::AnsweredClose,
            Some(Fate::Answered { .. }) => Self::Answered,
            Some(fate) if fate.is_lost() => Self::Lost,
            Some(_) => Self::Repeatable,
        }
    }

    /// The class of its bars, and their colour where no style sheet is applied.
    pub(crate) fn paint(self) -> (&'static str, &'static str) {
        match self {
            Self::Answered => ("answered", "#2e9e5b"),
            Self::AnsweredClose => ("goodbye", "#1f7fb5"),
            Self::ServerError => ("error", "#d9822b"),
            Self::Lost => ("lost", "#d62839"),
            Self::Repeatable => ("repeatable", "#8a5bc7"),
            Self::Left => ("left", "#9aa3ad"),
        }
    }

    /// What it means, in few words.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::AnsweredClose => "answered, told to go",
            Self::ServerError => "answered 5xx",
            Self::Lost => "lost: sent, and no whole answer",
            Self::Repeatable => "refused or not taken: safe to repeat",
            Self::Left => "the client left before it knew",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fate_has_its_colour() {
        let kinds = [
            (Some(Fate::Answered { status: 404, close: false }), Kind::Answered),
            (Some(Fate::Answered { status: 200, close: true }), Kind::AnsweredClose),
            (Some(Fate::Answered { status: 503, close: true }), Kind::ServerError),
            (Some(Fate::ResetAfterSent), Kind::Lost),
            (Some(Fate::Refused), Kind::Repeatable),
            (None, Kind::Left),
        ];
        for (fate, kind) in kinds {
            assert_eq!(Kind::of(fate), kind);
        }
    }
}
