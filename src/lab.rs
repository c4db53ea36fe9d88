//! The lab: it knows networks and data, and states facts; it knows no screen.

pub mod architecture;
pub mod compression;
pub mod context;
pub mod corruption;
pub mod data;
pub mod error;
pub mod landscape;
pub mod outputs;
pub mod probe;
pub mod statistics;
pub mod storage;
pub mod subject;
pub mod train;
