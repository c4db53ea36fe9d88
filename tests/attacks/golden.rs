//! PyTorch 2.15, torchattacks 3.5.1 and foolbox 3.3.4, on the same network and images: tests/fixtures/attacks.json.

use shrinklab::lab::attack::Loss;

use super::*;

/// Images that hold, as a share of all; the mean over four seeds, as in the fixture.
fn robust(id: &str, knobs: &[(&str, KnobValue)], epsilon: f64) -> f64 {
    let of = |seed| {
        let mut images = images(100);
        images.seed = seed;
        under(id, knobs, &images, epsilon).robust() as f64 / 100.0
    };
    (0..4).map(of).sum::<f64>() / 4.0
}

/// The same of an attack without chance, or one that takes long.
fn robust_once(id: &str, knobs: &[(&str, KnobValue)], epsilon: f64) -> f64 {
    under(id, knobs, &images(100), epsilon).robust() as f64 / 100.0
}

/// Holds a robust accuracy against the fixture's.
fn held(name: &str, found: f64, within: f64) {
    let expected = fixture().robust[name];
    assert!(
        (found - expected).abs() <= within + 1e-9,
        "{name}: {found} and not {expected}"
    );
}

const POINTS: f64 = 0.02;

#[test]
fn logits_and_gradients_are_those_of_pytorch() {
    let (known, images) = (fixture(), images(2));
    let mut between = || Ok(());
    let network = network();
    let mut victim = Victim::new(&network, &mut between);
    let slopes = victim
        .slopes(&images.pixels, 1, &mut |at, _, logits, d| {
            Loss::CrossEntropy.of(logits, images.labels[at] as usize, 0, d);
        })
        .unwrap();
    for (found, expected) in slopes.logits.iter().zip(&known.logits) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
    let most = known.gradient.iter().fold(0.0_f32, |a, g| a.max(g.abs()));
    for (found, expected) in slopes.gradients[0].iter().zip(&known.gradient) {
        assert!((found - expected).abs() < 1e-4 * most, "{found} {expected}");
    }
}

#[test]
fn one_step_is_that_of_torchattacks_to_the_pixel() {
    let known = fixture();
    let found = under("fgsm", &[], &images(2), 0.05);
    let apart = found
        .pixels
        .iter()
        .zip(&known.fgsm)
        .filter(|(found, expected)| (**found - **expected).abs() > 1e-5)
        .count();
    // A gradient that is nothing but rounding may have another sign.
    assert!(apart <= 2, "{apart} pixels of {}", known.fgsm.len());
    let clean = under("fgsm", &[], &images(100), 0.0).robust() as f64 / 100.0;
    assert!((clean - known.clean).abs() < 1e-9);
}

#[test]
fn robust_accuracies_are_those_of_torchattacks() {
    for epsilon in [0.1, 0.15] {
        let of = |name: &str| format!("{name} {epsilon}");
        held(&of("fgsm"), robust_once("fgsm", &[], epsilon), 0.0);
        held(&of("pgd"), robust("pgd", &[], epsilon), POINTS);
        let image = [("start", word("image"))];
        held(
            &of("pgd image"),
            robust_once("pgd", &image, epsilon),
            POINTS,
        );
        held(&of("apgd-ce"), robust("apgd-ce", &[], epsilon), POINTS);
        held(&of("apgd-dlr"), robust("apgd-dlr", &[], epsilon), POINTS);
        let targets = [("targets", whole(9))];
        held(&of("apgd-t"), robust("apgd-dlr", &targets, epsilon), POINTS);
        let queries = [("queries", whole(1000))];
        held(&of("square"), robust("square", &queries, epsilon), POINTS);
    }
    // As published: 0.2 in a space of deviation 0.5.
    let published = [("space", word("published"))];
    held("published 0.2", robust_once("pgd", &published, 0.2), 0.01);
}

#[test]
fn euclidean_robust_accuracies_are_those_of_torchattacks() {
    for epsilon in ["1.0", "2.0"] {
        let budget: f64 = epsilon.parse().unwrap();
        let l2 = [("norm", word("l2"))];
        let of = |name: &str| format!("{name} l2 {epsilon}");
        held(&of("pgd"), robust("pgd", &l2, budget), POINTS);
        held(&of("apgd-ce"), robust("apgd-ce", &l2, budget), POINTS);
        let queries = [l2[0].clone(), ("queries", whole(1000))];
        held(&of("square"), robust("square", &queries, budget), 0.03);
    }
}

#[test]
fn the_cascade_is_that_of_the_official_settings() {
    held(
        "autoattack 0.1",
        robust_once("autoattack", &[], 0.1),
        POINTS,
    );
}

/// The mean, the median, the mean of the nearest 60 and the number of the distances that were found, each the mean over the
/// seeds.
fn far(id: &str, knobs: &[(&str, KnobValue)], seeds: u64) -> [f64; 4] {
    let of = |seed| {
        let mut images = images(100);
        images.seed = seed;
        let struck = under(id, knobs, &images, 1.0);
        let all = struck.distances.into_iter();
        let mut found: Vec<f64> = all.filter(|d| *d > 0.0 && d.is_finite()).collect();
        found.sort_by(f64::total_cmp);
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        let nearest = found[..60].iter().sum::<f64>() / 60.0;
        [
            mean,
            found[(found.len() - 1) / 2],
            nearest,
            found.len() as f64,
        ]
    };
    let all: Vec<[f64; 4]> = (0..seeds).map(of).collect();
    [0, 1, 2, 3].map(|at| all.iter().map(|of| of[at]).sum::<f64>() / seeds as f64)
}

#[test]
fn distances_are_those_of_foolbox_and_torchattacks() {
    for (name, id, knobs, seeds, images_apart) in [
        ("deepfool", "deepfool", vec![], 1, 0.0),
        ("carlini-wagner", "carlini-wagner", vec![], 1, 1.0),
        ("salt-and-pepper", "salt-and-pepper", vec![], 4, 3.0),
        ("fab", "fab", vec![], 1, 0.0),
        ("fab l2", "fab", vec![("norm", word("l2"))], 1, 0.0),
    ] {
        let expected = &fixture().distances[name];
        let [mean, median, nearest, found] = far(id, &knobs, seeds);
        assert_eq!(expected.images, 79);
        assert!(
            (found - expected.found).abs() <= images_apart,
            "{name}: found {found} and not {}",
            expected.found
        );
        // Which of the farthest images random noise ever reaches is chance, and they weigh most in its mean.
        let mean = (id != "salt-and-pepper").then_some((mean, expected.mean));
        let others = [(median, expected.median), (nearest, expected.nearest)];
        for (found, expected) in mean.into_iter().chain(others) {
            assert!(
                (found / expected - 1.0).abs() < 0.02,
                "{name}: {found} and not {expected}"
            );
        }
    }
}
