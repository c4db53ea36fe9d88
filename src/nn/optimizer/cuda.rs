//! Optimizer steps on a GPU: one kernel for all parameters, whose addresses lie in a table on the device.

use candle_core::{DType, Tensor};

use super::Memory;
use crate::nn::op::adamw;
use crate::nn::op::cuda::{BLOCK, Engine, Grid, at, at_option};
use crate::nn::op::sgd;
use crate::nn::parameters::{ParameterRole, Parameters};
use crate::nn::trace::Gradients;
use crate::nn::{Result, invalid};

pub(crate) mod levels;

/// Values that one block steps.
const CHUNK: usize = 2048;

/// Words of a parameter in the table: its address, those of what is remembered, of its gradient and its mask (or 0), its
/// count, 1 if it decays, and 1 if it is a distance, which stays above 0.
const WORDS: usize = 8;

/// Which of them is the count.
const COUNT: usize = 5;

pub(crate) const SOURCE: &str = r"
struct Stepped { float *p, *a, *b; const float *g, *mask; long long n, decays, is_distance; };

__device__ __forceinline__ float as_allowed(const Stepped &of, int i, float p) {
    if (of.is_distance) return fmaxf(p, LEAST_SCALE);
    return of.mask && of.mask[i] == 0.0f ? 0.0f : p;
}

KERNEL sgd_step(const Stepped *table, const int *chunks, const int *halt, float rate, float momentum, float weight_decay) {
    if (*halt) return;
    Stepped of = table[chunks[2 * blockIdx.x]];
    int first = chunks[2 * blockIdx.x + 1], end = first + 2048 < of.n ? first + 2048 : of.n;
    float decay = of.decays ? weight_decay : 0.0f;
    for (int i = first + threadIdx.x; i < end; i += blockDim.x) {
        float v = momentum * of.a[i] + (of.g[i] + decay * of.p[i]), p = of.p[i] - rate * v;
        of.a[i] = v;
        of.p[i] = as_allowed(of, i, p);
    }
}

KERNEL adamw_step(const Stepped *table, const int *chunks, const int *halt, float beta1, float beta2, float fresh1,
                  float fresh2, float epsilon, float length, float unbias, float keep_decayed) {
    if (*halt) return;
    Stepped of = table[chunks[2 * blockIdx.x]];
    int first = chunks[2 * blockIdx.x + 1], end = first + 2048 < of.n ? first + 2048 : of.n;
    float keep = of.decays ? keep_decayed : 1.0f;
    for (int i = first + threadIdx.x; i < end; i += blockDim.x) {
        float g = of.g[i], m = beta1 * of.a[i] + fresh1 * g, v = beta2 * of.b[i] + fresh2 * g * g;
        float p = keep * of.p[i] - length * m / (sqrtf(v) * unbias + epsilon);
        of.a[i] = m;
        of.b[i] = v;
        of.p[i] = as_allowed(of, i, p);
    }
}
";

/// The tables on the device, and what they were made of.
#[derive(Debug)]
pub(super) struct Tables {
    words: Vec<u64>,
    table: Tensor,
    chunks: Tensor,
    blocks: usize,
}

impl<const N: usize> Memory<N> {
    /// The tables for these gradients, made anew only when something has moved.
    fn tables<R>(
        &self,
        engine: &Engine,
        parameters: &Parameters,
        gradients: &[Option<&Tensor>],
        with: impl FnOnce(&Tables) -> Result<R>,
    ) -> Result<R> {
        let mut words = Vec::with_capacity(parameters.len() * WORDS);
        for (index, (parameter, gradient)) in parameters.iter().zip(gradients).enumerate() {
            let Some(gradient) = gradient else { continue };
            let stepped = self.unrounded[index].as_ref().unwrap_or(&parameter.value);
            let kept = |kind: usize| at_option(self.kept.get(kind).map(|kept| &kept[index]));
            words.extend([
                at(stepped)?,
                kept(0)?,
                kept(1)?,
                at(gradient)?,
                at_option(parameter.mask.as_ref())?,
                parameter.value.elem_count() as u64,
                u64::from(parameter.role.decays()),
                u64::from(parameter.role == ParameterRole::Step),
            ]);
        }
        let mut tables = self.tables.borrow_mut();
        if let Some(tables) = &*tables
            && tables.words == words
        {
            return with(tables);
        }
        let counts = words.chunks_exact(WORDS).map(|of| of[COUNT] as usize);
        let chunks: Vec<u32> = counts
            .enumerate()
            .flat_map(|(index, n)| {
                (0..n)
                    .step_by(CHUNK)
                    .flat_map(move |first| [index as u32, first as u32])
            })
            .collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let table = engine.lasting(bytes.len(), DType::U8)?;
        engine.write_bytes(at(&table)?, &bytes)?;
        let made = tables.insert(Tables {
            words,
            table,
            blocks: chunks.len() / 2,
            chunks: engine.upload(&chunks, &[chunks.len()])?,
        });
        with(made)
    }

    /// A step of stochastic gradient descent.
    pub(super) fn step_sgd(
        &self,
        engine: &Engine,
        parameters: &mut Parameters,
        gradients: &Gradients,
        step: sgd::Step,
    ) -> Result<()> {
        self.check(parameters, gradients)?;
        let stepped = self.learn_on_device(engine, parameters, gradients)?;
        self.tables(engine, parameters, &stepped, |tables| {
            let args = [
                at(&tables.table)?.into(),
                at(&tables.chunks)?.into(),
                engine.halt()?.into(),
                step.rate.into(),
                step.momentum.into(),
                step.weight_decay.into(),
            ];
            engine.launch("sgd_step", grid(tables), &args)
        })?;
        self.round_on_device(engine, parameters, gradients)
    }

    /// A step of Adam with decoupled weight decay.
    pub(super) fn step_adamw(
        &self,
        engine: &Engine,
        parameters: &mut Parameters,
        gradients: &Gradients,
        (step, weight_decay): (adamw::Step, f64),
    ) -> Result<()> {
        self.check(parameters, gradients)?;
        let [rest @ .., _] = step.numbers();
        let [.., keep] = step.with_decay(weight_decay as f32).numbers();
        let stepped = self.learn_on_device(engine, parameters, gradients)?;
        self.tables(engine, parameters, &stepped, |tables| {
            let first = [
                at(&tables.table)?.into(),
                at(&tables.chunks)?.into(),
                engine.halt()?.into(),
            ];
            let numbers = rest.map(Into::into);
            let args = [&first[..], &numbers, &[keep.into()]].concat();
            engine.launch("adamw_step", grid(tables), &args)
        })?;
        self.round_on_device(engine, parameters, gradients)
    }

    fn check(&self, parameters: &Parameters, gradients: &Gradients) -> Result<()> {
        if self.names.len() == parameters.len() && gradients.parameters.len() == parameters.len() {
            return Ok(());
        }
        Err(invalid("an optimizer was made for another network"))
    }
}

fn grid(tables: &Tables) -> Grid {
    Grid {
        blocks: (tables.blocks.max(1), 1),
        threads: BLOCK,
    }
}
