//! What was typed, checked: every rule between options is here.
