//! The functional landscape: every epoch of every network is one point, its softmax outputs on the test images.
//!
//! Two points are as far apart as the root of the mean Jensen-Shannon divergence of their outputs, which is a metric:
//! 0 where two networks say the same, √ln 2 = 0.8326 where they agree on nothing (Endres & Schindelin 2003).
//! Points of all runs are embedded jointly (Fort et al. 2019, arXiv:1912.02757). Classical scaling of these distances
//! is the map, since it is determined by them; principal components or t-SNE can be had beside it.
//!
//! One row of distances is stated per new point, and the maps as they then stand, each laid over the one before.

use std::collections::BTreeMap;
use std::rc::Rc;

use rayon::prelude::*;

use crate::event::Event;
use crate::lab::context::Context;
use crate::lab::error::{Error, Result};
use crate::lab::outputs::Outputs;
use crate::lab::statistics::{Pair, negative_entropies};
use crate::measurement::{Direction, MapPoint, Measurement, Metric, Score, Unit, Value};
use crate::spec::{NetworkId, Setting};

mod alignment;
mod scaling;
mod t_sne;

/// The id of the probe in whose name rows and maps are stated.
pub const PROBE: &str = "functional-landscape";

/// The fewest points that span a plane.
const LEAST_POINTS: usize = 3;

/// How points are laid out in the plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Method {
    /// Classical scaling of the distances.
    Mds,
    /// Principal components of the outputs.
    Pca,
    TSne,
}

impl Method {
    /// The name in a finding, and the word of the knob.
    fn name(self) -> &'static str {
        match self {
            Self::Mds => "mds",
            Self::Pca => "pca",
            Self::TSne => "t-sne",
        }
    }
}

/// A network at an epoch.
struct Point {
    network: NetworkId,
    epoch: u32,
    outputs: Rc<Outputs>,
    negative_entropies: Vec<f64>,
}

/// All points so far, with their distances and the maps stated last.
pub struct Landscape {
    methods: Vec<Method>,
    points: Vec<Point>,
    /// Row i holds the distances of point i to points 0..i.
    rows: Vec<Vec<f64>>,
    /// The same with the mean squared difference of outputs, while principal components are asked for.
    squares: Vec<Vec<f64>>,
    maps: BTreeMap<Method, Vec<[f64; 2]>>,
}

impl Landscape {
    /// No points yet. The checked setting is the probe's: its `map` is drawn beside classical scaling.
    pub fn new(setting: &Setting) -> Self {
        let methods = match setting.choice("map") {
            "pca" => vec![Method::Mds, Method::Pca],
            "t-sne" => vec![Method::Mds, Method::Pca, Method::TSne],
            _ => vec![Method::Mds],
        };
        Self {
            methods,
            points: Vec::new(),
            rows: Vec::new(),
            squares: Vec::new(),
            maps: BTreeMap::new(),
        }
    }

    /// Adds a point, and states its row of distances and the maps as they are with it.
    ///
    /// # Errors
    /// When the outputs are on other images than those before, or the user stopped it.
    pub fn join(
        &mut self,
        network: NetworkId,
        epoch: u32,
        stage: u32,
        outputs: Rc<Outputs>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        if let Some(first) = self.points.first()
            && (first.outputs.len(), first.outputs.classes) != (outputs.len(), outputs.classes)
        {
            let problem = format!("outputs of {network} are not on the images of those before");
            return Err(Error::Internal(problem));
        }
        let images = outputs.len() as u64;
        let negative_entropies = negative_entropies(&outputs);
        self.measure(&outputs, &negative_entropies);
        self.points.push(Point {
            network,
            epoch,
            outputs,
            negative_entropies,
        });
        let finding = |value| {
            Event::Measured(Measurement {
                probe: PROBE.into(),
                metric: Metric::Landscape,
                network,
                stage,
                epoch,
                against: None,
                condition: None,
                severity: None,
                value,
                unit: Unit::None,
                direction: Direction::Neutral,
                interval: None,
                n: Some(images),
                budget: None,
                paired: None,
                estimator: None,
            })
        };
        let row = self
            .rows
            .last()
            .into_iter()
            .flatten()
            .map(|&distance| short(distance))
            .collect();
        cx.emit_unkept(finding(Value::Row(row)))?;
        for method in self.methods.clone() {
            if let Some(points) = self.draw(method)? {
                cx.emit_unkept(finding(Value::Scatter {
                    method: method.name().into(),
                    points,
                }))?;
            }
        }
        Ok(())
    }

    /// Distances of a new point to all there are. Every pair is summed by one thread in the order of the images, so
    /// that the number of threads changes nothing.
    fn measure(&mut self, outputs: &Outputs, known: &[f64]) {
        let others: Vec<(&Outputs, &[f64])> = self
            .points
            .iter()
            .map(|point| (&*point.outputs, &*point.negative_entropies))
            .collect();
        let row = others
            .par_iter()
            .map(|&(other, theirs)| {
                Pair {
                    outputs: [other, outputs],
                    negative_entropies: [theirs, known],
                }
                .mean_divergence()
                .sqrt()
            })
            .collect();
        self.rows.push(row);
        if self.methods.contains(&Method::Pca) {
            let images = outputs.len() as f64;
            let row = others
                .par_iter()
                .map(|(other, _)| {
                    let pairs = other.probabilities.iter().zip(&outputs.probabilities);
                    pairs
                        .map(|(&p, &q)| (f64::from(p) - f64::from(q)).powi(2))
                        .sum::<f64>()
                        / images
                })
                .collect();
            self.squares.push(row);
        }
    }

    /// The map of all points by this method, laid over the one before; none while there are too few points.
    fn draw(&mut self, method: Method) -> Result<Option<Vec<MapPoint>>> {
        if self.points.len() < LEAST_POINTS {
            return Ok(None);
        }
        let squared = |rows| symmetric(rows, |distance| distance * distance);
        let mut map = match method {
            Method::Mds => scaling::classical(&squared(&self.rows)),
            Method::Pca => scaling::classical(&symmetric(&self.squares, |square| square)),
            Method::TSne => {
                let start = scaling::classical(&squared(&self.rows));
                match t_sne::map(&symmetric(&self.rows, |distance| distance), &start)? {
                    Some(map) => map,
                    None => return Ok(None),
                }
            }
        };
        if let Some(before) = self.maps.get(&method) {
            alignment::align(&mut map, before);
        }
        let points = self
            .points
            .iter()
            .zip(&map)
            .map(|(point, &[x, y])| MapPoint {
                network: point.network,
                epoch: point.epoch,
                x: short(x),
                y: short(y),
            });
        let points = points.collect();
        self.maps.insert(method, map);
        Ok(Some(points))
    }
}

/// Seven digits are more than a map or a table can show.
fn short(value: f64) -> Score {
    Score::short(value as f32)
}

/// The full matrix of a lower triangle with zeros on its diagonal.
fn symmetric(rows: &[Vec<f64>], entry: impl Fn(f64) -> f64) -> Vec<Vec<f64>> {
    let n = rows.len();
    let mut full = vec![vec![0.0; n]; n];
    for (i, row) in rows.iter().enumerate() {
        for (j, &value) in row.iter().enumerate() {
            full[i][j] = entry(value);
            full[j][i] = entry(value);
        }
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::context::Control;
    use crate::nn::rng::Rng;
    use crate::spec::KnobValue;

    fn setting(map: &str) -> Setting {
        Setting::default().with("map", KnobValue::Choice(map.into()))
    }

    /// Outputs of a network that is `share` of the way from one random network to another.
    fn outputs(from: u64, to: u64, share: f32) -> Rc<Outputs> {
        let mut ends = [from, to].map(|seed| Rng::stream(seed, "test", &[]));
        let mut probabilities = Vec::new();
        for _ in 0..200 {
            let row: Vec<f32> = (0..4)
                .map(|_| {
                    let [a, b] = ends.each_mut().map(|rng| (2.0 * rng.normal()).exp() as f32);
                    a * (1.0 - share) + b * share
                })
                .collect();
            let sum: f32 = row.iter().sum();
            probabilities.extend(row.iter().map(|p| p / sum));
        }
        Rc::new(Outputs {
            classes: 4,
            probabilities,
        })
    }

    fn explore(map: &str, points: u32) -> Vec<Value> {
        let mut events: Vec<Event> = Vec::new();
        let mut control = Control::default();
        let mut cx = Context::new(&mut events, &mut control, NetworkId(0));
        let mut landscape = Landscape::new(&setting(map));
        for epoch in 0..points {
            let joining = outputs(1, 2 + u64::from(epoch % 2), epoch as f32 / points as f32);
            landscape
                .join(NetworkId(epoch % 2), epoch, 0, joining, &mut cx)
                .unwrap();
        }
        let value = |event| match event {
            Event::Measured(measurement) => measurement.value,
            other => panic!("{other:?}"),
        };
        events.into_iter().map(value).collect()
    }

    fn scatters(values: &[Value], method: &str) -> Vec<Vec<[f64; 2]>> {
        let map = |value: &Value| match value {
            Value::Scatter { method: by, points } if by == method => {
                Some(points.iter().map(|point| [point.x.0, point.y.0]).collect())
            }
            _ => None,
        };
        values.iter().filter_map(map).collect()
    }

    #[test]
    fn every_point_brings_a_row_and_from_three_on_a_map() {
        let values = explore("mds", 5);
        let rows: Vec<usize> = values
            .iter()
            .filter_map(|value| {
                if let Value::Row(row) = value {
                    Some(row.len())
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(rows, [0, 1, 2, 3, 4]);
        let sizes: Vec<usize> = scatters(&values, "mds").iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 4, 5]);
    }

    #[test]
    fn a_distance_is_the_root_of_the_mean_divergence() {
        let one_hot = |class: usize| {
            let row = (0..2).map(|k| f32::from(u8::from(k == class)));
            Rc::new(Outputs {
                classes: 2,
                probabilities: row.collect(),
            })
        };
        let mut events: Vec<Event> = Vec::new();
        let mut control = Control::default();
        let mut cx = Context::new(&mut events, &mut control, NetworkId(0));
        let mut landscape = Landscape::new(&setting("mds"));
        for (epoch, class) in [0, 0, 1].into_iter().enumerate() {
            landscape
                .join(NetworkId(0), epoch as u32, 0, one_hot(class), &mut cx)
                .unwrap();
        }
        let root = 2_f64.ln().sqrt();
        assert_eq!(landscape.rows, [vec![], vec![0.0], vec![root, root]]);
        let other = Rc::new(Outputs {
            classes: 2,
            probabilities: vec![0.5; 4],
        });
        assert!(landscape.join(NetworkId(0), 3, 0, other, &mut cx).is_err());
    }

    #[test]
    fn t_sne_is_refused_below_seven_points() {
        let values = explore("t-sne", 8);
        assert_eq!(scatters(&values, "t-sne").len(), 2);
        assert_eq!(scatters(&values, "mds").len(), 6);
    }

    #[test]
    fn maps_are_equal_bit_for_bit_in_two_runs_and_with_other_threads() {
        for map in ["mds", "pca", "t-sne"] {
            let once = explore(map, 9);
            assert_eq!(once, explore(map, 9));
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(3)
                .build()
                .unwrap();
            assert_eq!(once, pool.install(|| explore(map, 9)), "{map}");
        }
    }

    #[test]
    fn a_new_map_lies_over_the_one_before() {
        for method in ["mds", "pca"] {
            let maps = scatters(&explore(method, 12), method);
            let spread = |map: &[[f64; 2]]| map.iter().map(|[x, y]| x * x + y * y).sum::<f64>();
            for pair in maps.windows(2).skip(3) {
                let moved: f64 = pair[0]
                    .iter()
                    .zip(&pair[1])
                    .map(|(a, b)| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2))
                    .sum();
                assert!(
                    moved < 0.2 * spread(&pair[0]),
                    "{method}: points jump by {moved}"
                );
            }
        }
    }
}
