//! On a GPU: sums in one order always, those of attention in 64 bits as on the host; the regressor's products by cuBLAS.

use candle_core::{DType, Tensor};

use super::matcher::Matched;
use super::{Regressor, sizes_of_pair};
use crate::nn::loss::cuda::Asked;
use crate::nn::loss::{Found, Where};
use crate::nn::op::cuda::{Arg, Engine, Grid, Operand, Product, Slot, at, countable, engine_of};
use crate::nn::op::values;
use crate::nn::{Result, invalid};

/// Kernels without `EACH` have a warp for each place, a block for each image, or one block alone.
pub(crate) const SOURCE: &str = r"
// A map's value at a place of another height and width: the mean of its window.
template <typename T>
__device__ __forceinline__ double window_mean(const T *map, int image, int line, int column, int h, int w, int height,
                                              int width, int channels, int c) {
    int top = line * h / height, bottom = ((line + 1) * h + height - 1) / height;
    int left = column * w / width, right = ((column + 1) * w + width - 1) / width;
    double sum = 0.0;
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) sum += (double)map[((image * h + y) * w + x) * channels + c];
    return sum / ((bottom - top) * (right - left));
}

// A part of the loss that an entry of the ledger adds up.
__device__ __forceinline__ void add_to_entry(double *entry, double loss, int *halt) {
    entry[0] += loss;
    if (!(loss - loss == 0.0)) *halt = 1;
}

KERNEL attention_of_map(const float *map, double *attention, int channels, int n) {
    int lane = threadIdx.x & 31, warps = (gridDim.x * blockDim.x) >> 5;
    for (int place = (blockIdx.x * blockDim.x + threadIdx.x) >> 5; place < n; place += warps) {
        const float *own = map + place * channels;
        double sum = 0.0;
        for (int c = lane; c < channels; c += 32) sum += (double)own[c] * (double)own[c];
        sum = of_warp(sum);
        if (lane == 0) attention[place] = sum;
    }
}

KERNEL attention_transfer(const double *students, const double *teachers, double *d_attention, double share, int height,
                          int width, int teachers_height, int teachers_width, double *losses, double *entry, int *halt,
                          unsigned int *counter) {
    int places = height * width, image = blockIdx.x;
    const double *student = students + image * places;
    // Holds the teacher's attention until the gradient takes its place.
    double *own = d_attention + image * places, of_student = 0.0, of_teacher = 0.0;
    for (int p = threadIdx.x; p < places; p += blockDim.x) {
        double t = window_mean(teachers, image, p / width, p % width, teachers_height, teachers_width, height, width, 1, 0);
        own[p] = t;
        of_student += student[p] * student[p];
        of_teacher += t * t;
    }
    of_student = sqrt(of_block(of_student));
    of_teacher = sqrt(of_block(of_teacher));
    double scale = of_student > 0.0 ? 1.0 / of_student : 0.0, teachers_scale = of_teacher > 0.0 ? 1.0 / of_teacher : 0.0;
    double apart = 0.0, along = 0.0;
    for (int p = threadIdx.x; p < places; p += blockDim.x) {
        double s = student[p] * scale, difference = s - own[p] * teachers_scale;
        own[p] = difference;
        apart += difference * difference;
        along += s * difference;
    }
    double distance = sqrt(of_block(apart));
    along = of_block(along) / distance;
    for (int p = threadIdx.x; p < places; p += blockDim.x)
        own[p] = distance == 0.0 ? 0.0 : share * (own[p] / distance - student[p] * scale * along) * scale;
    if (threadIdx.x == 0) losses[image] = share * distance;
    if (!is_last(counter, gridDim.x)) return;
    double loss = 0.0;
    for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) loss += losses[i];
    loss = of_block(loss);
    if (threadIdx.x == 0) add_to_entry(entry, loss, halt);
}

KERNEL attention_backward(const float *map, const double *d_attention, float *d, int channels, int n) {
    EACH(i, n) d[i] = (float)(2.0 * d_attention[i / channels] * (double)map[i]);
}

KERNEL hint_apart(float *y, const float *bias, const float *teachers, float *d_bias, double *losses, double share, int height,
                  int width, int teachers_height, int teachers_width, int rows, int channels, int block_width,
                  double *partial, unsigned int *counters) {
    over_rows<2, 4>(rows, channels, block_width, partial, counters, [&](int r, int c) {
        return y[r * channels + c];
    }, [&](int r, int c, float found, float *sums) {
        int i = r * channels + c, column = r % width, line = r / width % height, image = r / width / height;
        double target = window_mean(teachers, image, line, column, teachers_height, teachers_width, height, width, channels, c);
        double apart = (double)found + (double)bias[c] - target;
        float gradient = (float)(share * apart);
        y[i] = gradient;
        sums[0] += gradient;
        sums[1] += (float)(apart * apart);
    }, [&](int c, double *sums) {
        d_bias[c] += (float)sums[0];
        losses[c] = 0.5 * share * sums[1];
    });
}

KERNEL begin_entry(double *entry) {
    if (blockIdx.x == 0 && threadIdx.x < 2) entry[threadIdx.x] = 0.0;
}

KERNEL hint_loss(const double *losses, double *entry, int *halt, int channels) {
    double loss = 0.0;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) loss += losses[c];
    loss = of_block(loss);
    if (threadIdx.x == 0) add_to_entry(entry, loss, halt);
}

KERNEL regressor_step(float *values, float *gradients, float *velocities, const int *halt, float rate, float momentum, int n) {
    EACH(i, n) {
        float v = momentum * velocities[i] + gradients[i];
        gradients[i] = 0.0f;
        if (*halt) continue;
        velocities[i] = v;
        values[i] -= rate * v;
    }
}
";

/// As [`super::matcher::Matcher`], with memory for the gradients of each pair.
#[derive(Debug)]
pub(super) struct Matcher {
    regressor: Option<OnDevice>,
    gradients: Vec<Tensor>,
}

/// A regressor: weights and then the bias, one behind the other, their gradients and velocities.
#[derive(Debug)]
struct OnDevice {
    from: usize,
    to: usize,
    values: Tensor,
    gradients: Tensor,
    velocities: Tensor,
}

/// What a pair is compared with: where its maps and its gradient lie, and where its loss is added.
struct Pair<'a> {
    engine: &'a Engine,
    student: [usize; 4],
    teacher: [usize; 4],
    /// The maps, the student's first.
    maps: [u64; 2],
    gradient: u64,
    entry: u64,
}

impl Matcher {
    pub(super) fn attention() -> Self {
        Self {
            regressor: None,
            gradients: Vec::new(),
        }
    }

    pub(super) fn hint(engine: &Engine, regressor: &Regressor) -> Result<Self> {
        let to = regressor.bias.len();
        let values = [&regressor.weight[..], &regressor.bias].concat();
        let n = [values.len()];
        let zeros = vec![0.0_f32; values.len()];
        Ok(Self {
            regressor: Some(OnDevice {
                from: regressor.weight.len() / to.max(1),
                to,
                values: engine.upload(&values, &n)?,
                gradients: engine.upload(&zeros, &n)?,
                velocities: engine.upload(&zeros, &n)?,
            }),
            gradients: Vec::new(),
        })
    }

    /// As [`super::matcher::Matcher::of`]; the gradients are good until the next call.
    pub(super) fn of(&mut self, pairs: &[(Tensor, Tensor)], strength: f64) -> Result<Matched> {
        let engine = match pairs.first() {
            Some((student, _)) => engine_of(student)?,
            None => None,
        };
        let engine = engine.ok_or_else(|| invalid("feature maps of a GPU were expected"))?;
        let (entry, place) = engine.new_entry()?;
        // By a kernel, which a graph can be told another place.
        engine.launch("begin_entry", Grid::blocks(1, 1), &[place.into()])?;
        let mut d_students = Vec::with_capacity(pairs.len());
        for (number, (student, teacher)) in pairs.iter().enumerate() {
            let sizes = sizes_of_pair(student, teacher)?;
            let of_teacher: usize = sizes.1.iter().product();
            let [b, h, w, c] = sizes.0;
            countable((b * h * w * c.max(sizes.1[3])).max(of_teacher))?;
            let gradient = self.room(&engine, number, student.elem_count())?;
            let gradient = gradient.reshape(student.dims())?;
            let pair = Pair {
                engine: &engine,
                student: sizes.0,
                teacher: sizes.1,
                maps: [at(student)?, at(teacher)?],
                gradient: at(&gradient)?,
                entry: place,
            };
            match &self.regressor {
                None => pair.transfer(strength)?,
                Some(regressor) => pair.hint(regressor, strength)?,
            }
            d_students.push(gradient);
        }
        let found = Found(Where::OnDevice(Asked::new(&engine, entry)));
        Ok(Matched { found, d_students })
    }

    /// Memory for a pair's gradient.
    fn room(&mut self, engine: &Engine, number: usize, n: usize) -> Result<Tensor> {
        let has = |kept: &Tensor| kept.elem_count() >= n;
        if !self.gradients.get(number).is_some_and(has) {
            let fresh = engine.lasting(n, DType::F32)?;
            self.gradients.truncate(number);
            self.gradients.push(fresh);
        }
        self.gradients[number].narrow(0, 0, n)
    }

    /// As [`super::matcher::Matcher::begin_again`].
    pub(super) fn begin_again(&mut self) -> Result<()> {
        self.gradients.clear();
        let Some(regressor) = &self.regressor else {
            return Ok(());
        };
        match engine_of(&regressor.gradients)? {
            Some(engine) => {
                let n = regressor.gradients.elem_count();
                engine.zero(at(&regressor.gradients)?, n)
            }
            None => Ok(()),
        }
    }

    /// As [`super::matcher::Matcher::step`].
    pub(super) fn step(&self, learning_rate: f64, momentum: f64) -> Result<()> {
        let Some(regressor) = &self.regressor else {
            return Ok(());
        };
        let Some(engine) = engine_of(&regressor.values)? else {
            return Ok(());
        };
        let n = regressor.values.elem_count();
        let args = [
            at(&regressor.values)?.into(),
            at(&regressor.gradients)?.into(),
            at(&regressor.velocities)?.into(),
            engine.halt()?.into(),
            (learning_rate as f32).into(),
            (momentum as f32).into(),
            n.into(),
        ];
        engine.launch("regressor_step", Grid::over(n), &args)
    }

    pub(super) fn regressor(&self) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        let Some(regressor) = &self.regressor else {
            return Ok(None);
        };
        let mut weight = values(&regressor.values)?;
        let bias = weight.split_off(regressor.from * regressor.to);
        Ok(Some((weight, bias)))
    }
}

impl Pair<'_> {
    /// As [`super::attention_transfer`].
    fn transfer(&self, strength: f64) -> Result<()> {
        let Self { engine, .. } = self;
        let ([b, h, w, c], [_, th, tw, tc]) = (self.student, self.teacher);
        let (own, theirs) = (b * h * w, b * th * tw);
        // 64 bits each: both maps' attention, the gradient of the student's, and the losses of the images.
        let students = engine.scratch(Slot::Features, 2 * (2 * own + theirs + b))?;
        let after = |address: u64, count: usize| address + (count * size_of::<f64>()) as u64;
        let teachers = after(students, own);
        let d_attention = after(teachers, theirs);
        let losses = after(d_attention, own);
        let maps = [
            (self.maps[0], students, c, own),
            (self.maps[1], teachers, tc, theirs),
        ];
        for (map, attention, channels, places) in maps {
            let args = [map.into(), attention.into(), channels.into(), places.into()];
            engine.launch("attention_of_map", Grid::over(32 * places), &args)?;
        }
        let args = [
            students.into(),
            teachers.into(),
            d_attention.into(),
            (0.5 * strength / (h * w * b) as f64).into(),
            h.into(),
            w.into(),
            th.into(),
            tw.into(),
            losses.into(),
            self.entry.into(),
            engine.halt()?.into(),
            engine.counters(1)?.into(),
        ];
        engine.launch("attention_transfer", Grid::blocks(b, 1), &args)?;
        let n = own * c;
        let args = [
            self.maps[0].into(),
            d_attention.into(),
            self.gradient.into(),
            c.into(),
            n.into(),
        ];
        engine.launch("attention_backward", Grid::over(n), &args)
    }

    /// As [`Regressor::hint`].
    fn hint(&self, regressor: &OnDevice, strength: f64) -> Result<()> {
        let Self { engine, .. } = self;
        let ([b, h, w, c], [_, th, tw, tc]) = (self.student, self.teacher);
        if [regressor.from, regressor.to] != [c, tc] {
            return Err(invalid(format!(
                "a regressor from {c} to {tc} channels is needed, and this one is from {} to {}",
                regressor.from, regressor.to
            )));
        }
        let rows = b * h * w;
        // The channels' losses in 64 bits, then what the regressor makes of the student's map and its gradient.
        let losses = engine.scratch(Slot::Features, 2 * tc + rows * tc)?;
        let y = losses + (tc * size_of::<f64>()) as u64;
        let bias = |tensor: &Tensor| -> Result<u64> {
            Ok(at(tensor)? + (c * tc * size_of::<f32>()) as u64)
        };
        let weight = stored(at(&regressor.values)?, c);
        let x = stored(self.maps[0], c);
        let of_student = Product {
            m: rows,
            n: tc,
            k: c,
            a: x,
            b: turned(weight),
            c: y,
            adds: false,
        };
        engine.multiply(&of_student)?;
        let (grid, last) = engine.over_rows(rows, tc, 2)?;
        let first: [Arg; 12] = [
            y.into(),
            bias(&regressor.values)?.into(),
            self.maps[1].into(),
            bias(&regressor.gradients)?.into(),
            losses.into(),
            (strength / (rows * tc) as f64).into(),
            h.into(),
            w.into(),
            th.into(),
            tw.into(),
            rows.into(),
            tc.into(),
        ];
        engine.launch("hint_apart", grid, &[&first[..], &last].concat())?;
        let args = [
            losses.into(),
            self.entry.into(),
            engine.halt()?.into(),
            tc.into(),
        ];
        engine.launch("hint_loss", Grid::blocks(1, 1), &args)?;
        let dy = stored(y, tc);
        let to_weight = Product {
            m: tc,
            n: c,
            k: rows,
            a: turned(dy),
            b: x,
            c: at(&regressor.gradients)?,
            adds: true,
        };
        engine.multiply(&to_weight)?;
        let to_student = Product {
            m: rows,
            n: c,
            k: tc,
            a: dy,
            b: weight,
            c: self.gradient,
            adds: false,
        };
        engine.multiply(&to_student)
    }
}

fn stored(address: u64, row: usize) -> Operand {
    Operand {
        address,
        row,
        transposed: false,
    }
}

fn turned(operand: Operand) -> Operand {
    Operand {
        transposed: true,
        ..operand
    }
}
