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

/// The mean, the median and the number of the distances that were found, each the mean over so many seeds: of an attack
/// by chance, whether one far image more is found moves them by more than is compared.
fn far(id: &str, knobs: &[(&str, KnobValue)], seeds: u64) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for seed in 0..seeds {
        let own = far_once(id, knobs, seed);
        for (sum, own) in sums.iter_mut().zip(own) {
            *sum += own / seeds as f64;
        }
    }
    sums
}

fn far_once(id: &str, knobs: &[(&str, KnobValue)], seed: u64) -> [f64; 3] {
    let images = Images {
        seed,
        ..images(100)
    };
    let struck = under(id, knobs, &images, 1.0);
    let mut found: Vec<f64> = struck
        .distances
        .iter()
        .copied()
        .filter(|distance| *distance > 0.0 && distance.is_finite())
        .collect();
    found.sort_by(f64::total_cmp);
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    let middle = (found.len() - 1) / 2;
    [mean, found[middle], found.len() as f64]
}

#[test]
fn distances_are_those_of_foolbox_and_torchattacks() {
    // Of salt and pepper, foolbox's mean is 5.83, 5.52, 6.31 and 5.67 with four seeds: whether one of the farthest images
    // is found decides. The median is steady.
    for (name, id, knobs, images_apart, seeds, of_mean) in [
        ("deepfool", "deepfool", vec![], 0.0, 1, 0.02),
        ("carlini-wagner", "carlini-wagner", vec![], 1.0, 1, 0.02),
        ("salt-and-pepper", "salt-and-pepper", vec![], 3.0, 8, 0.06),
        ("fab", "fab", vec![], 0.0, 1, 0.02),
        ("fab l2", "fab", vec![("norm", word("l2"))], 0.0, 1, 0.02),
    ] {
        let expected = &fixture().distances[name];
        let [mean, median, found] = far(id, &knobs, seeds);
        assert_eq!(expected.images, 79);
        assert!(
            (found - expected.found).abs() <= images_apart,
            "{name}: found {found} and not {}",
            expected.found
        );
        for (found, expected, apart) in [
            (mean, expected.mean, of_mean),
            (median, expected.median, 0.02),
        ] {
            assert!(
                (found / expected - 1.0).abs() < apart,
                "{name}: {found} and not {expected}"
            );
        }
    }
}
