//! What steps found out on the device, kept there until somebody reads it: reading waits for all that was asked for, so
//! it is done every so many steps.

use std::cell::{Cell, RefCell};

use super::{Engine, Slot};
use crate::nn::loss::MOST_UNREAD;
use crate::nn::{Result, invalid};

/// Entries that are kept until they are read.
const ENTRIES: u64 = MOST_UNREAD as u64;

/// Two numbers of 64 bits each.
const FLOATS_OF_ENTRY: usize = 4;

/// How many entries were asked for.
#[derive(Default)]
pub(crate) struct Ledger {
    asked: Cell<u64>,
    /// The ledger as it was when so many were asked for: entries are read one after another, and each look at the device
    /// waits for it.
    seen: RefCell<(u64, Vec<f32>)>,
}

/// An entry that is, or will be, in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(u64);

impl Engine {
    /// A new entry, and where a kernel writes it.
    pub(crate) fn new_entry(&self) -> Result<(Entry, u64)> {
        let asked = &self.ledger().asked;
        let entry = Entry(asked.get());
        asked.set(entry.0 + 1);
        let bytes = (entry.0 % ENTRIES) as usize * FLOATS_OF_ENTRY * size_of::<f32>();
        Ok((entry, self.ledger_address()? + bytes as u64))
    }

    /// Where a kernel notes that a loss is not finite; while it is noted, no step changes a weight.
    pub(crate) fn halt(&self) -> Result<u64> {
        let bytes = ENTRIES as usize * FLOATS_OF_ENTRY * size_of::<f32>();
        Ok(self.ledger_address()? + bytes as u64)
    }

    fn ledger_address(&self) -> Result<u64> {
        self.scratch(Slot::Ledger, ENTRIES as usize * FLOATS_OF_ENTRY + 1)
    }

    /// The entry, once it is written, and takes back a halt.
    ///
    /// # Errors
    /// When so many were asked for since that it is overwritten.
    pub(crate) fn read_entry(&self, entry: Entry) -> Result<[f64; 2]> {
        if self.ledger().asked.get() > entry.0 + ENTRIES {
            return Err(invalid("a loss was not read in time"));
        }
        let mut seen = self.ledger().seen.borrow_mut();
        if entry.0 >= seen.0 {
            let all = self.read(self.ledger_address()?, ENTRIES as usize * FLOATS_OF_ENTRY)?;
            *seen = (self.ledger().asked.get(), all);
        }
        let first = (entry.0 % ENTRIES) as usize * FLOATS_OF_ENTRY;
        let read = &seen.1[first..first + FLOATS_OF_ENTRY];
        let wide = |at: usize| {
            let (low, high) = (read[at].to_bits(), read[at + 1].to_bits());
            f64::from_bits(u64::from(high) << 32 | u64::from(low))
        };
        Ok([wide(0), wide(2)])
    }

    /// Takes back a halt.
    pub(crate) fn go_on(&self) -> Result<()> {
        self.zero(self.halt()?, 1)
    }
}
