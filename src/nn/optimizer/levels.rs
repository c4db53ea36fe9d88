//! Parameters on levels, between two steps: the unrounded values are stepped, the levels move, the values are rounded.
//!
//! Levels that stay bound the unrounded values. Levels that follow have the scale max|w| / q_max after each step (Jacob et
//! al. 2018, arXiv:1712.05877, section 3.1). Learned ones have the gradients of Esser et al. 2020 (arXiv:1902.08153,
//! equations 3 and 5): of a weight 1 inside the range and 0 outside, of the step as [`fake_quant::backward_scale`] says.

use candle_core::Tensor;

use crate::nn::Result;
use crate::nn::network::STEP;
use crate::nn::op::fake_quant;
use crate::nn::op::{read, set_values, values, write};
use crate::nn::parameters::{Moves, Parameter, ParameterRole, Parameters, RowLevels};

/// Puts every quantized parameter on its levels, where it may not have been yet.
pub(super) fn begin(parameters: &Parameters, unrounded: &[Option<Tensor>]) -> Result<()> {
    for (parameter, unrounded) in parameters.iter().zip(unrounded) {
        if let (Some(levels), Some(unrounded)) = (&parameter.levels, unrounded) {
            let mut rounded = values(unrounded)?;
            levels.simulate(&mut rounded);
            set_values(&parameter.value, &rounded)?;
        }
    }
    Ok(())
}

/// For each parameter whose step is learned, the place of that step.
pub(super) fn steps(parameters: &Parameters) -> Vec<Option<usize>> {
    let place = |parameter: &Parameter| {
        let levels = parameter.levels.as_ref()?;
        let name = (levels.moves() == Moves::Learn).then(|| parameter.name.clone() + STEP)?;
        parameters.iter().position(|step| step.name == name)
    };
    parameters.iter().map(place).collect()
}

/// The gradient of the steps of a parameter from that of its rounded values, which becomes that of the unrounded ones.
pub(super) fn learn(levels: &RowLevels, unrounded: &[f32], gradient: &mut [f32]) -> Vec<f32> {
    let run = levels.run(unrounded.len());
    let rows = unrounded.chunks(run).zip(gradient.chunks_mut(run));
    let of_row = |(levels, (v, gradient)): (&fake_quant::Levels, (&[f32], &mut [f32]))| {
        let step = fake_quant::backward_scale(levels, v, gradient, v.len());
        for (gradient, v) in gradient.iter_mut().zip(v) {
            if !levels.holds(*v) {
                *gradient = 0.0;
            }
        }
        step
    };
    levels.all().iter().zip(rows).map(of_row).collect()
}

/// Moves the levels that do not stay, after a step with these gradients.
pub(super) fn move_on(
    parameters: &mut Parameters,
    unrounded: &[Option<Tensor>],
    steps: &[Option<usize>],
    gradients: &[Option<Tensor>],
) -> Result<()> {
    for step in parameters.iter().filter(|p| p.role == ParameterRole::Step) {
        // A step is a distance: it stays above 0.
        write(&step.value, |step| {
            for step in step {
                *step = step.max(fake_quant::LEAST_SCALE);
            }
        })?;
    }
    for at in 0..parameters.len() {
        let (Some(levels), Some(unrounded), Some(_)) =
            (&parameters.at(at).levels, &unrounded[at], &gradients[at])
        else {
            continue;
        };
        let scales = match (levels.moves(), steps[at]) {
            (Moves::Follow, _) => reach(levels, &values(unrounded)?),
            (Moves::Learn, Some(step)) => read(&parameters.at(step).value)?.to_vec(),
            _ => continue,
        };
        if let Some(levels) = &mut parameters.at_mut(at).levels {
            levels.rescale(&scales);
        }
    }
    Ok(())
}

/// The scales at which symmetric levels reach to the largest values.
fn reach(levels: &RowLevels, values: &[f32]) -> Vec<f32> {
    let runs = values.chunks(levels.run(values.len()));
    let scale = |(levels, run): (&fake_quant::Levels, &[f32])| {
        let largest = run.iter().fold(0.0_f32, |largest, v| largest.max(v.abs()));
        largest / levels.q_max as f32
    };
    levels.all().iter().zip(runs).map(scale).collect()
}

/// Puts a parameter on the levels nearest to its unrounded values, which levels that stay keep within their range.
pub(super) fn round(parameter: &Parameter, unrounded: &Tensor) -> Result<()> {
    let Some(levels) = &parameter.levels else {
        return Ok(());
    };
    let stays = levels.moves() == Moves::Stay;
    let run = levels.run(parameter.value.elem_count());
    write(unrounded, |unrounded| {
        write(&parameter.value, |value| {
            let rows = value.chunks_mut(run).zip(unrounded.chunks_mut(run));
            for (levels, (value, unrounded)) in levels.all().iter().zip(rows) {
                let (least, greatest) = levels.range();
                for (value, unrounded) in value.iter_mut().zip(unrounded) {
                    if stays {
                        *unrounded = unrounded.clamp(least, greatest);
                    }
                    *value = levels.simulate(*unrounded);
                }
            }
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::op::fake_quant::Levels;

    /// The example of definitions: s = .5, -4 to 3; by hand, and PyTorch 2.15's `_fake_quantize_learnable_per_tensor_affine`.
    #[test]
    fn the_gradients_of_a_learned_step() {
        let levels = Levels {
            scale: 0.5,
            zero_point: 0,
            q_min: -4,
            q_max: 3,
        };
        let v = [-3.0, -0.6, 0.2, 0.76, 2.0];
        assert_eq!(v.map(|v| levels.simulate(v)), [-2.0, -0.5, 0.0, 1.0, 1.5]);
        // One value at a time, with g = 1 / sqrt(1 · 3).
        let raw = v.map(|v| fake_quant::backward_scale(&levels, &[v], &[1.0], 1) * 3.0_f32.sqrt());
        for (found, expected) in raw.into_iter().zip([-4.0, 0.2, -0.4, 0.48, 3.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        let mut gradient = [1.0; 5];
        let of_step = learn(&levels.into(), &v, &mut gradient);
        // g = 1 / sqrt(5 · 3) = .2581989, and g (-4 + .2 - .4 + .48 + 3).
        assert!((of_step[0] + 0.185_903_2).abs() < 1e-6, "{of_step:?}");
        assert_eq!(gradient, [0.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn levels_that_follow_reach_to_the_largest_value_of_each_row() {
        let levels = Levels {
            scale: 1.0,
            zero_point: 0,
            q_min: -7,
            q_max: 7,
        };
        let rows = RowLevels::new(vec![levels; 2]).unwrap();
        assert_eq!(reach(&rows, &[0.5, -3.5, 0.0, 0.0, 7.0, 1.0]), [0.5, 1.0]);
    }
}
