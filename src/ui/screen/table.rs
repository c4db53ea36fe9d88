//! The table of measurements: every number that was found, sorted and filtered as one likes.

use super::live;
use super::numbers;
use crate::measurement::Measurement;
use crate::spec::NetworkId;
use crate::state::{NetworkState, counted};
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::{Popup, View};
use crate::ui::widget::{footer, frame};

/// The columns, each with its least width and whether it holds numbers.
pub const COLUMNS: [(&str, usize, bool); 11] = [
    ("network", 15, false),
    ("stage", 10, false),
    ("metric", 14, false),
    ("condition", 13, false),
    ("sev", 3, true),
    ("value", 12, true),
    ("95 % interval", 18, true),
    ("n", 6, true),
    ("epoch", 5, true),
    ("role", 15, false),
    ("probe", 22, false),
];

/// The column of the value.
const VALUE: usize = 5;

/// How the user looks at the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableView {
    /// Row and column under the cursor.
    pub row: usize,
    pub column: usize,
    /// By which column it is sorted, and whether from large to small; as measured if by none.
    pub sorted: Option<(usize, bool)>,
    /// Only rows that hold every word of it are shown.
    pub filter: String,
}

impl TableView {
    /// Moves the cursor by columns.
    pub fn travel(&mut self, by: isize) {
        self.column = self.column.saturating_add_signed(by).min(COLUMNS.len() - 1);
    }

    /// Sorts by the column under the cursor; then turned round; then as measured again.
    pub fn sort(&mut self) {
        self.sorted = match self.sorted {
            Some((column, false)) if column == self.column => Some((column, true)),
            Some((column, true)) if column == self.column => None,
            _ => Some((self.column, false)),
        };
        self.row = 0;
    }
}

/// One row: what stands in each column, and the numbers to sort by.
pub struct Row {
    pub network: NetworkId,
    pub cells: [String; COLUMNS.len()],
    keys: [f64; COLUMNS.len()],
}

impl Row {
    /// Everything about the number, in the words of a sentence.
    fn words(&self) -> String {
        let [
            network,
            stage,
            metric,
            condition,
            severity,
            value,
            interval,
            n,
            epoch,
            _,
            probe,
        ] = &self.cells;
        let mut words = format!("{network} after {stage}, epoch {epoch}: {metric}");
        for (before, said) in [
            (" under ", condition),
            (" severity ", severity),
            (" ", value),
            (", 95 % from ", interval),
            (", n = ", n),
            (" · probe ", probe),
        ] {
            if !said.is_empty() {
                words += before;
                words += said;
            }
        }
        words
    }
}

/// The rows that the filter lets through, in their order.
pub fn rows(scene: &Scene<'_>, view: &View) -> Vec<Row> {
    let words: Vec<String> = view
        .table
        .filter
        .to_lowercase()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let mut rows: Vec<Row> = Vec::new();
    for network in &scene.state().networks {
        for found in network.measurements.iter() {
            let Some(value) = found.scalar() else {
                continue;
            };
            let row = row(scene, network, found, value);
            let line = row.cells.join(" ").to_lowercase();
            if words.iter().all(|word| line.contains(word)) {
                rows.push(row);
            }
        }
    }
    if let Some((column, turned)) = view.table.sorted {
        let is_number = COLUMNS[column.min(COLUMNS.len() - 1)].2;
        rows.sort_by(|a, b| {
            let order = if is_number {
                a.keys[column].total_cmp(&b.keys[column])
            } else {
                a.cells[column].cmp(&b.cells[column])
            };
            if turned { order.reverse() } else { order }
        });
    }
    rows
}

fn row(scene: &Scene<'_>, network: &NetworkState, found: &Measurement, value: f64) -> Row {
    let (low, high) = found
        .interval
        .map_or((f64::NAN, f64::NAN), |(low, high)| (low.0, high.0));
    let condition = numbers::under(scene, found);
    let interval = if low.is_nan() || high.is_nan() {
        String::new()
    } else {
        let (low, high) = (
            numbers::value(low, found.unit),
            numbers::value(high, found.unit),
        );
        format!(
            "{} to {}",
            numbers::unitless(&low, &high),
            numbers::unitless(&high, &high)
        )
    };
    let severity = found.severity.map_or(String::new(), |s| s.to_string());
    let n = found.n.map_or(String::new(), figure::count);
    let cells = [
        scene.name(found.network),
        network.plan.stage_name(found.stage).unwrap_or_default(),
        found.metric.name().to_owned(),
        condition,
        severity,
        numbers::value(value, found.unit),
        interval,
        n,
        found.epoch.to_string(),
        network.plan.role.name().to_owned(),
        found.probe.clone(),
    ]
    .map(|cell| text::clean(&cell));
    let mut keys = [0.0; COLUMNS.len()];
    keys[4] = f64::from(found.severity.unwrap_or(0));
    keys[VALUE] = value;
    keys[6] = low;
    keys[7] = found.n.unwrap_or(0) as f64;
    keys[8] = f64::from(found.epoch);
    Row {
        network: found.network,
        cells,
        keys,
    }
}

/// Draws the screen.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let (width, height) = (pen.width(), pen.height());
    let rows = rows(scene, view);
    let question = live::question(scene, None);
    let title = format!("measurements   {question}");
    pen.put(1, 0, &title, theme.title());
    let is_typing = matches!(view.popups.last(), Some(Popup::Filter { .. }));
    let found = counted(rows.len() as u64, "row");
    let note = if view.table.filter.is_empty() {
        found
    } else {
        format!("{found} with \"{}\"", view.table.filter)
    };
    let mut panel = pen.part(0, 1, width, height - 3);
    let mut inside = frame::frame(&mut panel, "Table", &note, !is_typing, theme);
    table(&mut inside, scene, view, &rows);
    let mut line = pen.part(0, height - 2, width, 1);
    if is_typing || !view.table.filter.is_empty() {
        let x = line.run(
            1,
            0,
            &[
                ("filter: ", theme.dim()),
                (&view.table.filter, theme.text()),
            ],
        );
        if is_typing {
            line.cell(x, 0, ' ', theme.selected());
        }
    } else if let Some(row) = rows.get(view.table.row) {
        // What did not fit into the line stands here whole.
        let room = usize::from(width).saturating_sub(2);
        line.put(1, 0, &text::fit(&row.words(), room), theme.dim());
    }
    footer::draw(&mut pen.part(0, height - 1, width, 1), scene, view, theme);
}

fn table(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, rows: &[Row]) {
    let theme = scene.theme();
    if rows.is_empty() {
        let words = if view.table.filter.is_empty() {
            "nothing measured yet"
        } else {
            "no row holds these words; esc shows all"
        };
        let middle = pen.height() / 2;
        pen.put_center(middle, words, theme.dim());
        return;
    }
    // The columns left of the cursor move out as far as needed to show the one under it.
    let width = usize::from(pen.width());
    let mut first = 0;
    while first < view.table.column
        && COLUMNS[first..=view.table.column]
            .iter()
            .map(|(_, cells, _)| cells + 1)
            .sum::<usize>()
            > width + 1
    {
        first += 1;
    }
    // Columns are shown whole or not at all.
    let mut last = first;
    let mut used = 0;
    while last < COLUMNS.len() && (last == first || used + COLUMNS[last].1 <= width) {
        used += COLUMNS[last].1 + 1;
        last += 1;
    }
    let shown = first..last;
    let mut x = 0;
    for column in shown.clone() {
        let (name, cells, is_number) = COLUMNS[column];
        let arrow = match view.table.sorted {
            Some((sorted, turned)) if sorted == column => {
                if turned {
                    "↓"
                } else {
                    "↑"
                }
            }
            _ => "",
        };
        let words = format!("{name}{arrow}");
        let style = if column == view.table.column {
            theme.accent()
        } else {
            theme.dim()
        };
        pen.put(x, 0, &aligned(&words, cells, is_number), style);
        x += cells as u16 + 1;
    }
    if last < COLUMNS.len() {
        pen.put_right(pen.width(), 0, "→", theme.dim());
    }
    let room = usize::from(pen.height()).saturating_sub(1).max(1);
    let cursor = view.table.row.min(rows.len() - 1);
    let skip = cursor
        .saturating_sub(room / 2)
        .min(rows.len().saturating_sub(room));
    for (place, row) in rows.iter().enumerate().skip(skip).take(room) {
        let y = 1 + (place - skip) as u16;
        let mut x = 0;
        for column in shown.clone() {
            let (_, cells, is_number) = COLUMNS[column];
            let style = match column {
                0 => scene.style(row.network),
                VALUE => theme.text(),
                _ => theme.dim(),
            };
            if column == 0 {
                let glyph = scene.glyph(row.network);
                let words = text::left(&format!("{glyph} {}", row.cells[0]), cells);
                pen.put(x, y, &words, style);
            } else {
                pen.put(x, y, &aligned(&row.cells[column], cells, is_number), style);
            }
            x += cells as u16 + 1;
        }
        if place == cursor {
            let width = pen.width();
            pen.shade(0, y, width, theme.selected());
        }
    }
}

fn aligned(words: &str, cells: usize, is_number: bool) -> String {
    if is_number {
        text::right(words, cells)
    } else {
        text::left(words, cells)
    }
}
