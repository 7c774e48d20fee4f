//! Passes in turns, and the table of what they measured.

use std::fmt;

use crate::{Outcome, interrupt};

/// Passes that count; one more before them is dropped.
pub(crate) const ROUNDS: u64 = 5;

/// All rounds, the dropped one included.
pub(crate) fn rounds() -> std::ops::RangeInclusive<u64> {
    0..=ROUNDS
}

/// The first two lines of the table.
pub(crate) const HEAD: &str =
    "| measured | ours | referee | speed of the referee's | besides |\n|---|---|---|---|---|";

/// What a figure counts, and whether more of it is faster.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    MibPerSecond,
    FilesPerSecond,
    Milliseconds,
    RoundTrips,
    Mib,
}

impl Unit {
    fn more_is_faster(self) -> bool {
        matches!(self, Self::MibPerSecond | Self::FilesPerSecond)
    }

    fn name(self) -> &'static str {
        match self {
            Self::MibPerSecond => "MiB/s",
            Self::FilesPerSecond => "files/s",
            Self::Milliseconds => "ms",
            Self::RoundTrips => "round trips",
            Self::Mib => "MiB",
        }
    }
}

/// One figure of each pass that counts.
#[derive(Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// Notes the figure of a pass, unless it is the one that is dropped.
    pub(crate) fn note(&mut self, round: u64, figure: f64) {
        if round > 0 {
            self.0.push(figure);
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        quantile(&self.0, 0.5)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sorted = self.sorted();
        let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else {
            return f.write_str("–");
        };
        let median = rounded(self.median());
        write!(f, "{median} ({}–{})", rounded(*least), rounded(*most))
    }
}

/// The figure that this part of all figures is not above; `part` is 0 to 1. Not a number if there is none.
pub(crate) fn quantile(figures: &[f64], part: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// Three digits that mean something.
fn rounded(figure: f64) -> String {
    let digits = match figure.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{figure:.digits$}")
}

/// A line of the table.
pub(crate) struct Row {
    measured: String,
    unit: Unit,
    ours: Series,
    referee: Option<(&'static str, Series)>,
    besides: String,
}

impl Row {
    /// Runs both sides in turns; a pass is told its round, 0 being the one that is dropped, and gives its figure.
    pub(crate) fn in_turns(
        measured: &str,
        unit: Unit,
        mut ours: impl FnMut(u64) -> Outcome<f64>,
        (name, mut referee): (&'static str, impl FnMut(u64) -> Outcome<f64>),
    ) -> Outcome<Self> {
        let mut row = Self::alone(measured, unit, Series::default());
        let mut theirs = Series::default();
        for round in rounds() {
            interrupt::check()?;
            row.ours.note(round, ours(round)?);
            interrupt::check()?;
            theirs.note(round, referee(round)?);
        }
        row.referee = Some((name, theirs));
        Ok(row)
    }

    /// A figure without a referee.
    pub(crate) fn alone(measured: &str, unit: Unit, ours: Series) -> Self {
        Self {
            measured: measured.to_owned(),
            unit,
            ours,
            referee: None,
            besides: String::new(),
        }
    }

    /// With a word in the last column.
    pub(crate) fn besides(mut self, besides: String) -> Self {
        self.besides = besides;
        self
    }

    fn percent(&self) -> Option<f64> {
        let (_, theirs) = self.referee.as_ref()?;
        let ratio = self.ours.median() / theirs.median();
        let speed = match self.unit.more_is_faster() {
            true => ratio,
            false => ratio.recip(),
        };
        Some(100.0 * speed)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            measured,
            ours,
            besides,
            ..
        } = self;
        let unit = self.unit.name();
        write!(f, "| {measured} | {ours} {unit} | ")?;
        match &self.referee {
            Some((name, theirs)) => write!(f, "{name}: {theirs} {unit} | ")?,
            None => f.write_str("– | ")?,
        }
        match self.percent() {
            Some(percent) => write!(f, "{percent:.0} % | ")?,
            None => f.write_str("– | ")?,
        }
        write!(f, "{besides} |")
    }
}
