//! How many ranges of content to fetch side by side, and how long each is: arithmetic only.
//!
//! A connection brings what the link gives it, and is idle for a round trip before each answer. So a range is made long
//! against its first byte, and the number of lanes climbs for as long as the bytes that come over all of them grow by
//! more than noise; else it falls back, and the next trial is put off for longer each time. From time to time it tries
//! whether fewer do as well. Knows no host and no clock: instants come in.

use std::time::Duration;

use tokio::time::Instant;

/// Where it begins: with two, one brings bytes while the other waits for its first one; but where both share a link they
/// wait at the same time now and then, which costs a twentieth of it at 50 ms. With four that is rare.
pub(super) const FEWEST: usize = 4;

/// As many as browsers open to a few hosts; half of the requests for content that `api` sends at once.
const MOST: usize = 16;

/// A range takes so many times as long as its first byte, so that waiting for that costs a lane a fifth.
const FIRST_BYTES: f64 = 4.0;

/// The least and the most of a range, which is in steps of the least.
const SMALLEST_PART: u64 = 1 << 20;
const LARGEST_PART: u64 = 8 << 20;

/// What counts as growth: rates on the same link differ by a tenth from one second to the next.
const GROWTH: f64 = 1.15;

/// What counts as no loss, where there are fewer lanes.
const NO_LOSS: f64 = 0.95;

/// A trial lasts so many first bytes, or this long: a rate over less is chance.
const TRIAL_FIRST_BYTES: u32 = 10;
const SHORTEST_TRIAL: Duration = Duration::from_millis(150);

/// After a trial that brought nothing, so long until the next; doubled each time.
const SHORTEST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(160);

/// Weight of a new measure in an average.
const NEW: f64 = 0.25;

/// The pace of one host.
#[derive(Debug)]
pub(super) struct Pace {
    lanes: usize,
    /// Averages, in seconds and in bytes a second; none before the first range.
    first_byte: Option<f64>,
    lane_rate: Option<f64>,
    /// Bytes counted since an instant at which all lanes were busy, and have been since.
    trial: Option<Trial>,
    /// The lanes before the last step, and the rate they had.
    stepped: Option<(usize, f64)>,
    /// Which way the next step goes, where both are open.
    is_down_next: bool,
    /// Ranges differ in turn.
    turn: usize,
    rest: Duration,
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Trial {
    since: Instant,
    bytes: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            lanes: FEWEST,
            first_byte: None,
            lane_rate: None,
            trial: None,
            stepped: None,
            is_down_next: false,
            turn: 0,
            rest: SHORTEST_REST,
            rests_until: None,
        }
    }
}

impl Pace {
    /// How many ranges to fetch at once.
    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Bytes in one range.
    pub(super) fn part_bytes(&self) -> u64 {
        let wanted = match (self.first_byte, self.lane_rate) {
            (Some(first_byte), Some(rate)) => FIRST_BYTES * first_byte * rate,
            _ => 0.0,
        };
        let steps = (wanted / SMALLEST_PART as f64).ceil().clamp(1.0, 64.0);
        (steps as u64 * SMALLEST_PART).min(LARGEST_PART)
    }

    /// Bytes in the next range: not all alike, because lanes that began together would otherwise also end together, and
    /// all wait for their next first byte at once.
    pub(super) fn next_part_bytes(&mut self) -> u64 {
        const EIGHTHS: [u64; 4] = [8, 5, 7, 6];
        self.turn = (self.turn + 1) % EIGHTHS.len();
        self.part_bytes() / 8 * EIGHTHS[self.turn]
    }

    /// Bytes ahead of a reader: what is in the lanes, and as much again that waits for one to become free.
    pub(super) fn window_bytes(&self) -> u64 {
        2 * self.lanes as u64 * self.part_bytes()
    }

    /// A range was brought: its first byte after so long, and so many bytes in the time after that.
    pub(super) fn range_came(&mut self, first_byte: Duration, bytes: u64, time: Duration) {
        average(&mut self.first_byte, first_byte.as_secs_f64());
        // What came in no time at all is faster than can be told.
        let seconds = time.as_secs_f64().max(1e-6);
        average(&mut self.lane_rate, bytes as f64 / seconds);
    }

    /// `bytes` came, with all lanes busy or not. Whether the number of lanes changed.
    pub(super) fn bytes_came(&mut self, bytes: u64, is_full: bool, now: Instant) -> bool {
        if !is_full || self.lane_rate.is_none() {
            // Somebody else is slower than the link: nothing can be learnt about it.
            self.trial = None;
            return false;
        }
        let length = self.trial_length();
        let Some(trial) = &mut self.trial else {
            // The lanes that just began have no bytes yet.
            let since = now + Duration::from_secs_f64(2.0 * self.first_byte.unwrap_or_default());
            self.trial = Some(Trial { since, bytes: 0 });
            return false;
        };
        if now < trial.since {
            return false;
        }
        trial.bytes += bytes;
        let time = now - trial.since;
        if time < length {
            return false;
        }
        let rate = trial.bytes as f64 / time.as_secs_f64();
        self.trial = None;
        let lanes = self.lanes;
        self.judge(rate, now);
        self.lanes != lanes
    }

    /// The host refuses or breaks off what it is asked for: fewer at once.
    pub(super) fn trouble(&mut self, now: Instant) {
        self.lanes = (self.lanes / 2).max(FEWEST);
        self.give_up(now);
    }

    fn trial_length(&self) -> Duration {
        let first_byte = Duration::from_secs_f64(self.first_byte.unwrap_or_default().min(2.0));
        SHORTEST_TRIAL.max(first_byte * TRIAL_FIRST_BYTES)
    }

    fn judge(&mut self, rate: f64, now: Instant) {
        match self.stepped.take() {
            Some((before, old_rate)) => {
                let least = match before < self.lanes {
                    true => GROWTH,
                    false => NO_LOSS,
                };
                if rate >= old_rate * least {
                    self.rest = SHORTEST_REST;
                    self.step(rate, before > self.lanes);
                } else {
                    // The other way is worth a try the next time.
                    self.is_down_next = before < self.lanes;
                    self.lanes = before;
                    self.give_up(now);
                }
            }
            None if self.rests_until.is_none_or(|until| now >= until) => {
                let is_down = self.is_down_next && self.lanes > FEWEST;
                self.step(rate, is_down);
            }
            None => {}
        }
    }

    fn step(&mut self, rate: f64, is_down: bool) {
        let lanes = match is_down {
            true => (self.lanes / 2).max(FEWEST),
            false => (self.lanes * 2).min(MOST),
        };
        if lanes == self.lanes {
            self.is_down_next = lanes == MOST;
            return;
        }
        self.stepped = Some((self.lanes, rate));
        self.lanes = lanes;
    }

    fn give_up(&mut self, now: Instant) {
        self.stepped = None;
        self.trial = None;
        self.rests_until = Some(now + self.rest);
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }
}

fn average(average: &mut Option<f64>, new: f64) {
    *average = Some(average.map_or(new, |old| old + NEW * (new - old)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link in steps of a millisecond: so many bytes a second for a connection and for all, and a time to the first byte.
    struct Link {
        lane_rate: f64,
        all_rate: f64,
        first_byte: f64,
        /// By how much the rate differs from one step to the next, in parts of it.
        noise: f64,
        seed: u64,
    }

    const STEP: f64 = 0.001;

    impl Link {
        /// Reads for so many seconds as fast as the link goes; the lanes after each step.
        fn run(&mut self, pace: &mut Pace, seconds: u64) -> Vec<usize> {
            let begun = Instant::now();
            // Of each lane: seconds until its first byte, bytes left.
            let mut lanes: Vec<(f64, f64)> = Vec::new();
            let mut history = Vec::new();
            for step in 0..seconds * 1000 {
                let now = begun + Duration::from_millis(step);
                lanes.truncate(pace.lanes());
                while lanes.len() < pace.lanes() {
                    lanes.push((self.first_byte, pace.next_part_bytes() as f64));
                }
                let busy = lanes.iter().filter(|lane| lane.0 <= 0.0).count();
                let rate = self.lane_rate.min(self.all_rate / busy.max(1) as f64) * self.chance();
                let mut came = 0.0;
                for lane in &mut lanes {
                    if lane.0 > 0.0 {
                        lane.0 -= STEP;
                        continue;
                    }
                    let bytes = lane.1.min(rate * STEP);
                    came += bytes;
                    lane.1 -= bytes;
                    if lane.1 <= 0.0 {
                        let part = pace.next_part_bytes();
                        let first_byte = Duration::from_secs_f64(self.first_byte);
                        let time = Duration::from_secs_f64(part as f64 / rate);
                        pace.range_came(first_byte, part, time);
                        *lane = (self.first_byte, part as f64);
                    }
                }
                if came > 0.0 {
                    pace.bytes_came(came as u64, true, now);
                }
                history.push(pace.lanes());
            }
            history
        }

        fn chance(&mut self) -> f64 {
            self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            let chance = (self.seed >> 40) as f64 / f64::from(1 << 24);
            1.0 + self.noise * (2.0 * chance - 1.0)
        }
    }

    fn link(lane_mb: f64, all_mb: f64, first_byte: f64, noise: f64) -> Link {
        Link {
            lane_rate: lane_mb * 1e6,
            all_rate: all_mb * 1e6,
            first_byte,
            noise,
            seed: 7,
        }
    }

    fn changes(history: &[usize]) -> usize {
        history.windows(2).filter(|two| two[0] != two[1]).count()
    }

    #[test]
    fn where_each_connection_is_slow_the_lanes_climb_until_the_link_is_full() {
        let mut pace = Pace::default();
        let history = link(5.0, 50.0, 0.05, 0.1).run(&mut pace, 10);
        assert_eq!(history.last(), Some(&16), "{pace:?}");
        let climbed = history.iter().position(|lanes| *lanes == 16);
        assert!(climbed.is_some_and(|step| step < 3000), "{climbed:?}");
    }

    #[test]
    fn where_one_connection_fills_the_link_the_lanes_stay_few() {
        // A range is not made long enough for the last one, so that four lanes leave gaps.
        for (first_byte, enough) in [(0.001, FEWEST), (0.05, FEWEST), (0.3, 2 * FEWEST)] {
            let mut pace = Pace::default();
            let history = link(50.0, 50.0, first_byte, 0.05).run(&mut pace, 60);
            assert_eq!(history.last(), Some(&enough), "{pace:?}");
            assert!(changes(&history) <= 8, "{}", changes(&history));
        }
    }

    #[test]
    fn a_slow_and_noisy_link_does_not_make_the_lanes_swing() {
        let mut pace = Pace::default();
        let history = link(0.5, 0.5, 0.2, 0.6).run(&mut pace, 300);
        assert!(changes(&history) <= 14, "{}", changes(&history));
        let few = history.iter().filter(|lanes| **lanes == FEWEST).count();
        assert!(few * 10 > history.len() * 8, "{few} of {}", history.len());
    }

    #[test]
    fn a_reader_slower_than_the_link_changes_nothing() {
        let mut pace = Pace::default();
        let begun = Instant::now();
        for step in 0..10_000 {
            let now = begun + Duration::from_millis(step);
            assert!(!pace.bytes_came(1 << 20, step % 50 != 0, now));
        }
        assert_eq!(pace.lanes(), FEWEST);
    }

    #[test]
    fn a_range_is_long_against_its_first_byte_within_bounds() {
        let part = |first_byte, rate: u64| {
            let mut pace = Pace::default();
            let second = Duration::from_secs(1);
            pace.range_came(Duration::from_millis(first_byte), rate, second);
            pace.part_bytes() >> 20
        };
        assert_eq!(Pace::default().part_bytes() >> 20, 1);
        assert_eq!([part(50, 5 << 20), part(50, 25 << 20)], [1, 5]);
        assert_eq!([part(1, 1 << 10), part(900, 1 << 30)], [1, 8]);
    }

    #[test]
    fn trouble_halves_the_lanes_and_puts_the_next_trial_off() {
        let mut pace = Pace::default();
        let mut link = link(5.0, 500.0, 0.05, 0.0);
        link.run(&mut pace, 10);
        assert_eq!(pace.lanes(), 16);
        pace.trouble(Instant::now());
        assert_eq!(pace.lanes(), 8);
        assert!(link.run(&mut pace, 5).iter().all(|lanes| *lanes == 8));
    }
}
