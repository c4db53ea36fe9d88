//! Ops asked for by themselves, to be timed: what a card reaches on a shape, beside its ceilings.

use std::rc::Rc;

use candle_core::{DType, Device, Tensor};

use super::{Engine, Operand, Product, at, engine};
use crate::nn::op::batch_norm2d::cuda as batch_norm2d;
use crate::nn::op::conv2d::cuda::{Pass, Wanted};
use crate::nn::op::conv2d::{Conv2d, Then};
use crate::nn::op::geometry::Geometry;
use crate::nn::op::{add, depthwise_conv2d};
use crate::nn::{Result, invalid};

/// One pass of an op, asked for as often as it is called.
pub type Work = Box<dyn Fn() -> Result<()>>;

/// Passes by their names.
pub type Passes = Vec<(&'static str, Work)>;

fn on(device: &Device) -> Result<Rc<Engine>> {
    match device {
        Device::Cuda(device) => engine(device),
        _ => Err(invalid("the CPU's ops are timed otherwise")),
    }
}

/// Small values, so that nothing overflows however often a pass is repeated.
fn filled(engine: &Engine, n: usize) -> Result<Tensor> {
    let tensor = engine.empty(n, DType::F32)?;
    let values: Vec<f32> = (0..n).map(|at| (at % 17) as f32 / 17.0 - 0.5).collect();
    engine.write(at(&tensor)?, &values)?;
    Ok(tensor)
}

/// The product of two square matrices of `side` rows: what cuBLAS reaches.
pub fn product(device: &Device, side: usize) -> Result<Work> {
    let engine = on(device)?;
    let [a, b, c] = [(); 3].map(|()| filled(&engine, side * side));
    let (a, b, c) = (a?, b?, c?);
    Ok(Box::new(move || {
        let operand = |tensor: &Tensor| {
            Ok::<_, candle_core::Error>(Operand {
                address: at(tensor)?,
                row: side,
                transposed: false,
            })
        };
        let product = Product {
            m: side,
            n: side,
            k: side,
            a: operand(&a)?,
            b: operand(&b)?,
            c: at(&c)?,
            adds: false,
        };
        engine.multiply(&product)
    }))
}

/// A copy of `n` floats, which reads and writes each: what the memory reaches.
pub fn copy(device: &Device, n: usize) -> Result<Work> {
    let engine = on(device)?;
    let (from, to) = (engine.empty(n, DType::F32)?, engine.empty(n, DType::F32)?);
    engine.zero(at(&from)?, n)?;
    Ok(Box::new(move || engine.copy(at(&from)?, at(&to)?, n)))
}

/// A convolution or a linear layer: forward, the gradient of the input, those of the weights and the bias.
pub fn convolution(
    device: &Device,
    geometry: Geometry,
    outputs: usize,
    batch: usize,
) -> Result<Passes> {
    let engine = on(device)?;
    let conv = Conv2d {
        geometry,
        outputs,
        then: Then::Nothing,
    };
    let n = batch * conv.values();
    let x = filled(&engine, batch * geometry.image())?;
    let w = filled(&engine, outputs * geometry.depth())?;
    let (y, dy) = (filled(&engine, n)?, filled(&engine, n)?);
    let (dx, dw) = (x.copy()?, w.copy()?);
    let db = filled(&engine, outputs)?;
    let asked = move |which: usize| -> Result<()> {
        let pass = Pass {
            x: &x,
            w: &w,
            b: None,
            y: &y,
            place: None,
        };
        let wanted = match which {
            0 => return conv.forward_cuda(&engine, pass),
            1 => Wanted {
                dx: Some(&dx),
                ..Wanted::default()
            },
            _ => Wanted {
                dw: Some(&dw),
                db: Some(&db),
                ..Wanted::default()
            },
        };
        conv.backward_cuda(&engine, pass, &dy, wanted)
    };
    Ok(by_number(["forward", "to input", "to weights"], asked))
}

/// A depthwise convolution, likewise without bias.
pub fn depthwise(device: &Device, geometry: Geometry, batch: usize) -> Result<Passes> {
    let engine = on(device)?;
    let n = batch * geometry.positions() * geometry.channels;
    let x = filled(&engine, batch * geometry.image())?;
    let w = filled(
        &engine,
        geometry.kernel * geometry.kernel * geometry.channels,
    )?;
    let (y, dy) = (filled(&engine, n)?, filled(&engine, n)?);
    let (dx, dw) = (x.copy()?, w.copy()?);
    let asked = move |which: usize| -> Result<()> {
        let (engine, g) = (&engine, &geometry);
        match which {
            0 => depthwise_conv2d::cuda::forward(engine, g, &x, &w, None, false, &y),
            1 => depthwise_conv2d::cuda::backward(engine, g, &x, &w, at(&dy)?, Some(&dx), None),
            _ => depthwise_conv2d::cuda::backward(engine, g, &x, &w, at(&dy)?, None, Some(&dw)),
        }
    };
    Ok(by_number(["forward", "to input", "to weights"], asked))
}

/// A batch normalization with its ReLU, in training.
pub fn normalization(device: &Device, channels: usize, positions: usize) -> Result<Passes> {
    let engine = on(device)?;
    let n = channels * positions;
    let (x, dy) = (filled(&engine, n)?, filled(&engine, n)?);
    let (y, dx) = (x.copy()?, x.copy()?);
    let (weight, bias) = (filled(&engine, channels)?, filled(&engine, channels)?);
    let (d_weight, d_bias) = (weight.copy()?, bias.copy()?);
    let statistics = engine.empty(batch_norm2d::statistics_len(channels), DType::F32)?;
    let asked = move |which: usize| -> Result<()> {
        let affine = batch_norm2d::OnDevice {
            weight: &weight,
            bias: &bias,
            epsilon: 1e-5,
        };
        if which == 0 {
            return batch_norm2d::forward_train(&engine, &affine, &x, None, true, &y, &statistics);
        }
        let wanted = batch_norm2d::Wanted {
            dx: Some(&dx),
            d_weight: Some(&d_weight),
            d_bias: Some(&d_bias),
            residual: None,
        };
        batch_norm2d::backward_train(&engine, &affine, &statistics, &x, &y, true, &dy, wanted)
    };
    // The backward pass reads what the forward pass measured.
    asked(0)?;
    Ok(by_number(["forward", "backward"], asked))
}

/// A sum with its ReLU.
pub fn sum(device: &Device, n: usize) -> Result<Work> {
    let engine = on(device)?;
    let (a, b, y) = (
        filled(&engine, n)?,
        filled(&engine, n)?,
        engine.empty(n, DType::F32)?,
    );
    Ok(Box::new(move || {
        add::cuda::forward(&engine, &a, &b, true, &y)
    }))
}

/// Passes that share what they work on.
fn by_number<const N: usize>(
    names: [&'static str; N],
    asked: impl Fn(usize) -> Result<()> + 'static,
) -> Passes {
    let asked = Rc::new(asked);
    let one = |(number, name): (usize, &'static str)| {
        let asked = Rc::clone(&asked);
        let work: Work = Box::new(move || asked(number));
        (name, work)
    };
    names.into_iter().enumerate().map(one).collect()
}
