//! Where the hub and its cache are: the variables that its own clients obey.
//!
//! Uses `error` only.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// Where the hub is unless something else is said.
const ENDPOINT: &str = "https://huggingface.co";

/// Where and how to download.
#[derive(Clone)]
pub struct HubOptions {
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// The cache: a folder that holds `models--owner--name` and the like.
    pub cache: PathBuf,
    /// Token of the user. It is sent to the endpoint and nowhere else.
    pub token: Option<String>,
    /// File of certificates (PEM) to trust in place of the well-known authorities.
    pub authorities: Option<PathBuf>,
    /// Ask no server; what the cache lacks is an error.
    pub offline: bool,
    /// How often in a row a request may bring nothing before it is given up.
    pub retries: u32,
    /// Pause before the first of these repetitions; each further pause is twice as long.
    pub pause: Duration,
}

impl HubOptions {
    /// This endpoint, this cache, and nothing else.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: endpoint.into().trim_end_matches('/').into(),
            cache: cache.into(),
            token: None,
            authorities: None,
            offline: false,
            retries: 5,
            pause: Duration::from_millis(500),
        }
    }

    /// What the environment says:
    ///
    /// - `HF_ENDPOINT`: the address of the hub or of a mirror;
    /// - `HF_HUB_CACHE`, else `HF_HOME/hub`, else `XDG_CACHE_HOME/huggingface/hub`, else
    ///   `~/.cache/huggingface/hub`: the cache;
    /// - `HF_TOKEN`, else the content of the file `HF_TOKEN_PATH`, else of `HF_HOME/token` (or the
    ///   file of that name beside the default cache): the token; the files do not count when
    ///   `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set;
    /// - `SSL_CERT_FILE`: the certificates to trust, where a company looks into its connections;
    /// - `HF_HUB_OFFLINE`: ask no server.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no home folder to put a cache in, or the token is not one.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let is_set = |name| get(name).is_some_and(|value| is_true(&value));
        let cache = get("HF_HUB_CACHE").or_else(|| get("HUGGINGFACE_HUB_CACHE"));
        let home = home(get);
        let cache = match (cache, &home) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(home)) => home.join("hub"),
            (None, None) => {
                return Err(Error::argument("no home folder for the cache; set HF_HOME"));
            }
        };
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let mut options = Self::new(endpoint, cache);
        options.authorities = get("SSL_CERT_FILE").map(PathBuf::from);
        options.offline = is_set("HF_HUB_OFFLINE");
        options.token = get("HF_TOKEN").or_else(|| get("HUGGING_FACE_HUB_TOKEN"));
        if options.token.is_none() && !is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            let file = get("HF_TOKEN_PATH").map(PathBuf::from);
            options.token = file.or_else(|| Some(home?.join("token"))).and_then(|file| read(&file));
        }
        options.token = options.token.map(|token| token.trim().to_owned());
        options.check()?;
        Ok(options)
    }

    /// A token that is not one word would end up as other headers of a request.
    pub(super) fn check(&self) -> Result<()> {
        if !self.endpoint.starts_with("https://") && !self.endpoint.starts_with("http://") {
            return Err(Error::argument("HF_ENDPOINT must begin with https:// or http://"));
        }
        let is_word = |token: &String| token.bytes().all(|b| b.is_ascii_graphic());
        if !self.token.as_ref().is_none_or(is_word) {
            return Err(Error::argument("the token of the hub is not one word; check HF_TOKEN"));
        }
        Ok(())
    }
}

impl fmt::Debug for HubOptions {
    /// Keeps the token to itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| ".."))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

fn home(get: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let own = get("HF_HOME").map(PathBuf::from);
    let shared = || Some(PathBuf::from(get("XDG_CACHE_HOME")?).join("huggingface"));
    let default = || Some(PathBuf::from(get("HOME")?).join(".cache/huggingface"));
    own.or_else(shared).or_else(default)
}

fn read(file: &Path) -> Option<String> {
    let token = std::fs::read_to_string(file).ok()?;
    (!token.trim().is_empty()).then_some(token)
}

fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> Result<HubOptions> {
        HubOptions::from_variables(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn the_cache_is_where_other_clients_keep_it() {
        let cache = |variables: &[_]| options(variables).unwrap().cache;
        let all = [
            ("HF_HUB_CACHE", "/c"),
            ("HF_HOME", "/h"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/home/me"),
        ];
        assert_eq!(cache(&all), Path::new("/c"));
        assert_eq!(cache(&all[1..]), Path::new("/h/hub"));
        assert_eq!(cache(&all[2..]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&all[3..]), Path::new("/home/me/.cache/huggingface/hub"));
        assert!(options(&[]).is_err());
    }

    #[test]
    fn tokens_come_from_the_environment_or_a_file_and_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_filed\n").unwrap();
        let home = ("HF_HOME", folder.path().to_str().unwrap());
        let token = |variables: &[_]| options(variables).unwrap().token;
        assert_eq!(token(&[home]).as_deref(), Some("hf_filed"));
        assert_eq!(token(&[home, ("HF_TOKEN", "hf_given")]).as_deref(), Some("hf_given"));
        assert_eq!(token(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert!(options(&[home, ("HF_TOKEN", "a\r\nHost: b")]).is_err());
        let debug = format!("{:?}", options(&[home]).unwrap());
        assert!(!debug.contains("hf_filed"), "{debug}");
    }

    #[test]
    fn switches_are_true_as_in_other_clients() {
        let offline = |value| options(&[("HOME", "/"), ("HF_HUB_OFFLINE", value)]).unwrap().offline;
        assert!(offline("1") && offline("True") && offline("YES"));
        assert!(!offline("0") && !offline("false"));
    }
}
