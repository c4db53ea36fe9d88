//! Loss: is it learning?

use crate::measurement::Score;
use crate::spec::Role;
use crate::state::{NetworkState, Smoothing};
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::View;
use crate::ui::widget::curve::{Chart, Line};

/// What the title line says on the right.
pub fn note(view: &View) -> String {
    let weight = match view.smoothing {
        Smoothing::Off => "raw".to_owned(),
        other => format!(
            "smoothing {}",
            other.weight().to_string().trim_start_matches('0')
        ),
    };
    let mut note = String::new();
    if view.zoom > 0 {
        note = format!("×{} · ", 1_u64 << view.zoom);
    }
    if view.is_logarithmic {
        note += "log · ";
    }
    note + &weight
}

/// The panel: reference, candidate, and what is being trained; below, their figures.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let mut shown: Vec<&NetworkState> = Vec::new();
    let at_work = scene
        .state()
        .current
        .and_then(|(id, _)| scene.state().network(id));
    for network in [scene.reference(view), at_work, scene.candidate(view)]
        .into_iter()
        .flatten()
    {
        if shown.iter().all(|other| other.plan.id != network.plan.id) {
            shown.push(network);
        }
    }
    let told: Vec<&NetworkState> = shown
        .iter()
        .copied()
        .filter(|network| !network.loss.is_empty())
        .collect();
    let lines = told.len().min(usize::from(pen.height() / 5)).max(1) as u16;
    let height = pen.height().saturating_sub(lines);
    let chart = chart(scene, view, &shown, None);
    let mut upper = pen.part(0, 0, pen.width(), height);
    if !chart.draw(&mut upper) {
        waiting(&mut upper, scene);
        return;
    }
    // The candidate's figures are the last to be left out.
    let skip = told.len().saturating_sub(usize::from(lines));
    for (row, network) in told.iter().skip(skip).enumerate() {
        let mut line = pen.part(0, height + row as u16, pen.width(), 1);
        legend(&mut line, scene, network);
    }
}

fn waiting(pen: &mut Pen<'_>, scene: &Scene<'_>) {
    let middle = pen.height() / 2;
    let words = if scene.state().study.is_none() {
        "no study yet: 1 makes one, o opens a saved one".to_owned()
    } else if let Some((_, stage)) = scene.state().current_stage() {
        format!("waiting for the first steps: {}", stage.title)
    } else {
        "waiting for the first steps".to_owned()
    };
    pen.put_center(middle, &words, scene.theme().dim());
}

/// All networks, with a cross-hair and a table of their figures.
pub fn draw_full(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let shown: Vec<&NetworkState> = scene.state().networks.iter().map(|n| &**n).collect();
    let theme = scene.theme();
    let chart = chart(scene, view, &shown, view.cursor);
    let rows = (shown.len() as u16 + 1).min(pen.height() / 3).max(2);
    let height = pen.height().saturating_sub(rows + 1);
    let mut upper = pen.part(0, 0, pen.width(), height);
    if !chart.draw(&mut upper) {
        waiting(&mut upper, scene);
        return;
    }
    let cursor = chart.cursor_step();
    let unit = chart.unit;
    let head = match cursor {
        Some(step) => format!(
            "{:<26}{:>9}{:>9}{:>9}{:>14}   at {} {:.2}",
            "",
            "train",
            "val",
            "best",
            "val accuracy",
            unit.1,
            step as f64 / unit.0
        ),
        None => format!(
            "{:<26}{:>9}{:>9}{:>9}{:>14}   ←→ cross-hair   z Z zoom",
            "", "train", "val", "best", "val accuracy"
        ),
    };
    pen.put(1, height, &head, theme.dim());
    let most = usize::from(rows).saturating_sub(1).max(1);
    let skip = view.scroll.min(shown.len().saturating_sub(most));
    for (row, network) in shown.iter().skip(skip).take(most).enumerate() {
        let y = height + 1 + row as u16;
        let id = network.plan.id;
        let x = pen.run(
            1,
            y,
            &[
                (&scene.glyph(id).to_string(), scene.style(id)),
                (" ", theme.text()),
                (
                    &text::left(&text::clean(&network.plan.name), 24),
                    theme.text(),
                ),
            ],
        );
        let figure = |value: Option<f64>| value.map_or("—".to_owned(), figure::loss);
        let last = network.epochs.last();
        let accuracy =
            last.filter(|epoch| epoch.validation.n > 0)
                .map_or("—".to_owned(), |epoch| {
                    let share = epoch.validation.correct as f64 / epoch.validation.n as f64;
                    format!("{} %", figure::percent(share))
                });
        let words = format!(
            "{:>9}{:>9}{:>9}{:>14}",
            figure(train_loss(network, view.smoothing)),
            figure(last.map(|epoch| epoch.validation.loss.0)),
            figure(network.best_epoch().map(|epoch| epoch.validation.loss.0)),
            accuracy
        );
        let x = pen.put(x, y, &words, theme.text());
        let mut tail = String::new();
        if let Some(step) = cursor {
            let own = step.saturating_sub(offset(scene, network));
            let width = ((chart.end - chart.start) / 200).max(1);
            let at = network
                .loss
                .window(own.saturating_sub(width), own)
                .and_then(|block| Some((block.smooth(view.smoothing)?, block.min, block.max)));
            if let Some((smooth, low, high)) = at.filter(|_| step >= offset(scene, network)) {
                tail = format!(
                    "   {} ({} to {})",
                    figure::loss(smooth),
                    figure::loss(low),
                    figure::loss(high)
                );
            }
        }
        let x = pen.put(x, y, &tail, theme.accent());
        not_finite(pen, x, y, scene, network);
    }
}

fn not_finite(pen: &mut Pen<'_>, x: u16, y: u16, scene: &Scene<'_>, network: &NetworkState) {
    let count = network.loss.not_finite();
    if count > 0 {
        let words = format!("   {count} not finite");
        pen.put(x, y, &words, scene.theme().error());
    }
}

/// `● train 0.412   val 0.447   best 0.441 @ 3`
fn legend(pen: &mut Pen<'_>, scene: &Scene<'_>, network: &NetworkState) {
    let theme = scene.theme();
    let id = network.plan.id;
    let wide = pen.width() >= 46;
    let mut x = pen.run(
        1,
        0,
        &[
            (&scene.glyph(id).to_string(), scene.style(id)),
            (" ", theme.text()),
        ],
    );
    if wide {
        x = pen.put(
            x,
            0,
            &text::left(&text::clean(&network.plan.name), 9),
            theme.dim(),
        );
        x += 1;
    }
    let mut say = |name: &str, value: Option<f64>, place: &str| {
        let Some(value) = value else {
            return;
        };
        let figure = format!("{}{place}", figure::loss(value));
        // A figure is shown whole or not at all.
        if usize::from(x) + name.len() + 1 + text::width(&figure) <= usize::from(pen.width()) {
            let pieces = [
                (name, theme.dim()),
                (" ", theme.text()),
                (&*figure, theme.text()),
                ("  ", theme.text()),
            ];
            x = pen.run(x, 0, &pieces);
        }
    };
    say(
        train_word(network),
        train_loss(network, Smoothing::Medium),
        "",
    );
    let last = network.epochs.last().map(|epoch| epoch.validation.loss);
    say("val", last.map(|Score(value)| value), "");
    if let Some(best) = network.best_epoch() {
        say(
            "best",
            Some(best.validation.loss.0),
            &format!(" @{}", best.epoch),
        );
    }
    not_finite(pen, x, 0, scene, network);
}

/// The training loss of now: of the last epoch where that is complete, else of the last steps, smoothed as the line is.
fn train_loss(network: &NetworkState, smoothing: Smoothing) -> Option<f64> {
    let latest = network.loss.latest()?;
    match network.epochs.last() {
        Some(epoch) if epoch.step >= latest.to => Some(epoch.train.loss.0),
        _ => latest.smooth(smoothing),
    }
}

/// What the training loss is of: a student's is mixed with how far it is from its teacher, so it stands on another
/// scale than a cross-entropy.
fn train_word(network: &NetworkState) -> &'static str {
    let learned_from_teacher = network.plan.family == "distillation"
        && network
            .epochs
            .last()
            .is_none_or(|epoch| epoch.stage as usize == first_training(network));
    if learned_from_teacher {
        "train+teacher"
    } else {
        "train"
    }
}

fn first_training(network: &NetworkState) -> usize {
    let mut stages = network.stages.iter();
    stages.position(|stage| stage.epochs > 0).unwrap_or(0)
}

/// Steps per epoch, from what was trained or at least planned.
fn steps_per_epoch(scene: &Scene<'_>) -> Option<f64> {
    scene.state().networks.iter().find_map(|network| {
        let stage = network.stages.iter().find(|stage| stage.epochs > 0)?;
        if stage.total > 0 {
            return Some(stage.total as f64 / f64::from(stage.epochs));
        }
        let first = network.epochs.first()?;
        (first.epoch == 1).then_some(first.step as f64)
    })
}

/// Steps by which a network's curve is drawn further to the right: a branch goes on where its reference ended,
/// unless it starts from scratch or already counts on from there.
fn offset(scene: &Scene<'_>, network: &NetworkState) -> u64 {
    let from_scratch = network.plan.family == "distillation";
    if network.plan.role != Role::Branch || from_scratch {
        return 0;
    }
    let before = scene
        .reference_of(network)
        .map_or(0, |reference| reference.step);
    match network.loss.steps() {
        Some((first, _)) if first > before => 0,
        _ => before,
    }
}

/// The steps that are shown when the axis was halved so often: around the cross-hair, or up to where training is.
fn zoomed(zoom: u32, cursor: Option<f64>, end: u64, reached: u64) -> (u64, u64) {
    /// Fewer would be a line without a curve.
    const FEWEST: u64 = 10;
    let span = (end >> zoom).max(FEWEST).min(end);
    let last = match cursor {
        Some(share) => (share * end as f64).round() as u64 + span / 2,
        None if zoom > 0 => reached,
        None => end,
    };
    let last = last.clamp(span, end);
    (last - span, last)
}

fn chart<'a>(
    scene: &Scene<'a>,
    view: &View,
    shown: &[&'a NetworkState],
    cursor: Option<f64>,
) -> Chart<'a> {
    let theme = scene.theme();
    let per_epoch = steps_per_epoch(scene);
    let (mut end, mut reached_by_all) = (1, 0);
    let lines = shown
        .iter()
        .map(|network| {
            let offset = offset(scene, network);
            let epochs: u32 = network.stages.iter().map(|stage| stage.epochs).sum();
            let planned = per_epoch.map_or(0, |steps| (steps * f64::from(epochs)).round() as u64);
            let reached = network.loss.steps().map_or(0, |(_, last)| last);
            end = end.max(offset + planned.max(reached));
            if reached > 0 {
                reached_by_all = reached_by_all.max(offset + reached);
            }
            let id = network.plan.id;
            Line {
                series: &network.loss,
                offset,
                glyph: scene.glyph(id),
                style: theme.network(id),
                band: theme.network_band(id),
                points: network
                    .epochs
                    .iter()
                    .map(|epoch| (epoch.step, epoch.validation.loss.0))
                    .collect(),
            }
        })
        .collect();
    let shown = zoomed(view.zoom, cursor, end, reached_by_all);
    let span = (shown.1 - shown.0).max(1) as f64;
    let cursor = cursor.map(|share| ((share * end as f64 - shown.0 as f64) / span).clamp(0.0, 1.0));
    Chart {
        lines,
        start: shown.0,
        end: shown.1,
        unit: per_epoch.map_or((1.0, "step"), |steps| (steps, "epoch")),
        smoothing: view.smoothing,
        is_logarithmic: view.is_logarithmic,
        cursor,
        theme,
    }
}

#[cfg(test)]
mod tests {
    use super::zoomed;

    #[test]
    fn zooming_shows_the_end_of_training_or_what_is_around_the_cross_hair() {
        assert_eq!(zoomed(0, None, 800, 200), (0, 800));
        assert_eq!(zoomed(2, None, 800, 500), (300, 500));
        assert_eq!(zoomed(2, None, 800, 20), (0, 200));
        assert_eq!(zoomed(2, Some(0.5), 800, 20), (300, 500));
        assert_eq!(zoomed(2, Some(1.0), 800, 20), (600, 800));
        assert_eq!(zoomed(10, None, 800, 500), (490, 500));
        assert_eq!(zoomed(10, Some(0.3), 3, 0), (0, 3));
    }
}
