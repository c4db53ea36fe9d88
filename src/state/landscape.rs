//! The functional landscape: every epoch of every network is a point, and the points have distances.

use std::sync::Arc;

use crate::measurement::{MapPoint, Measurement, Score, Verdict};
use crate::spec::NetworkId;

/// A network at the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub network: NetworkId,
    pub stage: u32,
    /// Epochs that it had been trained for; 0 is before the first.
    pub epoch: u32,
}

/// The points in the plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// `mds`, `pca` or `t-sne`.
    pub method: String,
    /// Place in the log of the record that drew it.
    pub seq: u64,
    pub points: Arc<Vec<MapPoint>>,
}

/// Whether a branch lies nearer to its reference than a twin does.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearness {
    pub network: NetworkId,
    pub stage: u32,
    pub epoch: u32,
    pub verdict: Verdict,
    /// JS(branch, reference) less the smallest JS(twin, reference), in nats.
    pub difference: Score,
    /// 95 % bootstrap interval of the difference.
    pub interval: Option<(Score, Score)>,
    pub twins: u32,
    /// How many images it rests on.
    pub n: Option<u64>,
}

/// Who lies how near to whom among the networks of one reference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Landscape {
    /// In the order in which they joined.
    pub points: Vec<Point>,
    /// The distances of each point to those before it: roots of mean Jensen-Shannon divergences, from 0 to √ln 2.
    pub rows: Vec<Arc<Vec<Score>>>,
    /// The latest map of each method.
    pub maps: Vec<Map>,
    /// The latest verdict on each branch.
    pub verdicts: Vec<Nearness>,
}

/// A landscape in which nobody is yet.
pub static NOBODY: Landscape = Landscape {
    points: Vec::new(),
    rows: Vec::new(),
    maps: Vec::new(),
    verdicts: Vec::new(),
};

impl Landscape {
    /// The distance of two points in the order of joining: the root of their mean Jensen-Shannon divergence.
    pub fn distance(&self, i: usize, j: usize) -> Option<f64> {
        if i == j {
            return (i < self.points.len()).then_some(0.0);
        }
        let row = self.rows.get(i.max(j))?;
        row.get(i.min(j)).map(|distance| distance.0)
    }

    /// The latest map of a method.
    pub fn map(&self, method: &str) -> Option<&Map> {
        self.maps.iter().find(|map| map.method == method)
    }

    /// The latest verdict on a branch.
    pub fn verdict(&self, network: NetworkId) -> Option<&Nearness> {
        self.verdicts
            .iter()
            .find(|verdict| verdict.network == network)
    }

    pub(super) fn join(&mut self, found: &Measurement, distances: &[Score]) -> Option<String> {
        let known = self.points.len();
        if distances.len() != known {
            return Some(format!(
                "a point joins the landscape with {} distances to {known} points",
                distances.len()
            ));
        }
        self.points.push(Point {
            network: found.network,
            stage: found.stage,
            epoch: found.epoch,
        });
        self.rows.push(Arc::new(distances.to_vec()));
        None
    }

    pub(super) fn draw(&mut self, seq: u64, method: &str, points: &[MapPoint]) {
        let map = Map {
            method: method.to_owned(),
            seq,
            points: Arc::new(points.to_vec()),
        };
        match self.maps.iter_mut().find(|known| known.method == method) {
            Some(known) => *known = map,
            None => self.maps.push(map),
        }
    }

    pub(super) fn judge(
        &mut self,
        found: &Measurement,
        verdict: Verdict,
        difference: Score,
        twins: u32,
    ) {
        let nearness = Nearness {
            network: found.network,
            stage: found.stage,
            epoch: found.epoch,
            verdict,
            difference,
            interval: found.interval,
            twins,
            n: found.n,
        };
        match self
            .verdicts
            .iter_mut()
            .find(|known| known.network == found.network)
        {
            Some(known) => *known = nearness,
            None => self.verdicts.push(nearness),
        }
    }
}
