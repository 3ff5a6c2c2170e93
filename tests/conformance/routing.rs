//! routing

use crate::cases;

cases![];
