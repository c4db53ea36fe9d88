//! shrinklab: a terminal laboratory that shows what compression really does to a neural network.
//!
//! Somebody asks a question ([`spec::Study`]), the lab works on it in a background thread and states facts
//! ([`event::Event`]), the facts go into a log ([`session`]), and the screen draws whatever the log says so far
//! ([`state::State`]). The log is the only road from lab to screen: saving a session is keeping the log, replaying is
//! reading it again. So the lab knows no screen, the screen knows no network, and both speak one small vocabulary of
//! plain data.
//!
//! ```text
//!              main → cli → app                    knows everybody, is known by nobody
//!        ┌────────────┴──────────────┐
//!   the lab                       the screen
//!   lab::{run, workbench, worker}    ui, report   view, keys, widgets | documents
//!   lab::probe
//!   lab::{architecture, compression, state        a pure fold over records; the play head
//!         corruption}
//!   lab::{context, train, data,      session      log, codec, recorder, store
//!         cache, subject}
//!   nn                               (candle in nn and lab alone; ratatui in ui and app alone)
//!        └────────────┬──────────────┘
//!   spec · catalog · event · measurement          the vocabulary: plain data, serde
//! ```
//!
//! Each floor uses those below it in its own tower, and the vocabulary. What never happens: a clock in the state, a file
//! under the screen, chance outside [`nn::rng`], a measurement in training mode, a choice made on test images.
//! `tests/architecture.rs` guards what a text can tell.
//!
//! Read in this order: [`spec`], [`nn`], [`lab`], [`event`], [`session`], [`state`], [`ui`].
//!
//! A method is one file with its name, reference and knobs, and one line in a table: [`lab::corruption::ALL`],
//! [`lab::compression::ALL`], [`lab::probe::ALL`], [`lab::architecture::ALL`], [`lab::data::ALL`]. The form, the command
//! line, the help and the table tests follow.

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
