//! The screens of robustness and the gallery, from a session that was attacked, and asked of other domains.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use shrinklab::event::{Event, Outcome, Picture, Pixels, Record, View};
use shrinklab::measurement::{
    CheckOutcome, Masking, MaskingCheck, Measurement, Metric, Paired, Score, Unit, Value, wilson,
};
use shrinklab::spec::{Method, NetworkId};
use shrinklab::ui::{Screen, command_line};

use crate::made_up::{self, Story, plain};
use crate::shown::{Shown, snapshot};

fn accuracy(
    network: u32,
    probe: &str,
    condition: &str,
    value: f64,
    n: u64,
    lost: u64,
) -> Measurement {
    let hits = (value * n as f64).round() as u64;
    let (low, high) = wilson(hits, n);
    Measurement {
        condition: Some(condition.to_owned()),
        value: Value::Scalar(Score(hits as f64 / n as f64)),
        interval: Some((Score(low), Score(high))),
        n: Some(n),
        paired: (network != 0).then_some(Paired {
            reference_only: lost,
            candidate_only: 2,
        }),
        ..plain(network, probe, Metric::Accuracy)
    }
}

fn number(network: u32, metric: Metric, value: f64, ends: Option<(f64, f64)>) -> Measurement {
    Measurement {
        value: Value::Scalar(Score(value)),
        interval: ends.map(|(low, high)| (Score(low), Score(high))),
        n: Some(1_000),
        ..plain(network, "corruption-error", metric)
    }
}

/// A ring on black, as an image of 28 by 28.
fn ring() -> Vec<u8> {
    let mut bytes = Vec::new();
    for y in 0..28 {
        for x in 0..28 {
            let radius = (f64::from(x) - 13.5).hypot(f64::from(y) - 13.5);
            bytes.push(if (6.0..10.0).contains(&radius) {
                255
            } else {
                0
            });
        }
    }
    bytes
}

/// The same with so many grey levels more or less in a checkered pattern.
fn checkered(by: i32) -> Vec<u8> {
    let ring = ring();
    let shifted = ring.iter().enumerate().map(|(at, byte)| {
        let sign = if (at / 28 + at % 28).is_multiple_of(2) {
            by
        } else {
            -by
        };
        (i32::from(*byte) + sign).clamp(0, 255) as u8
    });
    shifted.collect()
}

fn picture(network: u32, example: u32, answers: [u32; 3], is_flipped: bool) -> Picture {
    let shows = network == 0 || is_flipped;
    let pixels = |bytes: Vec<u8>| Some(Pixels(bytes));
    let view = |condition: Option<&str>, class: u32, confidence: f64| View {
        condition: condition.map(str::to_owned),
        severity: None,
        budget: None,
        pixels: None,
        class,
        confidence: Score(confidence),
    };
    Picture {
        network: NetworkId(network),
        example,
        label: 3,
        shape: [1, 28, 28],
        is_flipped,
        views: vec![
            View {
                pixels: pixels(ring()).filter(|_| shows),
                ..view(None, answers[0], 0.98)
            },
            View {
                severity: Some(3),
                pixels: pixels(checkered(60)).filter(|_| shows),
                ..view(Some("gaussian-noise"), answers[1], 0.51)
            },
            View {
                budget: Some(Score(0.1)),
                pixels: pixels(checkered(25)),
                ..view(Some("pgd"), answers[2], 0.77)
            },
        ],
    }
}

fn check(title: &str, outcome: CheckOutcome, numbers: [f64; 2]) -> MaskingCheck {
    MaskingCheck {
        id: title.to_lowercase().replace(' ', "-"),
        title: title.to_owned(),
        outcome,
        names: ["one step".to_owned(), "many".to_owned()],
        numbers: numbers.map(Score),
        p: None,
    }
}

/// The complete session, whose reference and first branch were attacked, corrupted in one more way, and pictured.
pub(crate) fn attacked() -> Vec<Record> {
    let mut story = Story::begin();
    story.first_two();
    story.prune(false);
    let mut found: Vec<Measurement> = Vec::new();
    for network in [0, 2] {
        let own = f64::from(network);
        for (attack, strength) in [("pgd", 4.0), ("fgsm", 2.5), ("deepfool", 5.0)] {
            for (place, budget) in [0.0, 0.05, 0.1, 0.2].into_iter().enumerate() {
                let value = (0.96 - (strength + own * 0.6) * budget).max(0.02);
                let lost = 2 + 12 * place as u64;
                let row = accuracy(network, "adversarial-accuracy", attack, value, 200, lost);
                found.push(Measurement {
                    budget: Some(Score(budget)),
                    ..row
                });
            }
        }
        for (metric, value) in [(Metric::DistanceMean, 0.08), (Metric::DistanceMedian, 0.07)] {
            found.push(Measurement {
                condition: Some("deepfool".to_owned()),
                probe: "adversarial-accuracy".to_owned(),
                ..number(network, metric, value - own * 0.01, None)
            });
        }
        for (domain, value, lost) in [("chalk", 0.81, 30), ("neon", 0.64, 3)] {
            let value = value - own * 0.002 * f64::from(lost);
            found.push(accuracy(
                network,
                "domain-accuracy",
                domain,
                value,
                2_000,
                lost as u64,
            ));
        }
        for against in [0, 2] {
            let value = if against == network { 0.12 } else { 0.47 };
            found.push(Measurement {
                against: Some(NetworkId(against)),
                budget: Some(Score(0.1)),
                metric: Metric::TransferAccuracy,
                ..accuracy(network, "transfer", "pgd", value, 200, 0)
            });
        }
        found.push(Measurement {
            metric: Metric::Error,
            ..accuracy(
                network,
                "accuracy",
                "random-fog:published",
                0.036 + own * 0.001,
                1_000,
                2,
            )
        });
        let error = 0.18 + own * 0.02;
        let ends = Some((error - 0.01, error + 0.01));
        found.push(number(network, Metric::MeanCorruptionError, error, ends));
    }
    let ends = Some((1.1, 1.35));
    found.push(number(2, Metric::RelativeCorruptionError, 1.22, ends));
    found.push(number(2, Metric::RelativeMce, 1.31, Some((1.12, 1.5))));
    found.push(Measurement {
        condition: Some("random-fog:published".to_owned()),
        unit: Unit::GreyLevels,
        ..number(0, Metric::MeanAbsoluteChange, 0.02, None)
    });
    for (network, verdict, outcome) in [
        (0, Masking::NotMasked, CheckOutcome::Passed),
        (2, Masking::Masked, CheckOutcome::Failed),
    ] {
        found.push(Measurement {
            value: Value::Masking {
                verdict,
                checks: vec![
                    check("One step is stronger than many", outcome, [0.61, 0.42]),
                    check(
                        "A large budget breaks not all",
                        CheckOutcome::Passed,
                        [1.0, 1.0],
                    ),
                ],
            },
            n: Some(200),
            ..plain(network, "gradient-masking", Metric::GradientMasking)
        });
    }
    for measurement in found {
        story.say(5, Event::Measured(measurement));
    }
    for (network, example, answers, is_flipped) in [
        (0, 112, [3, 3, 5], false),
        (0, 407, [3, 4, 5], false),
        (2, 112, [3, 7, 8], false),
        (2, 407, [3, 3, 3], false),
        (2, 871, [5, 5, 5], true),
    ] {
        story.say(
            5,
            Event::Pictured(picture(network, example, answers, is_flipped)),
        );
    }
    story.finish();
    story.records
}

fn shown(screen: Screen) -> Shown {
    let mut shown = Shown::new(attacked(), false, screen);
    shown.view.candidate = Some(NetworkId(2));
    shown
}

/// Where a text stands first.
fn place(buffer: &Buffer, words: &str) -> (u16, u16) {
    let text = shrinklab::ui::export::plain_text(buffer);
    for (y, line) in text.lines().enumerate() {
        if let Some(at) = line.find(words) {
            return (line[..at].chars().count() as u16, y as u16);
        }
    }
    panic!("{words} is not on screen:\n{text}");
}

#[test]
fn attacks_domains_gradients_and_transfer_share_a_screen() {
    let mut shown = shown(Screen::Robustness);
    snapshot("robustness-100x30", &shown.text(100, 30));
    snapshot("robustness-80x24", &shown.text(80, 24));
    let text = shown.text(100, 30);
    assert!(
        text.contains("Attacks: pgd") && text.contains("1 of 3 · n 200"),
        "{text}"
    );
    assert!(text.contains("MASKED"), "{text}");
    assert!(text.contains("One step is stronger than many"), "{text}");
    shown.press("xx");
    let text = shown.text(100, 30);
    assert!(
        text.contains("Attacks: deepfool") && text.contains("distance"),
        "{text}"
    );
    shown.press("a");
    let text = shown.text(100, 30);
    assert!(
        text.contains("3 attacks") && text.contains("c deepfool"),
        "{text}"
    );
    for (name, keys) in [
        ("attacks-all", "f"),
        ("attacks", "a"),
        ("gradients", "<tab>"),
        ("domains", "<tab>"),
        ("transfer", "<tab>"),
    ] {
        shown.press(keys);
        snapshot(&format!("robustness-{name}-100x30"), &shown.text(100, 30));
        snapshot(&format!("robustness-{name}-80x24"), &shown.text(80, 24));
    }
    shown.press("<esc>");
    assert!(!shown.view.is_full);
}

#[test]
fn what_is_masked_is_loud_and_what_is_noise_is_grey() {
    let shown = shown(Screen::Robustness);
    let buffer = shown.draw(100, 30);
    let cell = &buffer[place(&buffer, "MASKED")];
    assert!(cell.modifier.contains(Modifier::REVERSED) && cell.fg != Color::Reset);
    // 30 against 2 discordant images is no chance, 3 against 2 is.
    let grey = Color::Indexed(245);
    let of_candidate = |words: &str| buffer[place(&buffer, words)].fg;
    assert_ne!(of_candidate("69.0 ±"), grey);
    assert_eq!(of_candidate("62.8 ±"), grey);
}

#[test]
fn an_unclear_check_does_not_read_as_if_it_had_been_found() {
    let mut records = attacked();
    for record in &mut records {
        if let Event::Measured(found) = &mut record.event
            && let Value::Masking { verdict, checks } = &mut found.value
        {
            *verdict = Masking::Inconclusive;
            checks[0].outcome = CheckOutcome::Unclear;
        }
    }
    let mut shown = Shown::new(records, false, Screen::Robustness);
    shown.press("<tab>f");
    let text = shown.text(100, 30);
    assert!(
        text.contains("? unclear whether one step is stronger than many: one step 0.61, many 0.42"),
        "{text}"
    );
    assert!(!text.contains("found: One"), "{text}");
}

#[test]
fn screens_of_robustness_say_what_would_fill_them() {
    let mut empty = Shown::new(made_up::complete(), false, Screen::Robustness);
    let text = empty.text(100, 30);
    assert!(
        text.contains("--attacks pgd") && text.contains("--domains all"),
        "{text}"
    );
    empty.press("8");
    let text = empty.text(100, 30);
    assert!(text.contains("--attacks pgd"), "{text}");
    empty.press("x7x");
    assert!(empty.view.hint.is_some());
}

#[test]
fn the_gallery_shows_images_and_what_both_networks_see() {
    let mut shown = shown(Screen::Gallery);
    snapshot("gallery-100x30", &shown.text(100, 30));
    snapshot("gallery-80x24", &shown.text(80, 24));
    let text = shown.text(100, 30);
    assert!(
        text.contains("It is sign 3") && text.contains("change ×2"),
        "{text}"
    );
    assert!(
        text.contains("✗ sign 7 51") && text.contains("✓ sign 3 51"),
        "{text}"
    );
    // The other condition is an attack by 25 levels: four times as much may be shown.
    shown.press("x");
    assert!(shown.text(100, 30).contains("change ×4"));
    shown.press("f");
    let text = shown.text(100, 30);
    snapshot("gallery-full-100x30", &text);
    assert!(
        !text.contains("gaussian noise 3\n") && text.contains("pgd ε 0.10"),
        "{text}"
    );
    shown.press("<esc><down><down><down><down>");
    let text = shown.text(100, 30);
    assert!(
        text.contains("Flipped") && text.contains("example 3 of 3"),
        "{text}"
    );
    assert!(text.contains("right as it is"), "{text}");
}

#[test]
fn the_pixels_of_the_gallery_are_those_of_the_image() {
    // In full there are three pictures, and at 28 cells each pixel has its half of a cell.
    let mut shown = shown(Screen::Gallery);
    shown.press("f");
    let buffer = shown.draw(100, 30);
    let (x, y) = place(&buffer, "clean");
    let ring = ring();
    for line in 0..14_u16 {
        for column in 0..28_u16 {
            let cell = &buffer[(x + column, y + 1 + line)];
            let at = |row: u16| {
                let byte = ring[usize::from(row) * 28 + usize::from(column)];
                Color::Indexed(if byte == 255 { 231 } else { 16 })
            };
            assert_eq!(cell.symbol(), "▀");
            assert_eq!(
                (cell.fg, cell.bg),
                (at(line * 2), at(line * 2 + 1)),
                "{column} {line}"
            );
        }
    }
    // Black grew brighter by 60 of 255 and could not grow darker; doubled, around the middle grey of 128: 248 and 128.
    let (x, y) = place(&buffer, "change ×2");
    let cell = &buffer[(x, y + 1)];
    assert_eq!(
        (cell.fg, cell.bg),
        (Color::Indexed(231), Color::Indexed(244))
    );
    shown.mono = true;
    let text = shown.text(100, 30);
    assert!(!text.contains('▀') && text.contains("@@"), "{text}");
}

#[test]
fn bars_of_corruptions_are_of_one_severity_of_all_or_of_the_mean() {
    let mut shown = shown(Screen::Live);
    let text = shown.text(100, 30);
    assert!(
        text.contains("severity 3") || text.contains("sev 3"),
        "{text}"
    );
    assert!(!text.contains("chalk") && !text.contains("fgsm"), "{text}");
    snapshot("corruption-one-100x40", &shown.text(100, 40));
    assert!(shown.text(100, 40).contains("≈ unchanged"));
    assert!(
        shown
            .text(100, 40)
            .contains("mean error ● 18.0 ±1.0 ▲ 22.0 ±1.0")
    );
    shown.press("V");
    let text = shown.text(100, 40);
    snapshot("corruption-all-100x40", &text);
    assert!(text.contains("sev 1-5"), "{text}");
    shown.press("V");
    let text = shown.text(100, 40);
    snapshot("corruption-mean-100x40", &text);
    snapshot("corruption-mean-80x24", &shown.text(80, 24));
    // The mean of 0.964 - s (0.02) over five severities: 0.904.
    let line = text
        .lines()
        .find(|line| line.contains("gaussian noise ●"))
        .unwrap();
    assert!(line.contains("90.4"), "{line}");
    // And five of them have a difference with a margin.
    let line = text
        .lines()
        .skip_while(|line| !line.contains("gaussian noise ●"))
        .nth(1)
        .unwrap();
    assert!(line.contains("-2.7 ±"), "{line}");
    shown.press("<tab>f");
    snapshot("corruption-mean-full-100x30", &shown.text(100, 30));
}

#[test]
fn the_form_asks_for_attacks_and_domains() {
    let mut form = Shown::new(Vec::new(), false, Screen::Study);
    for id in ["fgsm", "pgd", "autoattack"] {
        let mut attack = form.catalog.probes[0].clone();
        attack.info.id = id.to_owned().into();
        form.catalog.attacks.push(attack);
    }
    while !form.text(100, 30).contains("▸ Attacks") {
        form.press("<down>");
    }
    form.press("<right><right><down><right>");
    let text = form.text(100, 30);
    assert!(
        text.contains("‹ fgsm + pgd ›") && text.contains("‹ all ›"),
        "{text}"
    );
    let study = form.view.form.study().clone();
    assert_eq!(study.suite.attacks, ["fgsm", "pgd"].map(Method::plain));
    assert_eq!(study.suite.domains, [Method::plain("all")]);
    let line = command_line::command_line(&study, &form.catalog);
    assert!(line.contains("--attacks fgsm,pgd --domains all"), "{line}");
    form.press("<up><left><left><down><left>");
    assert_eq!(form.view.form.study().suite.attacks, []);
    assert_eq!(form.view.form.study().suite.domains, []);
}

/// Reference and branch from three seeds, clean and under an attack. The branch loses a point on average, and its seeds
/// scatter by more than that; under attack it loses thirty.
fn from_three_seeds() -> Vec<Record> {
    let mut study = made_up::study();
    study.seeds = vec![2, 24, 42];
    study.references[0].twins = 0;
    study.references[0].branches.truncate(1);
    let mut story = Story::of(study);
    for (seed, lost) in [0.03, -0.02, 0.02].into_iter().enumerate() {
        let reference = 2 * seed as u32;
        for (network, lost, attacked) in [(reference, 0.0, 0.6), (reference + 1, lost, 0.3)] {
            let clean = accuracy(network, "accuracy", "", 0.9 - lost, 1_000, 40);
            let found = [
                Measurement {
                    condition: None,
                    ..clean
                },
                Measurement {
                    severity: Some(3),
                    ..accuracy(
                        network,
                        "corruption-error",
                        "gaussian-noise",
                        0.8 - lost,
                        1_000,
                        40,
                    )
                },
                Measurement {
                    budget: Some(Score(0.1)),
                    ..accuracy(
                        network,
                        "adversarial-accuracy",
                        "pgd",
                        attacked - lost,
                        200,
                        9,
                    )
                },
                accuracy(network, "domain-accuracy", "chalk", 0.5 - lost, 1_000, 40),
            ];
            for measurement in found {
                story.say(5, Event::Measured(measurement));
            }
        }
    }
    let outcome = Outcome::Completed;
    story.say(30, Event::StudyEnded { outcome });
    story.records
}

#[test]
fn seeds_are_a_second_level_of_doubt() {
    let mut shown = Shown::new(from_three_seeds(), false, Screen::Live);
    shown.view.candidate = Some(NetworkId(3));
    let text = shown.text(100, 40);
    assert!(text.contains("S seeds") && text.contains("92.0"), "{text}");
    shown.press("S");
    snapshot("over-seeds-100x40", &shown.text(100, 40));
    let buffer = shown.draw(100, 40);
    // SciPy 1.17.1: t.interval(0.95, 2, mean, sem) of -3, 2 and -2 points goes 6.57 to either side; Newcombe's arms for
    // pairs are 1.23 on average.
    let found = place(&buffer, "-1.0 ±6.7");
    assert_eq!(
        buffer[found].fg,
        Color::Indexed(245),
        "within noise of the seeds"
    );
    shown.press("7");
    let text = shown.text(100, 40);
    assert!(text.contains("3 seeds · n 200"), "{text}");
    let buffer = shown.draw(100, 40);
    let grey = Color::Indexed(245);
    assert_ne!(buffer[place(&buffer, "-31.0 ±")].fg, grey, "{text}");
    // Means stand once, and under no seed's name.
    shown.press("<tab><tab>f");
    let text = shown.text(100, 40);
    assert_eq!(text.matches("49.0 ±").count(), 1, "{text}");
    assert!(!text.contains("reference, seed"), "{text}");
    shown.press("S");
    let text = shown.text(100, 40);
    assert!(
        text.contains("reference, seed 2 ") && text.contains("reference, seed 42"),
        "{text}"
    );
    // Where every network has one seed, the key says how to get more.
    let mut one = Shown::new(attacked(), false, Screen::Robustness);
    one.press("S");
    let text = one.text(100, 30);
    assert!(
        text.contains("--seed 1,2,3") && !text.contains("S seeds"),
        "{text}"
    );
}
