//! Promises that every attack keeps.

use super::*;
