//! Loss over steps: the smooth line of training on the band of its steps, and validation at the end of each epoch.

use super::axis::Scale;
use super::canvas::{Canvas, Look};
use super::{MARGIN, WIDTH};
use crate::state::{Block, NetworkState, Smoothing, State};

/// Room for the labels of the axis, for the legend, and for the curves.
const LEFT: f64 = 56.0;
const LEGEND: f64 = 250.0;
const HEIGHT: f64 = 260.0;
const LEGEND_ROW: f64 = 34.0;

/// Columns into which the curve is cut: two pixels each.
const COLUMNS: usize = 320;

pub(super) fn draw(state: &State, canvas: &mut Canvas, top: f64) -> f64 {
    let trained: Vec<&NetworkState> = state
        .networks
        .iter()
        .map(|network| &**network)
        .filter(|network| !network.loss.is_empty())
        .collect();
    let steps = trained.iter().filter_map(|network| network.loss.steps());
    let Some((first, last)) = steps.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else {
        return top;
    };
    canvas.text(
        MARGIN,
        top,
        "panel",
        "start",
        "Loss: training (line, smoothing 0.9; band of single steps) and validation (marks), nats",
    );
    let (left, right) = (MARGIN + LEFT, WIDTH - MARGIN - LEGEND);
    let (above, below) = (top + 12.0, top + 12.0 + HEIGHT);
    let x = Scale::new(first as f64, last as f64, left, right);
    let y = Scale::new(
        0.0_f64.min(least(&trained)),
        greatest(&trained) * 1.05,
        below,
        above,
    );
    for (value, label) in y.ticks() {
        canvas.line((left, y.at(value)), (right, y.at(value)), "grid");
        canvas.text(left - 6.0, y.at(value) + 4.0, "label", "end", &label);
    }
    for (value, label) in x.ticks() {
        canvas.line((x.at(value), below), (x.at(value), below + 4.0), "axis");
        canvas.text(x.at(value), below + 18.0, "label", "middle", &label);
    }
    canvas.text(right, below + 32.0, "small", "end", "optimizer steps");
    canvas.line((left, below), (right, below), "axis");
    canvas.clip(left, above, right - left, HEIGHT);
    for network in &trained {
        let look = Look::of(state, network.plan.id);
        let blocks = network.loss.columns(first, last, COLUMNS);
        // A value that is not finite breaks the line.
        for run in blocks
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .split(|block| block.not_finite > 0)
        {
            let at = |block: &Block, value: f64| (x.at(block.to as f64), y.at(value));
            let upper = run.iter().map(|block| at(block, block.max));
            let lower = run.iter().rev().map(|block| at(block, block.min));
            let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
            let line: Vec<(f64, f64)> = run
                .iter()
                .filter_map(|block| Some(at(block, block.smooth(Smoothing::Medium)?)))
                .collect();
            if line.len() > 1 {
                canvas.area(&outline, look.color);
                canvas.path(&line, look.color, 1.5);
            }
        }
    }
    canvas.unclip();
    for network in &trained {
        let look = Look::of(state, network.plan.id);
        for epoch in &network.epochs {
            if epoch.validation.loss.0.is_finite() {
                let (x, y) = (x.at(epoch.step as f64), y.at(epoch.validation.loss.0));
                canvas.mark(look, x, y);
            }
        }
    }
    for (row, network) in trained.iter().enumerate() {
        let line = above + 10.0 + row as f64 * LEGEND_ROW;
        canvas.mark(Look::of(state, network.plan.id), right + 20.0, line - 4.0);
        let beside = right + 34.0;
        canvas.text(beside, line, "label", "start", &network.plan.name);
        canvas.text(beside, line + 13.0, "small", "start", &reached(network));
    }
    let legend = above + LEGEND_ROW * trained.len() as f64;
    below.max(legend) + 60.0
}

/// What the last epoch came to, in words.
fn reached(network: &NetworkState) -> String {
    let mut words = Vec::new();
    if let Some(epoch) = network.epochs.last() {
        words.push(format!(
            "epoch {}: training {:.3}, validation {:.3}",
            epoch.epoch, epoch.train.loss.0, epoch.validation.loss.0
        ));
    }
    if network.loss.not_finite() > 0 {
        words.push(format!("{} not finite", network.loss.not_finite()));
    }
    words.join(", ")
}

/// The values that the axis must show: the smooth lines and the validation losses.
fn shown<'a>(networks: &'a [&NetworkState]) -> impl Iterator<Item = f64> + 'a {
    networks.iter().flat_map(|network| {
        let blocks = network
            .loss
            .steps()
            .map(|(first, last)| network.loss.columns(first, last, COLUMNS))
            .unwrap_or_default();
        let smooth = blocks
            .into_iter()
            .flatten()
            .filter_map(|block| block.smooth(Smoothing::Medium));
        let validation = network.epochs.iter().map(|epoch| epoch.validation.loss.0);
        smooth.chain(validation).filter(|value| value.is_finite())
    })
}

fn least(networks: &[&NetworkState]) -> f64 {
    shown(networks).reduce(f64::min).unwrap_or(0.0)
}

fn greatest(networks: &[&NetworkState]) -> f64 {
    shown(networks).reduce(f64::max).unwrap_or(1.0)
}
