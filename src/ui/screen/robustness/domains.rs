//! Trained on one domain, asked of others: a row per network, its own domain first.

use super::{difference_style, further};
use crate::measurement::Metric;
use crate::spec::{KnobValue, Role};
use crate::state::NetworkState;
use crate::state::comparison::{AccuracyRow, Comparison, Estimate};
use crate::state::seeds::first_of;
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::View;

/// The probe that asks other domains.
pub(super) const PROBE: &str = "domain-accuracy";

/// What the domain is called that a network learned: the knob of its data set, or the data set.
fn own_domain(scene: &Scene<'_>, network: &NetworkState) -> String {
    let study = scene.state().study.as_ref();
    let reference = study.and_then(|study| study.references.get(network.plan.reference as usize));
    reference.map_or(String::new(), |reference| {
        match reference.dataset.setting.0.get("domain") {
            Some(KnobValue::Choice(word)) => word.clone(),
            _ => reference.dataset.id.clone(),
        }
    })
}

/// The networks that were asked of other domains, of every reference.
fn networks<'a>(scene: &Scene<'a>, view: &View) -> Vec<&'a NetworkState> {
    let all = scene.state().networks.iter().map(|network| &**network);
    // Of several seeds the first stands for their mean.
    let is_shown = |network: &&NetworkState| {
        let id = network.plan.id;
        !view.over_seeds || first_of(scene.state(), id) == id
    };
    all.filter(is_shown)
        .filter(|network| {
            let mut found = network.measurements.iter();
            found.any(|found| found.probe == PROBE && found.metric == Metric::Accuracy)
        })
        .collect()
}

/// Whether references learned different domains.
fn is_mixed(scene: &Scene<'_>, networks: &[&NetworkState]) -> bool {
    let mut own = networks.iter().map(|network| own_domain(scene, network));
    let first = own.next();
    own.any(|name| Some(&name) != first.as_ref())
}

/// The domains, those that were learned first.
fn columns(scene: &Scene<'_>, networks: &[&NetworkState]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    let mut add = |name: String| {
        if !name.is_empty() && !columns.contains(&name) {
            columns.push(name);
        }
    };
    for network in networks {
        add(own_domain(scene, network));
    }
    for network in networks {
        for found in network
            .measurements
            .iter()
            .filter(|found| found.probe == PROBE)
        {
            add(found.condition.clone().unwrap_or_default());
        }
    }
    columns
}

/// What the title line says on the right.
pub fn note(scene: &Scene<'_>, view: &View) -> String {
    let networks = networks(scene, view);
    let seeds = networks
        .first()
        .map_or(String::new(), |network| scene.seeds(view, network.plan.id));
    let words = match networks.first() {
        None => String::new(),
        Some(_) if is_mixed(scene, &networks) => "* learned".to_owned(),
        Some(network) => text::clean(&format!("learned {}", own_domain(scene, network))),
    };
    seeds + &words
}

/// A cell of the matrix.
struct Cell {
    found: Estimate,
    /// Against the network's own domain, in shares.
    drop: Option<f64>,
    /// Against the reference on the same images; nothing for a reference.
    beside: Option<(f64, Option<bool>)>,
    is_own: bool,
}

fn cell(
    compared: &Comparison,
    scene: &Scene<'_>,
    network: &NetworkState,
    domain: &str,
) -> Option<Cell> {
    let clean = compared.clean()?;
    let is_own = own_domain(scene, network) == domain;
    let row: &AccuracyRow = if is_own {
        clean
    } else {
        compared
            .accuracies
            .iter()
            .find(|row| row.probe == PROBE && row.condition.as_deref() == Some(domain))?
    };
    let found = row.candidate?;
    let is_reference = network.plan.role == Role::Reference;
    Some(Cell {
        found,
        drop: clean
            .candidate
            .filter(|_| !is_own)
            .map(|own| found.value - own.value),
        beside: row
            .difference
            .filter(|_| !is_reference)
            .map(|difference| (difference.value, row.is_within_noise())),
        is_own,
    })
}

/// Draws the panel; `false` where no other domain was asked.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, scroll: usize) -> bool {
    let networks = networks(scene, view);
    if networks.is_empty() {
        return false;
    }
    let theme = scene.theme();
    let names = columns(scene, &networks);
    let width = pen.width();
    let is_wide = width >= 16 + names.len() as u16 * 21;
    // Wide: value, interval and drop in a line; otherwise the drop stands below.
    let each: u16 = if is_wide { 21 } else { 12 };
    let lines = if is_wide { 1 } else { 2 };
    let shown = (width.saturating_sub(10) / each).clamp(1, names.len().max(1) as u16);
    let label = width.saturating_sub(shown * each).min(34);
    let is_mixed = is_mixed(scene, &networks);
    let chosen = scene.candidate(view).map(|network| {
        if view.over_seeds {
            first_of(scene.state(), network.plan.id)
        } else {
            network.plan.id
        }
    });
    let place = |column: usize| label + (column as u16 + 1) * each;
    let height = usize::from(pen.height());
    // How many images there are gives way to networks.
    let top = if height < 8 { 1 } else { 2 };
    let fits = (height.saturating_sub(1 + top) / lines).max(1);
    let skip = scroll.min(networks.len().saturating_sub(fits));
    let mut counts: Vec<Option<u64>> = vec![None; names.len()];
    for (line, network) in networks.iter().skip(skip).take(fits).enumerate() {
        let y = (top + line * lines) as u16;
        let id = network.plan.id;
        let name_style = if chosen == Some(id) {
            theme.title()
        } else {
            theme.text()
        };
        let name = text::fit(
            &text::clean(&scene.told(view, id)),
            usize::from(label).saturating_sub(3),
        );
        pen.run(
            1,
            y,
            &[
                (&format!("{} ", scene.glyph(id)), scene.style(id)),
                (&name, name_style),
            ],
        );
        let compared = scene.comparison(view, id);
        for (column, domain) in names.iter().enumerate().take(usize::from(shown)) {
            let end = place(column);
            let cell = compared
                .as_ref()
                .and_then(|of| cell(of, scene, network, domain));
            let Some(cell) = cell else {
                pen.put_right(end, y, "—", theme.dim());
                continue;
            };
            counts[column] = counts[column].or(cell.found.n);
            let margin = cell
                .found
                .interval
                .map_or(String::new(), |ends| figure::margin(cell.found.value, ends));
            let star = if cell.is_own && is_mixed { "*" } else { "" };
            let value = format!("{star}{}{margin}", figure::percent(cell.found.value));
            let style = match cell.beside {
                Some((difference, noise)) => difference_style(difference, noise, theme),
                None => theme.text(),
            };
            let drop = cell.drop.map(figure::points);
            if is_wide {
                pen.put_right(end, y, drop.as_deref().unwrap_or(""), theme.text());
                pen.put_right(end - 7, y, &value, style);
            } else {
                pen.put_right(end, y, &value, style);
                pen.put_right(end, y + 1, drop.as_deref().unwrap_or(""), theme.text());
            }
        }
    }
    for (column, domain) in names.iter().enumerate().take(usize::from(shown)) {
        let end = if is_wide {
            place(column) - 7
        } else {
            place(column)
        };
        let style = if column == 0 && !is_mixed {
            theme.title()
        } else {
            theme.text()
        };
        let room = usize::from(each) - 1;
        pen.put_right(end, 0, &text::fit(&text::clean(domain), room), style);
        if let Some(n) = counts[column].filter(|_| top == 2) {
            pen.put_right(end, 1, &format!("n {}", figure::count(n)), theme.dim());
        }
        if is_wide && top == 2 {
            pen.put_right(place(column), 1, "drop", theme.dim());
        }
    }
    if height >= 5 {
        let hidden = networks.len().saturating_sub(skip + fits);
        let more = match (hidden, names.len().saturating_sub(usize::from(shown))) {
            (0, 0) if is_wide => {
                "grey: within noise of its reference   drop: from its own domain".to_owned()
            }
            (0, 0) => "grey: within noise   below: drop from its own".to_owned(),
            (0, right) => further(right, view),
            (down, 0) => format!("↓ {down} more   grey: within noise"),
            (down, right) => format!("↓ {down} more   {}", further(right, view)),
        };
        let room = usize::from(width).saturating_sub(2);
        pen.put(1, pen.height() - 1, &text::fit(&more, room), theme.dim());
    }
    true
}
