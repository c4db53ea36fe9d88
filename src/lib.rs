//! shrinklab: a terminal laboratory that shows what compression really does to a neural network.

mod app;
pub mod catalog;
pub mod cli;
pub mod event;
pub mod lab;
pub mod measurement;
pub mod nn;
pub mod report;
pub mod session;
pub mod spec;
pub mod state;
pub mod ui;
