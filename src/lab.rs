//! The lab: it knows networks and data, and states facts; it knows no screen.

pub mod architecture;
pub mod corruption;
pub mod data;
pub mod error;
