//! Matrix products on slices: the one safe wrapper round the `gemm` crate's pointers.
//!
//! c = a b, or c += a b; a is m x k, b is k x n, c is m x n. Any of them may be transposed by its strides.
//! One thread: whoever calls divides the work.

/// A matrix in a slice: the value of row i and column j is `values[i * row + j * column]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    pub values: &'a [f32],
    pub row: usize,
    pub column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after another, `width` apart.
    pub fn rows(values: &'a [f32], width: usize) -> Self {
        Self {
            values,
            row: width,
            column: 1,
        }
    }

    /// The transpose of rows one after another, `width` apart.
    pub fn transposed(values: &'a [f32], width: usize) -> Self {
        Self {
            values,
            row: 1,
            column: width,
        }
    }

    fn covers(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row + (columns - 1) * self.column < self.values.len()
    }
}

/// Whether a product replaces or adds to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    Replace,
    Add,
}

/// `c` = `a` `b` (or += ), with `c`'s rows `width` apart; `size` is (m, n, k).
pub fn multiply(
    size: (usize, usize, usize),
    c: &mut [f32],
    width: usize,
    into: Into,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    let (m, n, k) = size;
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        (m - 1) * width + n <= c.len() && n <= width,
        "c is too small"
    );
    assert!(a.covers(m, k) && b.covers(k, n), "a or b is too small");
    #[expect(
        unsafe_code,
        reason = "the gemm crate takes pointers; the asserts above keep every access inside the slices"
    )]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            width as isize,
            into == Into::Add,
            a.values.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_by_hand() {
        // [1 2; 3 4] [5 6; 7 8] = [19 22; 43 50]
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]);
        let mut c = [9.0; 4];
        let (rows, transposed) = (Matrix::rows(&a, 2), Matrix::transposed(&a, 2));
        multiply(
            (2, 2, 2),
            &mut c,
            2,
            Into::Replace,
            rows,
            Matrix::rows(&b, 2),
        );
        assert_eq!(c, [19.0, 22.0, 43.0, 50.0]);
        // + [1 3; 2 4] [5 6; 7 8] = [26 30; 38 44]
        multiply(
            (2, 2, 2),
            &mut c,
            2,
            Into::Add,
            transposed,
            Matrix::rows(&b, 2),
        );
        assert_eq!(c, [45.0, 52.0, 81.0, 94.0]);
    }
}
