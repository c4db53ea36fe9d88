//! Noise of the budget's size: the control that asks for no gradient and looks at no answer.
//!
//! x' = clamp(x + u, 0, 1), u uniform in [-ε, ε], or a random direction as long as the budget in the Euclidean norm. A
//! network that noise fools as often as an attack does was not attacked (Athalye et al. 2018, arXiv:1802.00420, section 3.1).

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::lab::attack::ball::Norm;
use crate::lab::attack::{Attack, Images, Victim, knobs};
use crate::lab::error::Result;

pub(super) const ENTRY: Entry<dyn Attack> = Entry {
    info: Info {
        id: text("uniform-noise"),
        title: text("Uniform noise"),
        summary: text("Random noise of the budget's size: the control of every attack."),
        reference: text("arXiv:1802.00420"),
        family: text("control"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(UniformNoise {
            norm: knobs::norm(setting),
            tries: knobs::whole(setting, "tries"),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::EPSILONS,
    knobs::images(1000),
    knobs::NORM,
    Knob {
        id: text("tries"),
        title: text("tries"),
        summary: text(
            "How often noise is drawn for each image; it is misclassified if it is so once.",
        ),
        range: Range::Integer {
            least: 1,
            most: 1000,
            default: 1,
        },
    },
];

struct UniformNoise {
    norm: Norm,
    tries: u32,
}

impl Attack for UniformNoise {
    fn norm(&self) -> Norm {
        self.norm
    }

    fn carries(&self) -> bool {
        false
    }

    fn passes(&self, _: usize) -> u64 {
        u64::from(self.tries)
    }

    fn craft(&self, victim: &mut Victim<'_>, images: &Images, epsilon: f64) -> Result<Vec<f32>> {
        let each = images.each();
        let mut found = images.pixels.clone();
        let mut left: Vec<usize> = (0..images.len()).collect();
        for again in 0..u64::from(self.tries) {
            let mut noisy = Vec::with_capacity(left.len() * each);
            for at in &left {
                let mut rng = images.stream("uniform-noise", *at, again);
                let drawn = match self.norm {
                    Norm::Linf => self.norm.within(images.image(*at), epsilon, &mut rng),
                    Norm::L2 => self.norm.on_surface(images.image(*at), epsilon, &mut rng),
                };
                found[at * each..(at + 1) * each].copy_from_slice(&drawn);
                noisy.extend(drawn);
            }
            // Whether the last draw worked is seen by whoever looks at what comes back.
            if again + 1 == u64::from(self.tries) {
                break;
            }
            let labels: Vec<u32> = left.iter().map(|at| images.labels[*at]).collect();
            let right = victim.right(&noisy, &labels)?;
            left = left
                .into_iter()
                .zip(right)
                .filter_map(|(at, right)| right.then_some(at))
                .collect();
            if left.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}
