//! The Common Gateway Interface, [RFC 3875](https://www.rfc-editor.org/rfc/rfc3875), as pure functions.
//!
//! One direction turns a request head into the meta-variables that a program finds in its environment
//! ([`meta_variables()`]); the other turns what the program prints first, its header block, into the head of
//! the response ([`HeaderBlock`]). Nothing in here does I/O, knows a container or reads a configuration, so
//! that all of it can be tested, fuzzed and measured on bytes alone.
//!
//! # What it means for security
//!
//! Both sides are hostile. A client chooses header names and values, and the environment is a namespace that
//! a program and all the libraries it loads believe. A program, or whoever can make it print what they like,
//! would choose where one response ends and the next begins.
//!
//! - A header reaches the environment only as `HTTP_NAME`; no name can be made to collide with a computed
//!   variable or with another header's, and `Proxy` never arrives
//!   ([httpoxy, CVE-2016-5385](https://httpoxy.org)).
//! - The path is decoded once and its dot segments are resolved before anything is looked up with it.
//! - A query string becomes command-line arguments only where the caller asks for it ([`indexed_query()`]);
//!   php-cgi showed what else may happen (CVE-2012-1823).
//! - A header with a control character is an error, never two responses; a `Content-Length` that contradicts
//!   itself is one too, and how the message is framed on the connection is never the program's to say.
//! - Everything that is kept while it is read is bounded.

pub mod chunked;
pub mod host;
pub mod path;
pub mod request;
pub mod response;

mod hop_by_hop;
mod indexed_query;
mod meta_variables;
mod percent;

pub use crate::variables::is_request_variable;
pub use chunked::{ChunkedDecoder, ChunkedError};
pub use host::{HostError, split_host};
pub use indexed_query::indexed_query;
pub use meta_variables::MetaVariables;
pub use path::{NormalPath, PathError};
pub use request::{AuthenticatedUser, Context, HeaderPolicy, meta_variables};
pub use response::{Answer, Head, HeaderBlock, HeaderBlockError, LocalRedirect};
