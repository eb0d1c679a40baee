//! Requests to the hub: what is sent, whom the token is shown to, and what the answers mean.
//!
//! In: an address below the endpoint. Out: the answer, its redirections followed. The hub sends
//! the content of large files from other hosts; these do not get the token. Uses `error`.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use ureq::http::{header, HeaderMap, Response, StatusCode, Uri};
use ureq::tls::{parse_pem, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::HubOptions;
use crate::error::{Error, Result};

/// Most redirections of one request.
const MAX_HOPS: usize = 8;
/// Most bytes of an answer that is kept in memory.
const MAX_JSON_BYTES: u64 = 32 << 20;

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The hub itself said no: the status, and the `X-Error-Code` it gives in words.
    Refused { status: u16, code: String },
    /// The network, or a server that may do better later.
    Transport(String),
    /// An answer that no hub gives.
    Odd(String),
}

/// What a request brought.
pub(super) type Answered<T> = std::result::Result<T, Failure>;

/// An answer with its headers.
pub(super) struct Answer {
    /// 200 or 206.
    pub(super) status: u16,
    /// The headers that the hub itself gave, up to the redirection to another host.
    pub(super) hub_headers: HeaderMap,
    response: Response<Body>,
}

/// Sends requests.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    origin: Option<Origin>,
    token: Option<String>,
}

type Origin = (String, String, u16);

impl Client {
    pub(super) fn new(options: &HubOptions) -> Result<Self> {
        let config = Agent::config_builder()
            .user_agent(concat!("rwkvq/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Redirections are followed here, for the token must not go along.
            .max_redirects(0)
            .timeout_resolve(Some(Duration::from_secs(20)))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            // A connection that stalls ends and is resumed.
            .timeout_per_read(Some(Duration::from_secs(60)));
        let origin = options.endpoint.parse().ok().as_ref().and_then(origin);
        // A stand-in on this machine is not behind a proxy.
        let is_local = origin.as_ref().is_some_and(|(_, host, _)| is_loopback(host));
        let config = if is_local { config.proxy(None) } else { config };
        let config = match options.authorities.as_deref().filter(|_| !options.offline) {
            Some(file) => config.tls_config(trusting(file)?),
            None => config,
        };
        let (endpoint, token) = (options.endpoint.clone(), options.token.clone());
        Ok(Self { agent: config.build().into(), endpoint, origin, token })
    }

    /// All of a small answer.
    pub(super) fn bytes(&self, path: &str) -> Answered<Vec<u8>> {
        let mut answer = self.open(path, 0)?;
        let mut body = answer.response.body_mut().with_config().limit(MAX_JSON_BYTES).reader();
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(|e| match ureq::Error::from(e) {
            ureq::Error::BodyExceedsLimit(_) => {
                Failure::Odd(format!("an answer of more than {MAX_JSON_BYTES} bytes"))
            }
            e => transport(&e),
        })?;
        Ok(bytes)
    }

    /// Opens the file at `path` below the endpoint from byte `from` on.
    pub(super) fn open(&self, path: &str, from: u64) -> Answered<Answer> {
        let address = format!("{}/{path}", self.endpoint);
        let mut uri: Uri =
            address.parse().map_err(|_| Failure::Odd("HF_ENDPOINT is not an address".into()))?;
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=MAX_HOPS {
            let at_hub = origin(&uri) == self.origin;
            let response = self.send(&uri, from, at_hub)?;
            let status = response.status();
            if at_hub {
                for (name, value) in response.headers() {
                    hub_headers.insert(name, value.clone());
                }
            }
            if !status.is_redirection() {
                return answer(status, at_hub, hub_headers, response);
            }
            uri = target(&uri, &response)?;
        }
        Err(Failure::Odd(format!("more than {MAX_HOPS} redirections")))
    }

    fn send(&self, uri: &Uri, from: u64, at_hub: bool) -> Answered<Response<Body>> {
        let mut request = self.agent.get(uri).header(header::ACCEPT_ENCODING, "identity");
        if let Some(token) = self.token.as_ref().filter(|_| at_hub) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|e| transport(&e))
    }
}

impl Answer {
    /// A header of the final answer.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// A header that the hub itself gave.
    pub(super) fn hub_header(&self, name: &str) -> Option<&str> {
        self.hub_headers.get(name)?.to_str().ok()
    }

    /// The content.
    pub(super) fn into_reader(self) -> impl Read {
        self.response.into_body().into_with_config().limit(u64::MAX).reader()
    }
}

/// Trusts the certificates in `file` and no others.
fn trusting(file: &Path) -> Result<TlsConfig> {
    let pem = std::fs::read(file).map_err(|e| Error::io(file, e))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::malformed(file, "no certificates in it; check SSL_CERT_FILE"));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build())
}

/// What a read that failed has to say, in a few words.
pub(super) fn read_failed(error: io::Error) -> Failure {
    transport(&ureq::Error::from(error))
}

fn answer(
    status: StatusCode,
    at_hub: bool,
    hub_headers: HeaderMap,
    response: Response<Body>,
) -> Answered<Answer> {
    let n = status.as_u16();
    match n {
        200 | 206 => Ok(Answer { status: n, hub_headers, response }),
        // Asked for a part that is not there: what is on disk is not the start of the file.
        416 => Ok(Answer { status: n, hub_headers, response }),
        408 | 425 | 429 | 500..=599 => Err(Failure::Transport(format!("the server answers {n}"))),
        _ if at_hub => {
            let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok());
            Err(Failure::Refused { status: n, code: code.unwrap_or_default().into() })
        }
        // A signed address that is no longer good: the next request gets a fresh one.
        _ => Err(Failure::Transport(format!("the server with the content answers {n}"))),
    }
}

/// Where a redirection leads. Never from an encrypted to an open connection.
fn target(from: &Uri, response: &Response<Body>) -> Answered<Uri> {
    let odd = || Failure::Odd("a redirection to nowhere".into());
    let location = response.headers().get(header::LOCATION).ok_or_else(odd)?;
    let location = location.to_str().map_err(|_| odd())?;
    let address = match (location.starts_with('/'), from.scheme_str(), from.authority()) {
        (true, Some(scheme), Some(authority)) if !location.starts_with("//") => {
            format!("{scheme}://{authority}{location}")
        }
        _ => location.to_owned(),
    };
    let uri: Uri = address.parse().map_err(|_| odd())?;
    match (from.scheme_str(), uri.scheme_str()) {
        (Some("http"), Some("http" | "https")) | (Some("https"), Some("https")) => Ok(uri),
        _ => Err(Failure::Odd("a redirection away from https".into())),
    }
}

fn origin(uri: &Uri) -> Option<Origin> {
    let scheme = uri.scheme_str()?.to_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_lowercase(), port))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// In words that name no address: those of a proxy or a mirror can hold a password.
fn transport(error: &ureq::Error) -> Failure {
    Failure::Transport(match error {
        ureq::Error::Io(e) => match e.kind() {
            io::ErrorKind::UnexpectedEof => "the connection was cut".into(),
            io::ErrorKind::ConnectionRefused => "connection refused".into(),
            // What is wrong with a certificate comes as an error of the connection.
            io::ErrorKind::InvalidData => format!("{e}, check SSL_CERT_FILE"),
            _ => e.to_string(),
        },
        ureq::Error::Timeout(_) => "the server does not answer in time".into(),
        ureq::Error::HostNotFound => "its name cannot be resolved".into(),
        ureq::Error::ConnectionFailed => "no connection".into(),
        ureq::Error::ConnectProxyFailed(_) | ureq::Error::InvalidProxyUrl => {
            "no connection through the proxy".into()
        }
        ureq::Error::Rustls(e) => format!("{e}, check SSL_CERT_FILE"),
        ureq::Error::BadUri(_) => return Failure::Odd("an address that is none".into()),
        ureq::Error::Protocol(_) | ureq::Error::Http(_) | ureq::Error::LargeResponseHeader(..) => {
            "an answer that is not HTTP".into()
        }
        e => e.to_string(),
    })
}
