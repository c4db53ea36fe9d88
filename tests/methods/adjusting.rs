//! A network that is changed while it is trained: a pruning that takes more and more.

use std::cell::RefCell;

use shrinklab::lab::context::{Halfway, HalfwayMut, Observer, Restored};
use shrinklab::lab::error::Result as LabResult;
use shrinklab::lab::train::Adjust;

use super::*;

const THREE: Recipe = Recipe {
    epochs: 3,
    ..RECIPE
};

/// Covers a growing share of one layer's weights, the first ones, until half of all steps are done.
fn cover(network: &mut Network, done: u64, total: u64) -> LabResult<bool> {
    let (name, until) = ("fc1.weight", total / 2);
    let n = network.parameters().values(name).unwrap().len();
    let covered = n / 2 * done.min(until) as usize / until as usize;
    let mask: Vec<f32> = (0..n)
        .map(|at| f32::from(u8::from(at >= covered)))
        .collect();
    network.parameters_mut().set_mask(name, &mask)?;
    Ok(done >= until)
}

/// Keeps what stands after the first epoch, and gives it back where it is asked to.
#[derive(Default)]
struct Memory {
    kept: Option<[Vec<u8>; 3]>,
    restores: bool,
}

impl Observer for Memory {
    fn epoch_ended(&mut self, _: &Network, _: u32, _: &mut Context<'_>) -> LabResult<()> {
        Ok(())
    }

    fn save(&mut self, at: &Halfway<'_>, _: &[Event]) -> LabResult<()> {
        if at.epochs == 1 {
            assert_eq!(at.best_loss, f64::INFINITY, "not yet what it shall be");
            let optimizer = at.optimizer.to_safetensors().unwrap();
            self.kept = Some([bytes(at.network), bytes(at.best), optimizer]);
        }
        Ok(())
    }

    fn restore(&mut self, into: &mut HalfwayMut<'_>) -> LabResult<Option<Restored>> {
        if !self.restores {
            return Ok(None);
        }
        let [network, best, optimizer] = self.kept.as_ref().unwrap();
        into.network
            .parameters_mut()
            .load_safetensors(network)
            .unwrap();
        into.best.parameters_mut().load_safetensors(best).unwrap();
        into.optimizer.load_safetensors(optimizer).unwrap();
        Ok(Some(Restored {
            epochs: 1,
            best_loss: f64::INFINITY,
            facts: Vec::new(),
        }))
    }
}

fn gradual(data: &Data, memory: &mut Memory, adjust: &Adjust<'_>) -> (Network, Network) {
    let mut network = build(data, 7);
    let training = Training {
        data,
        recipe: &THREE,
        objective: Objective::Classify,
        order_seed: 7,
        life: Life::default(),
        adjust: Some(adjust),
    };
    let (trained, _) = stating(REFERENCE, |cx| train(&mut network, &training, memory, cx));
    (network, trained.unwrap().best)
}

#[test]
fn masks_tighten_in_training_and_the_best_network_has_the_last_ones() {
    let data = data();
    let asked = RefCell::new(Vec::new());
    let adjust = |network: &mut Network, done: u64, total: u64| {
        asked.borrow_mut().push((done, total));
        cover(network, done, total)
    };
    let mut memory = Memory::default();
    let (network, best) = gradual(&data, &mut memory, &adjust);
    let steps = THREE.steps(data.split.train.len());
    let all: Vec<(u64, u64)> = (0..steps).map(|step| (step, steps)).collect();
    assert_eq!(*asked.borrow(), all);
    let covered = |network: &Network| {
        let values = network.parameters().values("fc1.weight").unwrap();
        values[..values.len() / 2].iter().all(|value| *value == 0.0)
    };
    assert!(covered(&network) && covered(&best));
    // Interrupted after an epoch, in the middle of the pruning, it goes on to the same end.
    memory.restores = true;
    let again = gradual(&data, &mut memory, &cover);
    assert_eq!(bytes(&again.0), bytes(&network));
    assert_eq!(bytes(&again.1), bytes(&best));
}
