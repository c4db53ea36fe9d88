//! Attacks: images are changed within a budget so that a network errs; pixels stay in [0, 1] and the normalization is
//! the network's own first layer.

pub mod pgd;
