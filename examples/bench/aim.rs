//! What a figure should reach: a floor that it must not miss, and a goal beyond.

use std::fmt;

/// Which figure of a line is held against its floor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Speed in percent of the referee's; more is better.
    Percent,
    /// Our median; more is better.
    Least,
    /// Our median; less is better.
    Most,
    /// Our worst pass; less is better.
    Worst,
}

/// A floor, and maybe a goal.
#[derive(Clone, Copy)]
pub(crate) struct Aim {
    of: Of,
    floor: f64,
    goal: Option<f64>,
}

/// What became of an aim.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Missed,
    /// There is a goal, too, which is not reached.
    Floor,
    /// All that was wanted.
    Met,
    /// There is no figure that would tell.
    Unknown,
}

impl Aim {
    fn new(of: Of, floor: f64) -> Self {
        let goal = None;
        Self { of, floor, goal }
    }

    /// The speed, in percent of the referee's, is not below `floor`.
    pub(crate) fn percent(floor: f64) -> Self {
        Self::new(Of::Percent, floor)
    }

    /// The median is not below `floor`.
    pub(crate) fn at_least(floor: f64) -> Self {
        Self::new(Of::Least, floor)
    }

    /// The median is not above `floor`.
    pub(crate) fn at_most(floor: f64) -> Self {
        Self::new(Of::Most, floor)
    }

    /// No pass is above `floor`.
    pub(crate) fn never_above(floor: f64) -> Self {
        Self::new(Of::Worst, floor)
    }

    /// Better still.
    pub(crate) fn goal(self, goal: f64) -> Self {
        let goal = Some(goal);
        Self { goal, ..self }
    }

    /// The one of a line's figures that counts.
    pub(crate) fn figure(&self, percent: f64, median: f64, most: f64) -> f64 {
        match self.of {
            Of::Percent => percent,
            Of::Least | Of::Most => median,
            Of::Worst => most,
        }
    }

    /// How good `figure` is: 1 is just the floor, 2 is twice as good. Not a number, or endless, if one of them is 0.
    pub(crate) fn share(&self, figure: f64) -> f64 {
        match self.of {
            Of::Percent | Of::Least => figure / self.floor,
            Of::Most | Of::Worst => self.floor / figure.max(0.0),
        }
    }

    /// Where the goal is, in the same terms.
    pub(crate) fn goal_share(&self) -> Option<f64> {
        Some(self.share(self.goal?))
    }

    /// What becomes of it with `figure`, which may be no number.
    pub(crate) fn verdict(&self, figure: f64) -> Verdict {
        if figure.is_nan() {
            return Verdict::Unknown;
        }
        let reaches = |wanted: f64| match self.of {
            Of::Percent | Of::Least => figure >= wanted,
            Of::Most | Of::Worst => figure <= wanted,
        };
        match (reaches(self.floor), self.goal) {
            (false, _) => Verdict::Missed,
            (true, Some(goal)) if !reaches(goal) => Verdict::Floor,
            (true, _) => Verdict::Met,
        }
    }

    /// As text, in the line's unit.
    pub(crate) fn text(&self, unit: &str) -> String {
        let sign = match self.of {
            Of::Percent | Of::Least => "≥",
            Of::Most => "≤",
            Of::Worst => "never >",
        };
        let goal = self.goal.map(|goal| format!(" ({goal})"));
        let (floor, unit) = (self.floor, self.unit(unit));
        format!("{sign} {floor}{} {unit}", goal.unwrap_or_default())
    }

    /// What it counts, if the line counts `unit`.
    pub(crate) fn unit<'a>(&self, unit: &'a str) -> &'a str {
        match self.of {
            Of::Percent => "%",
            Of::Least | Of::Most | Of::Worst => unit,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missed => "**missed**",
            Self::Floor => "floor met",
            Self::Met => "met",
            Self::Unknown => "**not measured**",
        })
    }
}
