//! The numbers of the published notebook (arXiv 2502.14620) that do not need its model, from one
//! command of ours.

use std::fs;
use std::path::PathBuf;

use rwkvq::checkpoint::random::Spec;
use rwkvq::eval::Report;

use crate::args;
use crate::workplace::{succeeds, Workplace};

#[test]
fn one_command_gives_the_rows_of_the_notebook() {
    let Some(root) = std::env::var_os("RWKVQ_TEST_DATA").map(PathBuf::from) else {
        println!("skipped: RWKVQ_TEST_DATA is not set");
        return;
    };
    let data = root.join("data");
    let depth = Spec { n_layer: 12, n_embd: 32, n_vocab: 50_304, ..Spec::default() };
    let place = Workplace::with(&depth);
    let mut args = args!["eval", place.path("m"), "--preset", "f16", "--protocol", "paper"];
    args.extend(args!["--tokenizer", data.join("gpt2"), "--report", place.path("report.json")]);
    // One text at a time has little to share between threads.
    args.extend(args!["--threads", "1", "--seed", "0"]);
    for split in ["train", "dev"] {
        args.extend(args!["--dataset", data.join(format!("mrpc/hf/{split}.tsv"))]);
    }
    let glove = data.join("glove/glove.6B.50d.mrpc-words.txt");
    args.extend(args!["--baseline", format!("glove={}", glove.display())]);
    succeeds(args);
    let json = fs::read_to_string(place.path("report.json")).unwrap();
    let report = Report::from_json("report.json", &json).unwrap();

    assert_eq!(report.runs.len(), 2);
    // GloVe and word overlap to the four digits published; random vectors of GPT-2's ids as they
    // fell for ten seeds of another generator: mean, lowest and highest.
    let expected = [
        (1000, "0.3876", "0.4226", [0.3319, 0.3266, 0.3369]),
        (408, "0.4326", "0.4196", [0.3846, 0.3754, 0.3915]),
    ];
    for (run, (n_pairs, glove, jaccard, [mean, low, high])) in report.runs.iter().zip(expected) {
        let four = |rho: Option<f64>| format!("{:.4}", rho.unwrap());
        assert_eq!((run.dataset.n_pairs, run.dataset.text_variant.as_str()), (n_pairs, "hf"));
        let layers: Vec<&str> = run.levels[0].layers.iter().map(|l| l.layer.as_str()).collect();
        assert_eq!(layers, ["1", "3", "5", "7", "9", "11"]);
        assert_eq!((run.tokenizer.kind.as_str(), run.tokenizer.vocab_size), ("gpt2", 50_257));
        assert_eq!(four(run.baselines[0].spearman), glove);
        assert!(run.baselines[0].oov_rate.is_some_and(|rate| rate > 0.0 && rate < 0.1));
        let [random, overlap, _] = run.controls.as_slice() else { panic!("three controls") };
        assert_eq!(four(overlap.spearman), jaccard);
        let (found, [lowest, highest]) = (random.spearman.unwrap(), random.spearman_range.unwrap());
        assert_eq!(random.seeds.len(), 10);
        assert!((found - mean).abs() < 0.003, "{random:?}");
        assert!(lowest > low - 0.01 && highest < high + 0.01 && lowest < highest, "{random:?}");
    }
}
