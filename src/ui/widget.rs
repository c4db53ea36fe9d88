//! What screens are put together from; each draws one shape on a part of the screen.

pub mod axis;
pub mod bar;
pub mod curve;
pub mod footer;
pub mod frame;
pub mod grid;
pub mod image;
pub mod plot;
pub mod transport;
pub mod tree;
