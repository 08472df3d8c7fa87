//! `final capture`, over databases of a test's own.

mod doctor;
mod import;
mod operate;
