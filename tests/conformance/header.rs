//! header

use crate::cases;

cases![];
