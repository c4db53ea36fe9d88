//! The map: each epoch of each network is a point, and near means that they answer alike.

use super::axis::Scale;
use super::canvas::{Canvas, Look};
use super::{MARGIN, WIDTH};
use crate::measurement::{MapPoint, Verdict};
use crate::spec::NetworkId;
use crate::state::{Landscape, State, counted};

/// The square in which the points lie.
const SIDE: f64 = 420.0;

/// One map for each reference, below each other.
pub(super) fn draw(state: &State, canvas: &mut Canvas, top: f64) -> f64 {
    state
        .landscapes
        .values()
        .fold(top, |top, landscape| map(state, landscape, canvas, top))
}

fn map(state: &State, landscape: &Landscape, canvas: &mut Canvas, top: f64) -> f64 {
    let Some(map) = landscape.map("mds").or(landscape.maps.first()) else {
        return top;
    };
    let points: Vec<&MapPoint> = map
        .points
        .iter()
        .filter(|point| point.x.0.is_finite() && point.y.0.is_finite())
        .collect();
    if points.is_empty() {
        return top;
    }
    let title = format!(
        "Function: {} of Jensen-Shannon distances, trails over epochs, {} points",
        map.method,
        points.len()
    );
    canvas.text(MARGIN, top, "panel", "start", &title);
    let extent = |of: fn(&MapPoint) -> f64| {
        let all = points.iter().map(|point| of(point));
        let low = all.clone().reduce(f64::min).unwrap_or(0.0);
        let high = all.reduce(f64::max).unwrap_or(0.0);
        (low, high)
    };
    let ((left, right), (low, high)) = (extent(|p| p.x.0), extent(|p| p.y.0));
    // One unit is as long in both directions.
    let reach = (right - left).max(high - low).max(f64::MIN_POSITIVE) * 0.55;
    let (middle_x, middle_y) = (f64::midpoint(left, right), f64::midpoint(low, high));
    let begin = MARGIN + 40.0;
    let above = top + 14.0;
    let x = Scale::new(middle_x - reach, middle_x + reach, begin, begin + SIDE);
    let y = Scale::new(middle_y - reach, middle_y + reach, above + SIDE, above);
    for side in [0.0, SIDE] {
        canvas.line((begin, above + side), (begin + SIDE, above + side), "grid");
        canvas.line((begin + side, above), (begin + side, above + SIDE), "grid");
    }
    let mut networks: Vec<NetworkId> = points.iter().map(|point| point.network).collect();
    networks.sort_unstable();
    networks.dedup();
    for (row, network) in networks.iter().enumerate() {
        let look = Look::of(state, *network);
        let trail: Vec<(f64, f64)> = points
            .iter()
            .filter(|point| point.network == *network)
            .map(|point| (x.at(point.x.0), y.at(point.y.0)))
            .collect();
        if trail.len() > 1 {
            canvas.path(&trail, look.color, 1.0);
        }
        for (x, y) in &trail {
            canvas.mark(look, *x, *y);
        }
        if let Some((x, y)) = trail.last() {
            canvas.text(x + 12.0, y + 4.0, "small", "start", &state.name(*network));
        }
        let line = above + 14.0 + row as f64 * 20.0;
        let beside = begin + SIDE + 30.0;
        canvas.mark(look, beside, line - 4.0);
        let words = format!("{}{}", state.name(*network), verdict(state, *network));
        canvas.text(beside + 14.0, line, "label", "start", &words);
    }
    debug_assert!(begin + SIDE < WIDTH);
    let legend = above + 14.0 + networks.len() as f64 * 20.0;
    (above + SIDE).max(legend) + 36.0
}

fn verdict(state: &State, network: NetworkId) -> String {
    let Some(found) = state.landscape(network).verdict(network) else {
        return String::new();
    };
    let answer = match found.verdict {
        Verdict::Nearer => "yes",
        Verdict::Farther => "no",
        Verdict::Undecided => "undecided",
    };
    let twins = counted(u64::from(found.twins), "twin");
    format!(": nearer than a twin? {answer} ({twins})")
}
