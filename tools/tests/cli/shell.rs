//! What comes with the program for shells and for man.

use std::fs;
use std::process::Command;

use crate::args;
use crate::workplace::{run, succeeds, Workplace};

/// All verbs, as the help lists them, but `help` itself.
fn verbs() -> Vec<String> {
    let help = succeeds(args!["--help"]).stdout;
    let (_, rest) = help.split_once("Commands:\n").expect("the list of verbs");
    let (list, _) = rest.split_once("\n\n").expect("its end");
    let named = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = named.filter_map(|line| line.split_whitespace().next());
    let verbs: Vec<String> = names.filter(|name| *name != "help").map(str::to_owned).collect();
    assert!(verbs.len() > 6 && verbs.contains(&"make-checkpoint".to_owned()), "{verbs:?}");
    verbs
}

/// The long options of a verb, as its help lists them.
fn options(verb: &str) -> Vec<String> {
    let help = succeeds(args![verb, "--help"]).stdout;
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    lines
        .filter_map(|line| {
            let option = &line[line.find("--")? + 2..];
            let end = option.find(|c: char| c != '-' && !c.is_ascii_alphanumeric());
            Some(option[..end.unwrap_or(option.len())].to_owned())
        })
        .collect()
}

#[test]
fn completions_know_every_verb_and_option() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = succeeds(args!["completions", shell]).stdout;
        for verb in verbs() {
            assert!(script.contains(&verb), "{shell}: {verb}");
            for option in options(&verb) {
                assert!(script.contains(&option), "{shell}: {verb} --{option}");
            }
        }
    }
    let outcome = run(args!["completions", "cmd"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("zsh"), "{}", outcome.stderr);
}

#[test]
fn bash_completes_verbs_and_options() {
    let place = Workplace::new();
    let script = place.write("rwkvq.bash", succeeds(args!["completions", "bash"]).stdout);
    let complete = |words: &str, word: &str, before: &str| {
        let program = format!(
            "source {} && COMP_WORDS=({words}) && COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) && \
             _rwkvq rwkvq {word} {before} && echo \"${{COMPREPLY[*]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &program]).output();
        let output = output.expect("bash is there: our own scripts need it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    assert_eq!(complete("rwkvq conv", "conv", "rwkvq"), "convert");
    assert_eq!(complete("rwkvq convert --dry", "--dry", "convert"), "--dry-run");
    assert_eq!(complete("rwkvq completions zs", "zs", "completions"), "zsh");
}

#[test]
fn manual_pages_tell_of_every_verb_and_option() {
    let place = Workplace::new();
    let folder = place.path("share/man1");
    assert_eq!(succeeds(args!["man", folder]).stdout, "");
    // Hyphens are escaped in a manual page.
    let page = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        text.replace("\\-", "-")
    };
    let top = page("rwkvq.1");
    assert_eq!(succeeds(args!["man"]).stdout.replace("\\-", "-"), top);
    for verb in verbs() {
        assert!(top.contains(&format!("rwkvq-{verb}(1)")), "{verb}: {top}");
        let page = page(&format!("rwkvq-{verb}.1"));
        for option in options(&verb) {
            assert!(page.contains(&format!("--{option}")), "{verb} --{option}: {page}");
        }
        assert!(!page.contains(rwkvq::ggml::isa().as_str()), "{verb} tells of this machine");
    }
}

#[test]
fn pages_go_into_folders_only() {
    let place = Workplace::new();
    let file = place.write("file", "kept");
    place.refused(args!["man", file], 4, &["file"]);
    place.refused(args!["man", file.join("below")], 4, &["below"]);
}
