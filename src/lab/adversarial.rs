//! What a study knows of attacks: which were asked for, on which images, and what was made against its networks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::lab::attack::{self, Attack, Images, Norm, Victim, budgets};
use crate::lab::data::Examples;
use crate::lab::error::Result;
use crate::measurement::Through;
use crate::nn::network::Network;
use crate::nn::op::fake_quant::Estimator;
use crate::spec::{KnobValue, Method, NetworkId, Setting};

/// Attacked images, one after another.
type Pixels = Rc<[f32]>;

/// The attacks of a reference and its branches.
#[derive(Debug, Default)]
pub struct Adversarial {
    dataset: String,
    attacks: Vec<Method>,
    /// By network and number of images.
    made: RefCell<BTreeMap<(NetworkId, usize), Pixels>>,
}

/// Bytes of attacked images that are kept in memory; more are made again when they are asked for.
const MADE_BUDGET: usize = 256 << 20;

/// An attack that was asked for, ready to be used.
pub struct Asked {
    pub id: String,
    /// Under which its findings stand: the id, and what sets it apart from the same attack asked for otherwise.
    pub condition: String,
    pub attack: Box<dyn Attack>,
    /// How many images are attacked.
    pub images: usize,
    /// Rising, 0 first.
    pub epsilons: Vec<f64>,
}

impl Adversarial {
    /// The attacks that were asked for on a data set.
    pub fn new(dataset: &str, attacks: &[Method]) -> Self {
        Self {
            dataset: dataset.to_owned(),
            attacks: attacks.to_vec(),
            made: RefCell::default(),
        }
    }

    /// The attacks, ready to be used.
    ///
    /// # Errors
    /// When one is not in the table, which checking excludes.
    pub fn asked(&self) -> Result<Vec<Asked>> {
        let mut all: Vec<Asked> = Vec::new();
        for method in &self.attacks {
            let entry = attack::find(&method.id)?;
            let setting = crate::catalog::completed(&method.setting, entry.knobs);
            let attack = (entry.build)(&setting);
            let mut condition = format!("{}{}", method.id, attack.variant());
            let own = |condition: &str| all.iter().any(|other| other.condition == condition);
            if own(&condition) {
                for knob in entry.knobs {
                    let value = setting.0.get(&*knob.id);
                    if let Some(value) = value.filter(|value| **value != knob.range.default()) {
                        condition = format!("{condition}:{}={value}", knob.id);
                    }
                }
            }
            if own(&condition) {
                continue;
            }
            all.push(Asked {
                id: method.id.clone(),
                condition,
                images: usize::try_from(setting.integer("images")).unwrap_or(usize::MAX),
                epsilons: budgets::curve(
                    &setting.numbers("epsilons"),
                    &self.dataset,
                    attack.norm(),
                ),
                attack,
            });
        }
        Ok(all)
    }

    /// The budget at which attacks on this data set are commonly reported.
    pub fn usual_budget(&self, norm: Norm) -> f64 {
        budgets::usual(&self.dataset, norm)
    }

    /// So many test images, every class in its share, the same for every network.
    pub fn images(&self, test: &Examples, n: usize, seed: u64) -> Images {
        Images::of(test, &test.stratified(n, seed), seed)
    }

    /// What PGD makes of images against a network within the usual budget; made once.
    ///
    /// # Errors
    /// As the attack's.
    pub fn made_against(
        &self,
        id: NetworkId,
        network: &Network,
        images: &Images,
        between: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Pixels> {
        let key = (id, images.len());
        if let Some(made) = self.made.borrow().get(&key) {
            return Ok(Rc::clone(made));
        }
        let pgd = made("pgd", &[])?;
        let epsilon = self.usual_budget(Norm::Linf);
        let mut victim = Victim::new(network, between);
        let struck = attack::strike(&*pgd, "pgd", &mut victim, images, epsilon)?;
        let pixels: Pixels = struck.pixels.into();
        let held: usize = self.made.borrow().values().map(|held| held.len()).sum();
        if (held + pixels.len()) * size_of::<f32>() <= MADE_BUDGET {
            self.made.borrow_mut().insert(key, Rc::clone(&pixels));
        }
        Ok(pixels)
    }
}

/// An attack with some knobs turned and the others where they stand by themselves.
///
/// # Errors
/// When it is not in the table.
pub fn made(id: &str, knobs: &[(&str, KnobValue)]) -> Result<Box<dyn Attack>> {
    let turned = knobs
        .iter()
        .fold(Setting::default(), |setting, (id, value)| {
            setting.with(id, value.clone())
        });
    Ok(attack::find(id)?.made(&turned))
}

/// The word of an estimator for a finding: said where the network rounds activations and the attack takes gradients.
pub fn estimator(network: &Network, gradient: Option<Estimator>) -> Option<Through> {
    let mut nodes = network.nodes().iter();
    let rounds = nodes.any(|node| node.layer.kind() == "fake-quant");
    gradient.filter(|_| rounds).map(|gradient| match gradient {
        Estimator::StraightThrough => Through::StraightThrough,
        Estimator::Nothing => Through::None,
        Estimator::Identity => Through::AsTheSimulator,
    })
}

/// What keeps attacks from being used on so many classes, in one sentence.
pub fn impossible(attacks: &[Method], classes: usize) -> Option<String> {
    attacks.iter().find_map(|method| {
        let entry = attack::find(&method.id).ok()?;
        let fewest = entry.made(&method.setting).fewest_classes();
        (classes < fewest).then(|| {
            format!(
                "{} needs {fewest} classes or more for its loss, and there are {classes}",
                method.id
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(id: &str, knobs: &[(&str, KnobValue)]) -> Method {
        let mut method = Method::plain(id);
        for (id, value) in knobs {
            method.setting = method.setting.with(id, value.clone());
        }
        method
    }

    #[test]
    fn attacks_that_differ_in_a_knob_have_conditions_of_their_own() {
        let word = |word: &str| KnobValue::Choice(word.to_owned());
        let asked = Adversarial::new(
            "cifar10",
            &[
                method("pgd", &[]),
                method("pgd", &[("norm", word("l2"))]),
                method("pgd", &[("space", word("published"))]),
                method("pgd", &[("gradient", word("none"))]),
                method("pgd", &[("steps", KnobValue::Integer(50))]),
                method("pgd", &[]),
                method("fab", &[("norm", word("l2"))]),
                method("deepfool", &[]),
            ],
        )
        .asked()
        .unwrap();
        let conditions: Vec<&str> = asked.iter().map(|asked| &*asked.condition).collect();
        assert_eq!(
            conditions,
            [
                "pgd",
                "pgd-l2",
                "pgd:published",
                "pgd:gradient-none",
                "pgd:steps=50",
                "fab-l2",
                "deepfool"
            ]
        );
        assert_eq!(asked[0].epsilons[3], 8.0 / 255.0);
        assert_eq!(asked[1].epsilons[3], 0.5);
    }

    #[test]
    fn a_loss_that_needs_more_classes_is_known_before() {
        let targeted = method("apgd-dlr", &[("targets", KnobValue::Integer(9))]);
        assert_eq!(impossible(&[Method::plain("apgd-dlr")], 3), None);
        assert!(
            impossible(&[Method::plain("pgd"), Method::plain("apgd-dlr")], 2)
                .unwrap()
                .contains("apgd-dlr needs 3 classes or more")
        );
        assert!(impossible(&[targeted], 3).unwrap().contains("4 classes"));
        assert_eq!(impossible(&[Method::plain("autoattack")], 2), None);
    }
}
