//! `pb` <-> `model`.
