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
use crate::spec::{KnobValue, Method, NetworkId, Setting, attack_name, attack_variant};

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
            let condition = self.condition(method)?;
            let epsilons = setting.numbers("epsilons");
            let curve = budgets::curve(
                &epsilons,
                budgets::usual(&self.dataset, attack.norm()) * attack.reach(),
            );
            // The same attack once more: one curve with the budgets of both.
            if let Some(known) = all.iter_mut().find(|other| other.condition == condition) {
                known.epsilons.extend(curve);
                known.epsilons.sort_by(f64::total_cmp);
                known.epsilons.dedup();
                continue;
            }
            all.push(Asked {
                id: method.id.clone(),
                condition,
                images: usize::try_from(setting.integer("images")).unwrap_or(usize::MAX),
                epsilons: curve,
                attack,
            });
        }
        Ok(all)
    }

    /// Under which an attack's findings stand: its id, its variant, and every other knob that is not where it stands by
    /// itself, so that a name means the same in every study, whatever else was asked for. How many images are attacked
    /// is said only where the same attack is asked of different ones.
    fn condition(&self, method: &Method) -> Result<String> {
        let named = |method: &Method| -> Result<(String, i64)> {
            let entry = attack::find(&method.id)?;
            let setting = crate::catalog::completed(&method.setting, entry.knobs);
            let name = attack_name(&method.id, &setting, entry.knobs);
            Ok((name, setting.integer("images")))
        };
        let (name, images) = named(method)?;
        for other in &self.attacks {
            let (same, others) = named(other)?;
            if same == name && others != images {
                return Ok(format!("{name}:images={images}"));
            }
        }
        Ok(name)
    }

    /// What the attacks that were asked for leave out on so many classes, a sentence each.
    pub fn remarks(&self, classes: usize) -> Vec<String> {
        let mut remarks: Vec<String> = Vec::new();
        for asked in self.asked().unwrap_or_default() {
            let remark = asked.attack.remark(classes);
            remarks.extend(remark.map(|remark| format!("{}: {remark}", asked.condition)));
            let unit = asked.attack.published().unwrap_or(1.0);
            let largest = asked.epsilons.last().copied().unwrap_or(0.0);
            // Sums of steps are not exact.
            let farthest = asked.attack.farthest();
            if let Some(farthest) = farthest.filter(|farthest| largest > farthest * (1.0 + 1e-9)) {
                remarks.push(format!(
                    "{}: its steps reach no farther than {} in pixels, and larger budgets say nothing more of a network",
                    asked.condition,
                    farthest * unit
                ));
            }
        }
        remarks
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

/// What keeps attacks from being used, or from being used on so many classes, in one sentence.
pub fn impossible(attacks: &[Method], classes: usize) -> Option<String> {
    attacks.iter().find_map(|method| {
        let entry = attack::find(&method.id).ok()?;
        let made = entry.made(&method.setting);
        let setting = crate::catalog::completed(&method.setting, entry.knobs);
        let name = format!("{}{}", method.id, attack_variant(&setting));
        let is_turned = |id: &&&str| {
            let knob = entry.knobs.iter().find(|knob| knob.id == **id);
            let stands = method.setting.0.get(**id);
            knob.zip(stands).is_some_and(|(knob, value)| knob.range.default() != *value)
        };
        if let Some(knob) = made.fixed().iter().find(is_turned) {
            return Some(format!(
                "{knob} of {name} is turned, and this attack has its own; it stays where it stands by itself"
            ));
        }
        // A pixel that was black and is white has changed by 1.
        let unit = made.published().unwrap_or(1.0);
        let asked = setting.numbers("epsilons");
        let beyond = asked.into_iter().find(|epsilon| epsilon * unit > 1.0);
        if let Some(epsilon) = beyond.filter(|_| made.norm() == Norm::Linf) {
            return Some(format!(
                "epsilons of {name} has {epsilon}, and no pixel can change by more than {}, from black to white",
                1.0 / unit
            ));
        }
        let fewest = made.fewest_classes();
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
    fn a_name_means_the_same_in_whatever_order_attacks_are_asked_for() {
        let turned = |id: &str, value: i64| method("pgd", &[(id, KnobValue::Integer(value))]);
        let budgets = |epsilons: &[f64]| {
            let list = epsilons.iter().map(|of| KnobValue::Real(*of)).collect();
            method("pgd", &[("epsilons", KnobValue::List(list))])
        };
        let conditions = |attacks: &[Method]| -> Vec<String> {
            let asked = Adversarial::new("mnist", attacks).asked().unwrap();
            asked.into_iter().map(|asked| asked.condition).collect()
        };
        let (many, usual) = (turned("steps", 50), method("pgd", &[]));
        assert_eq!(
            conditions(&[many.clone(), usual.clone()]),
            ["pgd:steps=50", "pgd"]
        );
        assert_eq!(conditions(&[many]), ["pgd:steps=50"]);
        // Other images, another name; only where they differ.
        let few = turned("images", 100);
        assert_eq!(conditions(std::slice::from_ref(&few)), ["pgd"]);
        assert_eq!(
            conditions(&[few, usual]),
            ["pgd:images=100", "pgd:images=1000"]
        );
        // Other budgets are more of the same curve.
        let asked = Adversarial::new("mnist", &[budgets(&[0.2]), budgets(&[0.1, 0.2])]);
        let asked = asked.asked().unwrap();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].epsilons, [0.0, 0.1, 0.2]);
    }

    #[test]
    fn few_pixels_changed_by_much_get_larger_budgets() {
        let asked = Adversarial::new("mnist", &[method("salt-and-pepper", &[])]);
        assert_eq!(
            asked.asked().unwrap()[0].epsilons,
            [0.0, 1.5, 3.0, 6.0, 12.0]
        );
    }

    #[test]
    fn what_is_left_out_with_few_classes_is_said() {
        let targeted = method("fab", &[("targets", KnobValue::Integer(20))]);
        let attacks = Adversarial::new("mnist", &[method("autoattack", &[]), targeted]);
        assert_eq!(
            attacks.remarks(10),
            ["fab:targets=20: 20 targets are more than the 9 other classes, which are all"]
        );
        let of_three = attacks.remarks(3);
        assert!(
            of_three[0].contains("autoattack: with 3 classes"),
            "{of_three:?}"
        );
        assert!(attacks.remarks(2)[0].contains("is left out"));
        assert!(
            Adversarial::new("mnist", &[method("autoattack", &[])])
                .remarks(4)
                .is_empty()
        );
    }

    #[test]
    fn an_attack_as_published_takes_no_other_steps_and_says_how_far_it_goes() {
        let published = |knobs: &[(&str, KnobValue)]| {
            let mut method = method("pgd", knobs);
            let word = KnobValue::Choice("published".to_owned());
            method.setting = method.setting.with("space", word);
            method
        };
        let steps = published(&[("steps", KnobValue::Integer(50))]);
        assert_eq!(
            impossible(&[steps], 10).unwrap(),
            "steps of pgd:published is turned, and this attack has its own; it stays where it stands by itself"
        );
        assert_eq!(impossible(&[published(&[])], 10), None);
        // 20 steps of 0.01 are 0.2 of its units, 0.1 in pixels: Fashion-MNIST's curve goes to twice 0.1 of its units.
        let of = |dataset: &str| Adversarial::new(dataset, &[published(&[])]).remarks(10);
        assert!(of("fashion-mnist").is_empty(), "{:?}", of("fashion-mnist"));
        assert_eq!(
            of("mnist"),
            [
                "pgd:published: its steps reach no farther than 0.1 in pixels, and larger budgets say nothing more of a network"
            ]
        );
    }

    #[test]
    fn no_budget_is_larger_than_all_that_a_pixel_can_change() {
        let within = |epsilon: f64, knobs: &[(&str, KnobValue)]| {
            let mut method = method("pgd", knobs);
            let list = KnobValue::List(vec![KnobValue::Real(epsilon)]);
            method.setting = method.setting.with("epsilons", list);
            impossible(&[method], 10)
        };
        let word = |id: &'static str, word: &str| [(id, KnobValue::Choice(word.to_owned()))];
        assert_eq!(
            within(3.0, &[]).unwrap(),
            "epsilons of pgd has 3, and no pixel can change by more than 1, from black to white"
        );
        assert_eq!(within(1.0, &[]), None);
        assert_eq!(within(3.0, &word("norm", "l2")), None);
        // Its own space is two units wide.
        assert_eq!(within(2.0, &word("space", "published")), None);
        assert!(
            within(2.1, &word("space", "published"))
                .unwrap()
                .contains("more than 2,")
        );
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
