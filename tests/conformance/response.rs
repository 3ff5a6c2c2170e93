//! response

use crate::cases;

cases![];
