//! Linear networks, whose attacks are known in closed form: definitions O-12, O-13, O-19 to O-21.

use shrinklab::lab::attack::{Boundary, Loss, nearest};
use shrinklab::nn::op::set_values;

use super::*;

const POINT: ImageShape = ImageShape {
    channels: 1,
    height: 1,
    width: 2,
};

/// A linear network of three classes on two pixels, as it is or after rounding its images.
fn linear(rows: &[f32; 6], rounds: bool) -> Network {
    let mut builder = Builder::new("linear", POINT, 3, 1);
    let identity = Layer::Normalize {
        mean: vec![0.0],
        std: vec![1.0],
    };
    builder.then("normalize", identity).unwrap();
    if rounds {
        let levels = Layer::FakeQuant {
            scale: 1.0 / 15.0,
            zero_point: 0,
            q_min: 0,
            q_max: 15,
        };
        builder.then("levels", levels).unwrap();
    }
    builder.then("flatten", Layer::Flatten).unwrap();
    builder.then("fc", Layer::linear(3)).unwrap();
    let network = builder.finish().unwrap();
    for (name, values) in [("fc.weight", &rows[..]), ("fc.bias", &[0.0; 3])] {
        let mut all = network.parameters().iter();
        let parameter = all.find(|parameter| parameter.name == name).unwrap();
        set_values(&parameter.value, values).unwrap();
    }
    network
}

const ROWS: [f32; 6] = [1.0, 0.0, 0.0, 1.0, -1.0, -1.0];

fn slope(network: &Network, through: Estimator) -> Vec<f32> {
    let mut between = || Ok(());
    let mut victim = Victim::new(network, &mut between);
    victim.through(through);
    let slopes = victim.slopes(&[2.0, 1.0], 1, &mut |_, _, logits, d| {
        Loss::CrossEntropy.of(logits, 0, 0, d);
    });
    slopes.unwrap().gradients.remove(0)
}

#[test]
fn the_gradient_and_one_step_of_a_linear_model() {
    let gradient = slope(&linear(&ROWS, false), Estimator::StraightThrough);
    for (found, expected) in gradient.iter().zip([-0.277_427, 0.262_721]) {
        assert!((found - expected).abs() < 1e-5, "{gradient:?}");
    }
    let moved = Norm::Linf.moved(&[2.0, 1.0], &gradient, 0.1);
    assert!((moved[0] - 1.9).abs() < 1e-6 && (moved[1] - 1.1).abs() < 1e-6);
    let direction = Norm::L2.moved(&[0.0, 0.0], &gradient, 1.0);
    for (found, expected) in direction.iter().zip([-0.726_088, 0.687_602]) {
        assert!((found - expected).abs() < 1e-5, "{direction:?}");
    }
}

#[test]
fn the_nearest_boundary_is_found_from_the_networks_own_gradients() {
    let network = linear(&ROWS, false);
    let mut between = || Ok(());
    let mut victim = Victim::new(&network, &mut between);
    let slopes = victim
        .slopes(&[2.0, 1.0], 2, &mut |_, which, _, d| {
            d[which + 1] = 1.0;
            d[0] = -1.0;
        })
        .unwrap();
    let boundaries: Vec<Boundary<'_>> = (0..2)
        .map(|which| Boundary {
            gap: f64::from(slopes.logits[which + 1] - slopes.logits[0]),
            normal: &slopes.gradients[which],
        })
        .collect();
    assert_eq!(nearest(&boundaries, Norm::L2), 0);
    let half = std::f64::consts::FRAC_1_SQRT_2;
    assert!((boundaries[0].distance(Norm::L2) - half).abs() < 1e-6);
    let step = boundaries[0].step(0.0);
    assert!((step[0] + 0.5).abs() < 1e-6 && (step[1] - 0.5).abs() < 1e-6);
}

/// Rounding: without an estimator there is no gradient, and an attack by it moves nothing.
#[test]
fn rounding_has_a_gradient_only_through_an_estimator() {
    let network = linear(&ROWS, true);
    let inside = |through| {
        let mut between = || Ok(());
        let mut victim = Victim::new(&network, &mut between);
        victim.through(through);
        let slopes = victim.slopes(&[0.4, 0.2], 1, &mut |_, _, logits, d| {
            Loss::CrossEntropy.of(logits, 0, 0, d);
        });
        slopes.unwrap().gradients.remove(0)
    };
    assert_eq!(inside(Estimator::Nothing), [0.0, 0.0]);
    assert!(inside(Estimator::StraightThrough).iter().all(|g| *g != 0.0));
    // Outside the range, like the first of these two pixels, nothing passes.
    let outside = slope(&network, Estimator::StraightThrough);
    assert!(outside[0] == 0.0 && outside[1] != 0.0, "{outside:?}");
    let images = few();
    for (gradient, is_moved) in [("none", false), ("straight-through", true)] {
        let knobs = [("gradient", word(gradient))];
        let struck = struck(&network, &*made("fgsm", &knobs).unwrap(), &images, 0.1);
        assert_eq!(struck.pixels != images.pixels, is_moved, "{gradient}");
    }
}

/// Four images that the linear network has right.
fn few() -> Images {
    Images {
        shape: POINT,
        pixels: vec![0.9, 0.1, 0.6, 0.5, 0.2, 0.7, 0.4, 0.45],
        labels: vec![0, 0, 1, 1],
        ids: vec![0, 1, 2, 3],
        seed: 1,
    }
}

#[test]
fn many_steps_on_a_linear_network_are_one() {
    let network = linear(&ROWS, false);
    let one = struck(&network, &*made("fgsm", &[]).unwrap(), &few(), 0.15);
    let knobs = [
        ("start", word("image")),
        ("step-size", KnobValue::Real(0.25)),
    ];
    let many = struck(&network, &*made("pgd", &knobs).unwrap(), &few(), 0.15);
    assert_eq!(one.right, [true, false, true, false]);
    assert_eq!(one.right, many.right);
    for at in [0, 2] {
        let of = 2 * at..2 * at + 2;
        for (a, b) in one.pixels[of.clone()].iter().zip(&many.pixels[of]) {
            assert!((a - b).abs() < 1e-6);
        }
    }
}

/// 16/255 in a space of deviation 0.5 are 8/255 in pixels.
#[test]
fn published_budgets_are_half_as_large_in_pixels() {
    let knobs = [("space", word("published"))];
    let network = linear(&ROWS, false);
    let struck = struck(
        &network,
        &*made("pgd", &knobs).unwrap(),
        &few(),
        16.0 / 255.0,
    );
    for at in 0..4 {
        let farthest = struck.distances[at];
        assert!((farthest - 8.0 / 255.0).abs() < 1e-6, "{farthest}");
    }
}
