//! Pairs of feature maps brought together where they lie, in main memory or on a GPU.

use candle_core::{Device, Tensor};

use super::{OfMap, Regressor, attention_transfer};
use crate::nn::Result;
use crate::nn::loss::{Found, Where};
use crate::nn::op::write;

/// What maps are compared by.
#[derive(Debug)]
pub struct Matcher(How);

#[derive(Debug)]
enum How {
    Attention,
    /// With the velocities of the regressor's weights and then of its bias.
    Hint(Regressor, Vec<f32>),
    #[cfg(feature = "cuda")]
    OnDevice(super::cuda::Matcher),
}

/// What pairs of maps cost together, and the gradient with respect to the student's map of each.
#[derive(Debug)]
pub struct Matched {
    pub found: Found,
    pub d_students: Vec<Tensor>,
}

impl Matcher {
    /// Attention transfer, of maps on a device.
    pub fn attention(device: &Device) -> Self {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(_) = device {
            return Self(How::OnDevice(super::cuda::Matcher::attention()));
        }
        let _ = device;
        Self(How::Attention)
    }

    /// FitNets' hint, of maps on a device: a regressor to so many channels begins with these weights, (C_t, C_s).
    pub fn hint(weight: Vec<f32>, teachers: usize, device: &Device) -> Result<Self> {
        let regressor = Regressor::new(weight, teachers);
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = device {
            let engine = crate::nn::op::cuda::engine(device)?;
            let matcher = super::cuda::Matcher::hint(&engine, &regressor)?;
            return Ok(Self(How::OnDevice(matcher)));
        }
        let _ = device;
        let velocity = vec![0.0; regressor.weight.len() + teachers];
        Ok(Self(How::Hint(regressor, velocity)))
    }

    /// The loss of pairs of a student's and a teacher's map, times `strength`; adds to the regressor's gradients.
    ///
    /// # Errors
    /// When two maps do not fit together.
    pub fn of(&mut self, pairs: &[(Tensor, Tensor)], strength: f64) -> Result<Matched> {
        let (mut mean, mut d_students) = (0.0, Vec::with_capacity(pairs.len()));
        for (student, teacher) in pairs {
            let of_map = match &mut self.0 {
                How::Attention => stronger(attention_transfer(student, teacher)?, strength)?,
                How::Hint(regressor, _) => regressor.hint(student, teacher, strength)?,
                #[cfg(feature = "cuda")]
                How::OnDevice(matcher) => return matcher.of(pairs, strength),
            };
            mean += of_map.mean;
            d_students.push(of_map.d_student);
        }
        let found = Found(Where::Known { mean, correct: 0 });
        Ok(Matched { found, d_students })
    }

    /// The regressor's own step of gradient descent with momentum, v = momentum · v + g, w = w - rate · v; it does not decay.
    pub fn step(&mut self, learning_rate: f64, momentum: f64) -> Result<()> {
        match &mut self.0 {
            How::Attention => {}
            How::Hint(regressor, velocity) => {
                let gradients = regressor.d_weight.iter_mut().chain(&mut regressor.d_bias);
                let values = regressor.weight.iter_mut().chain(&mut regressor.bias);
                for ((value, gradient), velocity) in values.zip(gradients).zip(velocity) {
                    *velocity = momentum as f32 * *velocity + *gradient;
                    *value -= learning_rate as f32 * *velocity;
                    *gradient = 0.0;
                }
            }
            #[cfg(feature = "cuda")]
            How::OnDevice(matcher) => matcher.step(learning_rate, momentum)?,
        }
        Ok(())
    }

    /// Before a batch is tried again in smaller parts: forgets what was added to the regressor's gradients, and gives back
    /// memory that is kept from batch to batch.
    pub fn begin_again(&mut self) -> Result<()> {
        match &mut self.0 {
            How::Attention => Ok(()),
            How::Hint(regressor, _) => {
                regressor.d_weight.fill(0.0);
                regressor.d_bias.fill(0.0);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            How::OnDevice(matcher) => matcher.begin_again(),
        }
    }

    /// Weights (C_t, C_s) and bias of the regressor, where there is one.
    pub fn regressor(&self) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        Ok(match &self.0 {
            How::Attention => None,
            How::Hint(regressor, _) => Some((regressor.weight.clone(), regressor.bias.clone())),
            #[cfg(feature = "cuda")]
            How::OnDevice(matcher) => matcher.regressor()?,
        })
    }
}

/// A loss times a strength.
fn stronger(of_map: OfMap, strength: f64) -> Result<OfMap> {
    write(&of_map.d_student, |gradient| {
        for g in gradient {
            *g = (f64::from(*g) * strength) as f32;
        }
    })?;
    Ok(OfMap {
        mean: of_map.mean * strength,
        ..of_map
    })
}
