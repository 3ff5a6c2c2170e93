//! Serve HTTP from containers by CGI.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod cgi;
pub mod config;
pub mod connection;
pub mod engine;
pub mod handler;
pub mod route;
pub mod router;
pub mod server;

pub use handler::Handler;
