//! gitd: a drop-in replacement for `git daemon`.
