//! `dcgi invoke`

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::Args;
use dcgi::Handler;
use dcgi::site::RouteKind;
use futures_util::{StreamExt, TryStreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio_util::io::ReaderStream;
use tower::ServiceExt;

use super::engine::Use;
use super::{ConfigFile, engine, signals, url};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A path such as /hello/x?y, or http://host/path where routes have hosts
    url: String,
    #[command(flatten)]
    file: ConfigFile,
    /// The request's method; POST where there is data, else GET
    #[arg(short = 'X', long)]
    method: Option<Method>,
    /// A request header
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The request body: text, @FILE, or @- for standard input
    #[arg(short, long)]
    data: Option<String>,
    /// Print the response's status and headers too
    #[arg(short, long)]
    include: bool,
}

type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Exits with 1 where the status is 400 or above, or where a signal ended it.
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut config = options.file.load()?;
    for route in &mut config.routes {
        match &mut route.kind {
            RouteKind::Program(program) => program.debug_errors = true,
            RouteKind::Scripts(scripts) => scripts.program.debug_errors = true,
            RouteKind::Files(files) => files.debug_errors = true,
            _ => {}
        }
    }
    let method = match (options.method, &options.data) {
        (Some(method), _) => method,
        (None, Some(_)) => Method::POST,
        (None, None) => Method::GET,
    };
    let mut request = url::request(&options.url)?.method(method);
    let headers = request.headers_mut().context("the request cannot be made")?;
    if options.data.is_some() {
        // As curl does it: what most scripts expect of a POST.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    for (name, value) in options.header {
        headers.insert(name, value);
    }
    let (body, length) = body(options.data).await?;
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let request = request.body(body)?;

    let interrupted = signals::shutdown()?;
    let handler = Handler::builder(engine::connect(&config, Use::Once).await?).routes(config.routes).build();
    let answered = async {
        let response = handler.clone().oneshot(request).await?;
        let failed = response.status().is_client_error() || response.status().is_server_error();
        print(response, options.include).await?;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    };
    let result = tokio::select! {
        answered = answered => answered,
        () = interrupted => Ok(ExitCode::FAILURE),
    };
    // The program's end, and its container's.
    handler.drained().await;
    result
}

async fn print(response: http::Response<dcgi::site::Body>, include: bool) -> anyhow::Result<()> {
    let mut out = tokio::io::stdout();
    let (head, mut body) = response.into_parts();
    if include {
        let mut text = format!("{:?} {}\r\n", head.version, head.status).into_bytes();
        for (name, value) in &head.headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        out.write_all(&text).await?;
    }
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            out.write_all(&data).await?;
            out.flush().await?;
        }
    }
    Ok(())
}

/// The body, and its length where it is known.
async fn body(data: Option<String>) -> anyhow::Result<(RequestBody, Option<u64>)> {
    let Some(data) = data else { return Ok((Empty::new().map_err(|e| match e {}).boxed_unsync(), None)) };
    match data.strip_prefix('@') {
        None => {
            let length = data.len() as u64;
            Ok((Full::from(data).map_err(|e| match e {}).boxed_unsync(), Some(length)))
        }
        Some("-") => Ok((stream(tokio::io::stdin()), None)),
        Some(path) => {
            let file = tokio::fs::File::open(path).await.with_context(|| format!("cannot read {path}"))?;
            let length = file.metadata().await?;
            Ok((stream(file), length.is_file().then_some(length.len())))
        }
    }
}

fn stream(source: impl AsyncRead + Send + 'static) -> RequestBody {
    StreamBody::new(ReaderStream::new(source).map_ok(Frame::data).boxed()).boxed_unsync()
}

fn header(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').ok_or_else(|| anyhow!("expected NAME: VALUE"))?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}
