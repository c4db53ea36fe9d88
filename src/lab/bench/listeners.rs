//! What listeners cost a training: recorder and screen hear its reports in every other stretch alone.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::lab::context::Sink;
use crate::lab::error::Result;
use crate::lab::statistics::{bootstrap, quantile};
use crate::nn::rng::Rng;

/// A stretch of training with listeners or without.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    pub heard: bool,
    pub seconds_per_step: f64,
}

/// How long a stretch is timed, and how long before that it goes on untimed: what the stretch before left to be drawn
/// is drawn within a tenth of a second.
const STRETCH: Duration = Duration::from_secs(1);
const SETTLING: Duration = Duration::from_millis(200);

/// What was timed of a stretch so far.
#[derive(Debug, Default)]
struct Timed {
    spent: Duration,
    steps: u64,
    /// The report before, where nothing but training lies between.
    before: Option<(Instant, u64)>,
}

/// Lets every other stretch of a training's reports pass, and times both kinds: what listeners cost is their difference,
/// met alike by whatever else the machine does.
pub struct Alternating<S> {
    inner: S,
    heard: bool,
    since: Instant,
    timed: Option<Timed>,
    stretches: Arc<Mutex<Vec<Stretch>>>,
}

impl<S: Sink> Alternating<S> {
    /// Reports that come from now on; stretches are put there.
    pub fn new(inner: S, stretches: Arc<Mutex<Vec<Stretch>>>) -> Self {
        Self {
            inner,
            heard: true,
            since: Instant::now(),
            timed: None,
            stretches,
        }
    }

    fn reported(&mut self, now: Instant, step: u64) {
        let settled = now - self.since >= SETTLING;
        let Some(timed) = &mut self.timed else {
            if settled {
                self.timed = Some(Timed {
                    before: Some((now, step)),
                    ..Timed::default()
                });
            }
            return;
        };
        if let Some((at, first)) = timed.before {
            timed.spent += now - at;
            timed.steps += step - first;
        }
        timed.before = Some((now, step));
        if timed.spent < STRETCH {
            return;
        }
        let stretch = Stretch {
            heard: self.heard,
            seconds_per_step: timed.spent.as_secs_f64() / timed.steps as f64,
        };
        if let Ok(mut stretches) = self.stretches.lock() {
            stretches.push(stretch);
        }
        self.heard = !self.heard;
        self.begin(now);
    }

    fn begin(&mut self, now: Instant) {
        self.since = now;
        self.timed = None;
    }
}

impl<S: Sink> Sink for Alternating<S> {
    fn state(&mut self, event: Event) -> Result<()> {
        let now = Instant::now();
        let Event::StepsTrained { step, .. } = event else {
            // What is more than training belongs to no stretch, which goes on behind it: an epoch of a quick network is
            // over sooner than a stretch.
            if let Some(timed) = &mut self.timed {
                timed.before = None;
            }
            return self.inner.state(event);
        };
        let heard = self.heard;
        self.reported(now, step);
        if heard {
            return self.inner.state(event);
        }
        Ok(())
    }

    fn remark(&mut self, remark: &str) {
        self.inner.remark(remark);
    }
}

/// By how much listeners slow a training down, as a share, with its 95 % interval: the median over the stretches with
/// them of the time of a step beside the mean of the stretches without that surround it. Nothing without three of them.
pub fn slow_down(stretches: &[Stretch]) -> Option<(f64, (f64, f64))> {
    let ratios: Vec<f64> = stretches
        .windows(3)
        .filter(|three| three[1].heard && !three[0].heard && !three[2].heard)
        .map(|three| {
            let around = f64::midpoint(three[0].seconds_per_step, three[2].seconds_per_step);
            three[1].seconds_per_step / around - 1.0
        })
        .collect();
    if ratios.len() < 3 {
        return None;
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        quantile(&values, 0.5)
    };
    let mut rng = Rng::stream(0, "bench", &[1]);
    let interval = bootstrap(ratios.len(), &mut rng, |drawn| {
        median(drawn.iter().map(|at| ratios[*at]).collect())
    });
    Some((median(ratios), interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(step: u64) -> Event {
        let score = crate::measurement::Score(1.0);
        Event::StepsTrained {
            network: crate::spec::NetworkId(0),
            stage: 0,
            step,
            count: 10,
            images: 640,
            loss_mean: score,
            loss_min: score,
            loss_max: score,
            learning_rate: score,
        }
    }

    /// Reports every tenth of a second; a step takes longer while somebody listens.
    #[test]
    fn stretches_alternate_and_leave_out_what_settles() {
        let stretches = Arc::new(Mutex::new(Vec::new()));
        let mut sink = Alternating::new(Vec::<Event>::new(), Arc::clone(&stretches));
        let (mut now, mut step) = (sink.since, 0);
        for _ in 0..120 {
            now += Duration::from_millis(if sink.heard { 101 } else { 100 });
            step += 10;
            sink.reported(now, step);
        }
        let stretches = stretches.lock().unwrap().clone();
        assert!(stretches.len() >= 8, "{stretches:?}");
        for (at, stretch) in stretches.iter().enumerate() {
            assert_eq!(stretch.heard, at % 2 == 0);
            let expected = if stretch.heard { 0.0101 } else { 0.01 };
            assert!((stretch.seconds_per_step - expected).abs() < 1e-9);
        }
        let (slow_down, (low, high)) = slow_down(&stretches).unwrap();
        assert!((slow_down - 0.01).abs() < 1e-6 && low <= slow_down && slow_down <= high);
        assert_eq!(super::slow_down(&stretches[..4]), None);
    }

    /// Epochs of three reports, with half a second between them that is no training.
    #[test]
    fn epochs_that_are_shorter_than_a_stretch_are_put_together() {
        let stretches = Arc::new(Mutex::new(Vec::new()));
        let mut sink = Alternating::new(Vec::<Event>::new(), Arc::clone(&stretches));
        let (mut now, mut step) = (sink.since, 0);
        for _ in 0..40 {
            for _ in 0..3 {
                now += Duration::from_millis(100);
                step += 10;
                sink.reported(now, step);
            }
            sink.state(Event::Paused).unwrap();
            now += Duration::from_millis(500);
        }
        let stretches = stretches.lock().unwrap().clone();
        assert!(stretches.len() >= 6, "{stretches:?}");
        for stretch in stretches {
            assert!(
                (stretch.seconds_per_step - 0.01).abs() < 1e-9,
                "{stretch:?}"
            );
        }
    }

    #[test]
    fn only_reports_are_held_back() {
        let mut sink = Alternating::new(Vec::new(), Arc::default());
        sink.heard = false;
        sink.state(steps(10)).unwrap();
        assert_eq!(sink.inner, []);
        sink.state(Event::Paused).unwrap();
        sink.heard = true;
        sink.state(steps(20)).unwrap();
        assert_eq!(sink.inner, [Event::Paused, steps(20)]);
    }
}
