//! Facts about the machine and the moment, for a report.
//!
//! In: `/proc` where there is one. Out: processor, memory, system; nothing about the user, the host
//! name or paths.

use std::fs;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use super::report::Host;

/// What is known of this machine. `gpu` is left empty for whoever opens one.
pub fn facts() -> Host {
    Host {
        cpu: cpu_name(),
        cores: thread::available_parallelism().map_or(1, |n| n.get() as u64),
        isa: instruction_sets(),
        ram_bytes: ram_bytes(),
        os: os_name(),
        gpu: None,
    }
}

/// The time now, as `2025-01-31T23:59:59Z`.
pub fn utc_now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    utc(since.as_secs())
}

/// A command for a report: every argument that is a path, or an option with a path behind `=`, is
/// reduced to its base name, so that a report does not tell where its owner keeps things.
pub fn base_names(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    arguments.into_iter().map(|argument| base_name(&argument)).collect()
}

fn base_name(argument: &str) -> String {
    let is_separator = |c: char| c == '/' || (cfg!(windows) && c == '\\');
    let last = |path: &str| {
        let trimmed = path.trim_end_matches(is_separator);
        trimmed.rsplit(is_separator).next().unwrap_or_default().to_string()
    };
    match argument.split_once('=') {
        Some((name, path)) if !name.contains(is_separator) => format!("{name}={}", last(path)),
        _ => last(argument),
    }
}

fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    // x86 says "model name", others "Model", "Hardware" or "cpu model".
    let keys = ["model name", "Model", "Hardware", "cpu model"];
    keys.iter().find_map(|key| field(&text, key)).map(str::to_string)
}

fn ram_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")
}

fn os_name() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The version; who built the kernel, and for what, says where a report was made.
    let release = release.split('-').next().unwrap_or_default();
    let mut name = std::env::consts::OS.to_string();
    for part in [release.trim(), std::env::consts::ARCH] {
        if !part.is_empty() {
            name = format!("{name} {part}");
        }
    }
    name
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn instruction_sets() -> Vec<String> {
    let all = [
        ("avx", is_x86_feature_detected!("avx")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
    ];
    all.iter().filter(|(_, has)| *has).map(|(name, _)| name.to_string()).collect()
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets() -> Vec<String> {
    let all = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    all.iter().filter(|(_, has)| *has).map(|(name, _)| name.to_string()).collect()
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction_sets() -> Vec<String> {
    Vec::new()
}

/// The value of the first `key: value` line, not empty.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim());
    values.next().filter(|value| !value.is_empty())
}

/// The value of a `key:  123 kB` line, in bytes.
pub(super) fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let number = field(text, key)?.strip_suffix("kB")?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

/// Seconds since 1970 as a UTC date and time of the Gregorian calendar.
fn utc(seconds: u64) -> String {
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |y: u64| (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
    // 400 years have 146,097 days; taking them first keeps the loop short for any input.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{:02}T{h:02}:{m:02}:{s:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_known_moments() {
        // Made with Python's datetime.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn arguments_lose_their_folders() {
        let given = ["rwkvq", "/home/me/m.gguf", "--baseline", "glove=/x/y/g.txt", "--keep=a/b/"];
        let found = base_names(given.map(String::from));
        assert_eq!(found, ["rwkvq", "m.gguf", "--baseline", "glove=g.txt", "--keep=b"]);
    }

    #[test]
    fn proc_lines() {
        let text =
            "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nMemTotal:       16 kB\nbad: kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2.0GHz"));
        assert_eq!(kibibytes(text, "MemTotal"), Some(16 * 1024));
        assert_eq!(kibibytes(text, "bad"), None);
        assert_eq!(kibibytes(text, "absent"), None);
    }

    #[test]
    fn facts_are_plausible() {
        let host = facts();
        assert!(host.cores >= 1);
        assert!(
            host.os.starts_with(std::env::consts::OS) && host.os.ends_with(std::env::consts::ARCH)
        );
        if cfg!(target_os = "linux") {
            assert!(host.ram_bytes.is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
