//! `final capture`, over databases of a test's own.

mod begin;
mod doctor;
mod import;
mod operate;
