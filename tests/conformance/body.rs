//! body

use crate::cases;

cases![];
