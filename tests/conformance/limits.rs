//! limits

use crate::cases;

cases![];
