//! Passes in turns, and the table of what they measured.

use std::fmt;
use std::ops::RangeInclusive;

use crate::aim::Aim;
use crate::{Outcome, interrupt};

/// Passes that count; one more before them is dropped.
const ROUNDS: u64 = 5;

/// The same where a pass takes seconds.
const FEW_ROUNDS: u64 = 3;

/// All rounds, the dropped one included.
pub(crate) fn rounds() -> RangeInclusive<u64> {
    0..=ROUNDS
}

/// All rounds where a pass takes seconds, the dropped one included.
pub(crate) fn few_rounds() -> RangeInclusive<u64> {
    0..=FEW_ROUNDS
}

/// The first two lines of the table.
pub(crate) const HEAD: &str =
    "| measured | ours | referee | speed of the referee's | floor (goal) | besides |
|---|---|---|---|---|---|";

/// What a figure counts, and whether more of it is faster.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    MibPerSecond,
    FilesPerSecond,
    ReadsPerSecond,
    Milliseconds,
    CpuSecondsPerGib,
    CpuMillisecondsPerThousand,
    RoundTrips,
    Mib,
    Requests,
    /// Bytes sent for each byte asked.
    Times,
}

impl Unit {
    fn more_is_faster(self) -> bool {
        matches!(
            self,
            Self::MibPerSecond | Self::FilesPerSecond | Self::ReadsPerSecond
        )
    }

    fn name(self) -> &'static str {
        match self {
            Self::MibPerSecond => "MiB/s",
            Self::FilesPerSecond => "files/s",
            Self::ReadsPerSecond => "reads/s",
            Self::Milliseconds => "ms",
            Self::CpuSecondsPerGib => "CPU-s/GiB",
            Self::CpuMillisecondsPerThousand => "CPU-ms/1,000 files",
            Self::RoundTrips => "round trips",
            Self::Mib => "MiB",
            Self::Requests => "requests",
            Self::Times => "×",
        }
    }
}

/// One figure of each pass that counts.
#[derive(Clone, Debug, Default)]
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

    /// A series of one figure, of all passes together.
    pub(crate) fn of_all(figure: f64) -> Self {
        Self(vec![figure])
    }

    fn most(&self) -> f64 {
        quantile(&self.0, 1.0)
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
        if self.0.len() == 1 {
            return f.write_str(&median);
        }
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

/// The line of a case that failed, whatever its error has in it.
pub(crate) fn failure(case: &str, err: &str) -> String {
    let err = err.replace(['|', '\n', '\r'], " ");
    format!("| {case} | **failed**: {} | – | – | – |  |", err.trim())
}

/// A line of the table.
pub(crate) struct Row {
    measured: String,
    unit: Unit,
    ours: Series,
    referee: Option<(&'static str, Series)>,
    aim: Option<Aim>,
    /// The figure is not of what the line is about.
    beside_the_point: bool,
    besides: String,
}

impl Row {
    /// Runs both sides in turns; a pass is told its round, 0 being the one that is dropped, and gives its figure.
    pub(crate) fn in_turns(
        measured: &str,
        unit: Unit,
        ours: impl FnMut(u64) -> Outcome<f64>,
        referee: (&'static str, impl FnMut(u64) -> Outcome<f64>),
    ) -> Outcome<Self> {
        Self::in_turns_of(rounds(), measured, unit, ours, referee)
    }

    /// The same with other `rounds`.
    pub(crate) fn in_turns_of(
        rounds: RangeInclusive<u64>,
        measured: &str,
        unit: Unit,
        mut ours: impl FnMut(u64) -> Outcome<f64>,
        (name, mut referee): (&'static str, impl FnMut(u64) -> Outcome<f64>),
    ) -> Outcome<Self> {
        let mut row = Self::alone(measured, unit, Series::default());
        let mut theirs = Series::default();
        for round in rounds {
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
            aim: None,
            beside_the_point: false,
            besides: String::new(),
        }
    }

    /// Figures of passes that ran beside others.
    pub(crate) fn beside(
        measured: &str,
        unit: Unit,
        ours: Series,
        referee: (&'static str, Series),
    ) -> Self {
        let referee = Some(referee);
        Self {
            referee,
            ..Self::alone(measured, unit, ours)
        }
    }

    /// With something to reach.
    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self
    }

    /// With no word of whether the aim was reached, where what is measured did not happen.
    pub(crate) fn beside_the_point(mut self, so: bool) -> Self {
        self.beside_the_point = so;
        self
    }

    /// With a word in the last column.
    pub(crate) fn besides(mut self, besides: String) -> Self {
        self.besides = besides;
        self
    }

    /// What is measured.
    pub(crate) fn measured(&self) -> &str {
        &self.measured
    }

    /// What is to be reached, what was, and that as text.
    pub(crate) fn reached(&self) -> Option<(Aim, f64, String)> {
        let aim = self.aim?;
        let (median, most) = (self.ours.median(), self.ours.most());
        let unit = self.unit.name();
        let (figure, reached) = match self.beside_the_point {
            true => (f64::NAN, "not measured".to_owned()),
            false => {
                let percent = self.percent().unwrap_or(f64::NAN);
                let figure = aim.figure(percent, median, most);
                (figure, format!("{} {}", rounded(figure), aim.unit(unit)))
            }
        };
        Some((aim, figure, format!("{reached}, wanted {}", aim.text(unit))))
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
        match self.reached() {
            Some((aim, figure, _)) => write!(f, "{}: {} | ", aim.text(unit), aim.verdict(figure))?,
            None => f.write_str("– | ")?,
        }
        write!(f, "{besides} |")
    }
}
