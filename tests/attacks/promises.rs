//! What every attack of the table promises.

use shrinklab::lab::attack::{rounded, strike_bytes};
use shrinklab::lab::error::{Error, Result};

use super::*;

/// Every attack, quick enough for a test: with both norms where it has them.
fn table() -> Vec<(String, Box<dyn Attack>)> {
    let mut all = Vec::new();
    for entry in ALL {
        let mut knobs = Vec::new();
        for (id, value) in [
            ("steps", 12),
            ("queries", 40),
            ("searches", 2),
            ("tries", 2),
            ("restarts", 2),
            ("targets", 2),
        ] {
            if entry.knobs.iter().any(|knob| knob.id == id) {
                knobs.push((id, whole(value)));
            }
        }
        let norms: &[&str] = if entry.knobs.iter().any(|knob| knob.id == "norm") {
            &["linf", "l2"]
        } else {
            &[""]
        };
        for norm in norms {
            let mut knobs = knobs.clone();
            if !norm.is_empty() {
                knobs.push(("norm", word(norm)));
            }
            let attack = made(&entry.info.id, &knobs).unwrap();
            all.push((format!("{} {norm}", entry.info.id), attack));
        }
    }
    assert_eq!(all.len(), 11 + 8);
    all
}

fn budget(attack: &dyn Attack) -> f64 {
    match attack.norm() {
        Norm::Linf => 0.1,
        Norm::L2 => 1.0,
    }
}

#[test]
fn budgets_and_the_range_are_kept_also_as_bytes() {
    let (network, images) = (network(), images(24));
    let each = images.each();
    for (name, attack) in table() {
        let epsilon = budget(&*attack);
        let struck = struck(&network, &*attack, &images, epsilon);
        let bound = if attack.is_minimal() {
            f64::INFINITY
        } else {
            epsilon
        };
        let bytes = rounded(&images, &struck.pixels, attack.norm(), bound);
        assert_eq!(struck.pixels.len(), images.pixels.len());
        for at in 0..images.len() {
            let of = at * each..(at + 1) * each;
            for pixels in [&struck.pixels[of.clone()], &bytes[of.clone()]] {
                assert!(pixels.iter().all(|p| (0.0..=1.0).contains(p)), "{name}");
                let distance = attack.norm().distance(images.image(at), pixels);
                assert!(
                    attack.is_minimal() || distance <= epsilon + 1e-6,
                    "{name} {distance}"
                );
            }
            assert!(
                bytes[of].iter().all(|p| (p * 255.0).fract() == 0.0),
                "{name}"
            );
        }
        // What is found is an error, and images that were wrong count as such.
        let mut between = || Ok(());
        let mut victim = Victim::new(&network, &mut between);
        let right = victim.right(&struck.pixels, &images.labels).unwrap();
        let clean = victim.right(&images.pixels, &images.labels).unwrap();
        for at in 0..images.len() {
            assert_eq!(struck.right[at], clean[at] && right[at], "{name} {at}");
        }
    }
}

/// An attack stops just beyond the boundary; what rounding brings back over it falls when it is attacked as bytes.
#[test]
fn what_rounding_saves_falls_as_bytes() {
    let (network, images) = (network(), images(100));
    let pgd = made("pgd", &[("step-size", KnobValue::Real(0.05))]).unwrap();
    let (mut saved, mut fallen) = (0, 0);
    for epsilon in [0.05, 0.1, 0.15] {
        let struck = struck(&network, &*pgd, &images, epsilon);
        let places: Vec<usize> = (0..images.len())
            .filter(|at| struck.right_rounded[*at] && !struck.right[*at])
            .collect();
        let mut between = || Ok(());
        let mut victim = Victim::new(&network, &mut between);
        let again = strike_bytes(&*pgd, &mut victim, &images.select(&places), epsilon).unwrap();
        saved += places.len();
        fallen += again.iter().filter(|is_right| !**is_right).count();
        // It is shown pixels again as they are.
        let right = victim.right(&struck.pixels, &images.labels).unwrap();
        assert!(places.iter().all(|at| !right[*at]));
    }
    assert!(saved >= 5, "{saved}");
    assert!(4 * fallen >= 3 * saved, "{fallen} of {saved}");
    // Less than a grey level moves no byte.
    let mut between = || Ok(());
    let mut victim = Victim::new(&network, &mut between);
    let none = strike_bytes(&*pgd, &mut victim, &images, 0.003).unwrap();
    assert!(none.iter().all(|is_right| *is_right));
}

#[test]
fn no_budget_is_clean_accuracy() {
    let (network, images) = (network(), images(24));
    let mut between = || Ok(());
    let clean = Victim::new(&network, &mut between)
        .right(&images.pixels, &images.labels)
        .unwrap();
    for (name, attack) in table().iter().filter(|(_, attack)| !attack.is_minimal()) {
        let struck = struck(&network, &**attack, &images, 0.0);
        assert_eq!(struck.right, clean, "{name}");
        assert_eq!(struck.pixels, images.pixels, "{name}");
    }
}

#[test]
fn the_same_seed_gives_the_same_images_in_any_batch() {
    let (network, images) = (network(), images(12));
    for (name, attack) in table() {
        let with = |batch: usize, images: &Images| {
            let mut between = || Ok(());
            let mut victim = Victim::new(&network, &mut between);
            victim.set_batch(batch);
            let epsilon = budget(&*attack);
            strike(&*attack, "test", &mut victim, images, epsilon).unwrap()
        };
        let together = with(128, &images);
        assert_eq!(together.pixels, with(128, &images).pixels, "{name}");
        assert_eq!(
            together.pixels,
            with(5, &images).pixels,
            "{name}: in batches of five"
        );
        // Nor does it matter beside which others an image is attacked.
        let alone = with(128, &images.select(&[7]));
        let of = 7 * images.each()..8 * images.each();
        assert_eq!(together.pixels[of], alone.pixels, "{name}: alone");
    }
}

#[test]
fn a_larger_budget_breaks_no_fewer_and_all_of_the_range_breaks_all() {
    let (network, images) = (network(), images(40));
    for id in ["pgd", "apgd-ce", "apgd-dlr", "square", "autoattack"] {
        let knobs = [("queries", whole(200))];
        let attack = made(id, &knobs).unwrap();
        let held = [0.02, 0.1, 0.3, 1.0]
            .map(|epsilon| struck(&network, &*attack, &images, epsilon).robust());
        assert!(
            held.windows(2).all(|pair| pair[1] <= pair[0] + 1),
            "{id} {held:?}"
        );
        assert!(held[3] <= 1, "{id} {held:?}");
    }
}

#[test]
fn the_cascade_leaves_no_more_than_any_of_its_parts() {
    let (network, images) = (network(), images(40));
    let knobs = |targets: i64| {
        [
            ("steps", whole(20)),
            ("queries", whole(200)),
            ("targets", whole(targets)),
        ]
    };
    let held = |id: &str, targets: i64| {
        struck(
            &network,
            &*made(id, &knobs(targets)).unwrap(),
            &images,
            0.12,
        )
    };
    let all = held("autoattack", 0);
    let fab = held("fab", 9);
    let held_by_fab = fab.distances.iter().filter(|distance| **distance > 0.12);
    let parts = [
        held("apgd-ce", 0).robust(),
        held("apgd-dlr", 9).robust(),
        held("square", 0).robust(),
        held_by_fab.count() as u64,
    ];
    for part in parts {
        assert!(all.robust() <= part, "{} {parts:?}", all.robust());
    }
}

/// An attack that does not keep its promise.
struct Cheat {
    by: f32,
}

impl Attack for Cheat {
    fn norm(&self) -> Norm {
        Norm::Linf
    }

    fn passes(&self, _: usize) -> u64 {
        0
    }

    fn craft(&self, _: &mut Victim<'_>, images: &Images, _: f64) -> Result<Vec<f32>> {
        Ok(images.pixels.iter().map(|pixel| pixel + self.by).collect())
    }
}

#[test]
fn who_goes_too_far_or_leaves_the_range_is_told_so() {
    let (network, mut images) = (network(), images(8));
    for pixel in &mut images.pixels {
        *pixel = pixel.clamp(0.2, 0.8);
    }
    let with = |by: f32, images: &Images| {
        let mut between = || Ok(());
        let mut victim = Victim::new(&network, &mut between);
        strike(&Cheat { by }, "cheat", &mut victim, images, 0.1)
    };
    assert!(with(0.1, &images).is_ok());
    for (by, images) in [
        (0.101, &images),
        (0.1, &super::images(8)),
        (f32::NAN, &images),
    ] {
        let error = with(by, images).unwrap_err();
        assert!(matches!(error, Error::BudgetExceeded { .. }), "{error}");
        assert!(error.to_string().contains("cheat moved image"), "{error}");
    }
}

/// Square takes images of any sides.
#[test]
fn images_need_not_be_square() {
    let shape = ImageShape {
        channels: 3,
        height: 9,
        width: 20,
    };
    let mut builder = Builder::new("wide", shape, 4, 3);
    let identity = Layer::Normalize {
        mean: vec![0.5; 3],
        std: vec![0.5; 3],
    };
    builder
        .chain(vec![
            ("normalize", identity),
            ("flatten", Layer::Flatten),
            ("fc", Layer::linear(4)),
        ])
        .unwrap();
    let network = builder.finish().unwrap();
    let mut images = Images {
        shape,
        pixels: (0..6 * shape.values())
            .map(|at| (at * 37 % 101) as f32 / 100.0)
            .collect(),
        labels: vec![0; 6],
        ids: (0..6).collect(),
        seed: 3,
    };
    let mut between = || Ok(());
    let logits = Victim::new(&network, &mut between)
        .logits(&images.pixels)
        .unwrap();
    for (label, row) in images.labels.iter_mut().zip(logits.chunks_exact(4)) {
        let best = (0..4).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        *label = best as u32;
    }
    for (name, attack) in table() {
        let struck = struck(&network, &*attack, &images, budget(&*attack));
        assert_eq!(struck.right.len(), 6, "{name}");
    }
}
