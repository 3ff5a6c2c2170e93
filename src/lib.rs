//! Serve HTTP from containers by CGI: any CGI program, from any image, in a fresh container for each request.
//!
//! A request becomes meta-variables and standard input for a program in a container image; what the program
//! prints (a header block, a blank line, a body) becomes the response, and the container is thrown away. That is
//! the Common Gateway Interface, [RFC 3875](https://www.rfc-editor.org/rfc/rfc3875): whatever can read its
//! environment and print can serve the web.
//!
//! The `dcgi` command is a server around this library. To have the same inside a service of your own, build a
//! [`Handler`]. It is a [`tower::Service`], so axum can mount it:
//!
//! ```
//! use std::sync::Arc;
//!
//! use axum::{Router, body::Body, http::Request, routing::get};
//! use dcgi::engine::{Program, docker::DockerEngine};
//! use dcgi::{Handler, site::Route};
//! use tower::ServiceExt;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Arc::new(DockerEngine::connect_with_env().await?);
//! let programs = Handler::builder(engine)
//!     .mounted_at("/apps")
//!     .route(Route::new("/hello", Program::new("dcgi/hello")))
//!     .build();
//!
//! let app = Router::new()
//!     .route("/", get(|| async { "an axum handler" }))
//!     .nest_service("/apps", programs.clone());
//!
//! // `axum::serve(listener, app).await?` would serve it. Here it answers one request:
//! let request = Request::get("http://localhost/apps/hello").body(Body::empty())?;
//! let response = app.oneshot(request).await?;
//! assert_eq!(response.status(), 200);
//! let body = axum::body::to_bytes(response.into_body(), 1024).await?;
//! assert_eq!(body, "Hello from a container!\n");
//!
//! // Before the runtime ends: until the last container is removed.
//! programs.drained().await;
//! # Ok(())
//! # }
//! ```
//!
//! Everything left out is at its safe value: [`Program::new`](engine::Program::new) gives a container no network, no
//! capabilities, a read-only root and limits, and [`Limits`](gateway::Limits) bound each request.
//!
//! # Layout
//!
//! In the order in which a request meets them:
//!
//! - [`server`]: listeners and connections, limits on both, graceful shutdown. Not needed under axum.
//! - [`connection`]: what is known of a connection; a layer of yours may say it, for `REMOTE_ADDR`.
//! - [`site`]: all routes, which of them a request is for, and what every request passes on its way there.
//! - [`gateway`]: one request and one program. The only place where HTTP, CGI and containers meet.
//! - `files`: directories that are served, and which file of them a path names.
//! - [`cgi`]: RFC 3875 as pure functions, request head → meta-variables and header block → response.
//! - [`engine`]: the trait behind which programs run, and two of them, [`docker`](engine::docker) and
//!   [`embedded`](engine::embedded); and [`auto`](engine::auto), which chooses between those for each program.
//! - [`agent`]: what runs inside a container that waits for its request, or serves many.
//! - [`images`]: images on this machine's disk, for the embedded engine.
//! - `sandbox`: the embedded engine's containers: namespaces, control groups, mounts, filters. The only `unsafe` code.
//! - [`config`]: `dcgi.toml`, read into all of these.
//!
//! No two of these rooms need each other: `tests/rooms.rs` has the order in which they stand, and holds them to it.
//!
//! # What holds
//!
//! - Dropping a request's future, or a response's body before its end, kills the program and removes its container.
//! - A [`Body`](site::Body) yields an error where the program did not finish; a server that passes that error
//!   to its connection, as hyper does, never lets a cut answer look whole.
//! - All of it needs a tokio runtime with I/O and time enabled, and stops when that stops: see
//!   [`Handler::drained`].
//! - Before 1.0, a minor version may change any public item.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod agent;
pub mod cgi;
pub mod config;
pub mod connection;
pub mod engine;
mod files;
pub mod gateway;
pub mod images;
mod instance;
mod reason;
mod sandbox;
pub mod server;
pub mod site;
mod variables;

pub use site::Handler;

/// The README's examples are compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
