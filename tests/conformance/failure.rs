//! failure

use crate::cases;

cases![];
