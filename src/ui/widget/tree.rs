//! The study in one line: what is done, what runs and how far, what waits.

use ratatui::style::Style;

use super::super::figure;
use super::super::pen::Pen;
use super::super::scene::Scene;
use super::super::text;
use super::super::theme::Theme;
use super::bar;
use crate::measurement::{Measurement, Metric};
use crate::state::{NetworkState, Status};

/// Cells of the bar of what runs.
const BAR: usize = 12;

/// Draws the tree line: `✓ ● reference 90.4   ▸ ▲ pruned ━━━━╸──── 64 %   ○ ■ 8 bit`.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, theme: Theme) {
    let networks = &scene.state().networks;
    if networks.is_empty() {
        pen.put(1, 0, "no study yet", theme.dim());
        return;
    }
    let plans = scene.plans();
    let width = usize::from(pen.width()).saturating_sub(1);
    // Names are shortened until everything fits; if it never does, what was finished first is left out.
    let mut items: Vec<Vec<(String, Style)>> = Vec::new();
    for longest in [40, 24, 16, 12, 8, 4] {
        items = networks
            .iter()
            .map(|network| {
                let glyph = super::super::theme::glyph(network.plan.id, &plans);
                item(network, glyph, longest, theme)
            })
            .collect();
        if total(&items) <= width {
            break;
        }
    }
    let mut left_out = 0;
    while total(&items) + 4 > width && items.len() > 1 && total(&items) > width {
        items.remove(0);
        left_out += 1;
    }
    let mut x = 1;
    if left_out > 0 {
        x = pen.put(x, 0, &format!("…{left_out} "), theme.dim());
    }
    for item in items {
        for (words, style) in item {
            x = pen.put(x, 0, &words, style);
        }
        x += 3;
    }
}

fn total(items: &[Vec<(String, Style)>]) -> usize {
    items
        .iter()
        .map(|item| {
            3 + item
                .iter()
                .map(|(words, _)| text::width(words))
                .sum::<usize>()
        })
        .sum::<usize>()
        .saturating_sub(3)
}

fn item(network: &NetworkState, glyph: char, longest: usize, theme: Theme) -> Vec<(String, Style)> {
    let id = network.plan.id;
    let (mark, style) = match &network.status {
        Status::Waiting if network.stages.iter().any(|stage| stage.started.is_some()) => {
            ("▸", theme.accent())
        }
        Status::Waiting => ("○", theme.dim()),
        Status::Running { .. } => ("▸", theme.accent()),
        Status::Done => ("✓", theme.good()),
        Status::Failed(_) => ("✗", theme.error()),
        Status::Cancelled => ("–", theme.warning()),
    };
    let name = text::fit(&text::clean(&network.plan.name), longest);
    let name_style = if network.status == Status::Waiting {
        theme.dim()
    } else {
        theme.text()
    };
    let mut parts = vec![
        (format!("{mark} "), style),
        (format!("{glyph} "), theme.network(id)),
        (name, name_style),
    ];
    match &network.status {
        Status::Running { .. } => {
            let share = network.share();
            let (done, rest) = bar::progress(share, if longest > 8 { BAR } else { 6 });
            parts.push((format!(" {done}"), theme.accent()));
            parts.push((rest, theme.border()));
            parts.push((format!(" {:.0} %", share * 100.0), theme.text()));
        }
        Status::Done => {
            if let Some(accuracy) = accuracy(network) {
                parts.push((format!(" {}", figure::percent(accuracy)), theme.text()));
            }
        }
        Status::Failed(_) => parts.push((" failed".to_owned(), theme.error())),
        Status::Cancelled => parts.push((" stopped".to_owned(), theme.warning())),
        Status::Waiting => {}
    }
    parts
}

/// The accuracy on clean test images, as it was measured last.
pub fn accuracy(network: &NetworkState) -> Option<f64> {
    network
        .measurements
        .latest(Metric::Accuracy, None, None)
        .and_then(Measurement::scalar)
}
