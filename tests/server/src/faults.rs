//! Faults: what a test lets go wrong between the server and its client.
//!
//! A fault names a route (or all), what happens there, and how often. Where several match, the one added last acts.

use std::time::Duration;

use crate::ids::Dice;
use crate::route::Route;

/// What goes wrong, on which route and how often. Without an effect it does nothing.
#[derive(Clone, Debug)]
pub struct Fault {
    route: Option<Route>,
    pub(crate) effect: Effect,
    retry_after: Option<u64>,
    delay: Duration,
    probability: Option<(f64, u64)>,
    remaining: Option<u64>,
    skipped: u64,
}

/// What a fault does to an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    /// The request is not handled; a proxy's answer comes instead.
    Status(u16),
    HtmlPage,
    EmptyBody,
    ErrorDocument,
    /// The request is not handled; an envelope with this code comes instead.
    Code(i32, String),
    /// The request is not handled; 302 to this URL.
    Redirect(String),
    /// The request is handled, its answer is lost.
    ResetBeforeHeaders,
    /// The request is handled, its answer is held back until the faults are cleared.
    Stall,
    StallAfter(u64),
    TruncateAfter(u64),
    ResetAfter(u64),
    /// A range answer with bytes, and a `Content-Range`, of another place.
    WrongRange,
    /// A range is ignored: 200 and the whole content.
    IgnoreRange,
    /// A range comes with status 200 instead of 206.
    RangeAs200,
    /// A whole and well-formed answer with half the bytes that were asked for.
    ShortContent,
    /// A range of a content that has become longer.
    ChangedLength,
}

impl Fault {
    /// A fault on one route.
    pub fn on(route: Route) -> Self {
        let effect = Effect::None;
        let delay = Duration::ZERO;
        Self {
            route: Some(route),
            effect,
            retry_after: None,
            delay,
            probability: None,
            remaining: None,
            skipped: 0,
        }
    }

    /// A fault on every route, unknown ones and the store included.
    pub fn everywhere() -> Self {
        Self {
            route: None,
            ..Self::on(Route::Unknown)
        }
    }

    fn with(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    /// An HTTP status with a proxy's HTML page; the request does not reach the server.
    pub fn status(self, status: u16) -> Self {
        self.with(Effect::Status(status))
    }

    /// A captive portal: status 200 and an HTML page; the request does not reach the server.
    pub fn html_page(self) -> Self {
        self.with(Effect::HtmlPage)
    }

    /// Status 200 and nothing; the request does not reach the server.
    pub fn empty_body(self) -> Self {
        self.with(Effect::EmptyBody)
    }

    /// Status 200 and a document that tells an error, as stores do where they began to answer before they knew; the
    /// request is not handled.
    pub fn error_document(self) -> Self {
        self.with(Effect::ErrorDocument)
    }

    /// A failure of the server's own, in its envelope; the request is not handled.
    pub fn code(self, code: i32, msg: &str) -> Self {
        self.with(Effect::Code(code, msg.to_owned()))
    }

    /// 302 to another URL; the request is not handled.
    pub fn redirect(self, location: &str) -> Self {
        self.with(Effect::Redirect(location.to_owned()))
    }

    /// The request is handled and the connection reset before any byte of the answer.
    pub fn reset_before_headers(self) -> Self {
        self.with(Effect::ResetBeforeHeaders)
    }

    /// The request is handled and its answer held back until faults are cleared or the client goes.
    pub fn stall(self) -> Self {
        self.with(Effect::Stall)
    }

    /// After so many bytes of the body nothing comes, until faults are cleared.
    pub fn stall_after(self, bytes: u64) -> Self {
        self.with(Effect::StallAfter(bytes))
    }

    /// The connection ends in good order after so many bytes of the body, short of the promised length.
    pub fn truncate_after(self, bytes: u64) -> Self {
        self.with(Effect::TruncateAfter(bytes))
    }

    /// The connection is reset after so many bytes of the body.
    pub fn reset_after(self, bytes: u64) -> Self {
        self.with(Effect::ResetAfter(bytes))
    }

    /// A range answer is of another place than asked for, and says so in `Content-Range`. Content only.
    pub fn wrong_range(self) -> Self {
        self.with(Effect::WrongRange)
    }

    /// A range is ignored: status 200 and the whole content. Content only.
    pub fn ignore_range(self) -> Self {
        self.with(Effect::IgnoreRange)
    }

    /// A range comes with status 200 and a right `Content-Range`, as from some stores behind the server. Content only.
    pub fn range_as_200(self) -> Self {
        self.with(Effect::RangeAs200)
    }

    /// A well-formed answer with half the bytes that were asked for. Content only.
    pub fn short_content(self) -> Self {
        self.with(Effect::ShortContent)
    }

    /// A range answer that says that the content is one byte longer than it was. Content only.
    pub fn changed_length(self) -> Self {
        self.with(Effect::ChangedLength)
    }

    /// Adds `Retry-After` to the answers of [`Fault::status`] and [`Fault::html_page`], in whole seconds.
    pub fn retry_after(self, length: Duration) -> Self {
        Self {
            retry_after: Some(length.as_secs()),
            ..self
        }
    }

    /// Adds this much to the time before the response headers.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Acts with probability `p` (0 to 1) on each request; the same seed makes the same choices.
    pub fn with_probability(self, p: f64, seed: u64) -> Self {
        Self {
            probability: Some((p, seed)),
            ..self
        }
    }

    /// Acts this many times, then never again.
    pub fn times(self, times: u64) -> Self {
        Self {
            remaining: Some(times),
            ..self
        }
    }

    /// Lets this many matching requests pass first.
    pub fn after(self, requests: u64) -> Self {
        Self {
            skipped: requests,
            ..self
        }
    }
}

/// What was decided for one request.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) effect: Effect,
    pub(crate) retry_after: Option<u64>,
    pub(crate) delay: Duration,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<(Fault, Dice)>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        let seed = fault.probability.map_or(0, |(_, seed)| seed);
        self.list.push((fault, Dice::new(seed)));
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    /// What happens to a request of this route; counts it.
    pub(crate) fn decide(&mut self, route: Route) -> Option<Verdict> {
        for (fault, dice) in self.list.iter_mut().rev() {
            if fault.route.is_some_and(|only| only != route) || fault.remaining == Some(0) {
                continue;
            }
            if fault.skipped > 0 {
                fault.skipped -= 1;
                continue;
            }
            if fault.probability.is_some_and(|(p, _)| dice.fraction() >= p) {
                continue;
            }
            fault.remaining = fault.remaining.map(|times| times - 1);
            let effect = fault.effect.clone();
            return Some(Verdict {
                effect,
                retry_after: fault.retry_after,
                delay: fault.delay,
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acts(faults: &mut Faults, route: Route) -> bool {
        faults.decide(route).is_some()
    }

    #[test]
    fn a_fault_acts_on_its_route_as_often_as_said_and_after_as_many_as_said() {
        let mut faults = Faults::default();
        faults.add(Fault::on(Route::List).status(500).times(2).after(1));
        assert!(!acts(&mut faults, Route::Info));
        let acted: Vec<_> = (0..5).map(|_| acts(&mut faults, Route::List)).collect();
        assert_eq!(acted, [false, true, true, false, false]);
        faults.add(Fault::everywhere().html_page());
        assert!(acts(&mut faults, Route::Info));
        faults.clear();
        assert!(!acts(&mut faults, Route::Info));
    }

    #[test]
    fn a_probability_with_a_seed_makes_the_same_choices_each_time() {
        let choices = || {
            let mut faults = Faults::default();
            faults.add(Fault::everywhere().status(500).with_probability(0.5, 11));
            (0..1000)
                .map(|_| acts(&mut faults, Route::List))
                .collect::<Vec<_>>()
        };
        assert_eq!(choices(), choices());
        let acted = choices().into_iter().filter(|acted| *acted).count();
        assert!((400..600).contains(&acted), "{acted} of 1000");
    }
}
