//! Which files of a repository are needed.
//!
//! In: the names of its files. Out: those that a conversion or an evaluation reads, in the order
//! in which they are fetched: small ones first, so that weights in the cache mean that all is.

/// Files beside the weights that a conversion reads.
const BESIDE: [&str; 4] =
    ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"];

/// The files of a model: configuration, vocabulary, and weights as safetensors, or as PyTorch's
/// if there are no others. `None` if there are no weights.
pub(super) fn of_model<'a>(names: &[&'a str]) -> Option<Vec<&'a str>> {
    let matching = |stem: &str, ending: &str| {
        let is_weights =
            |name: &&str| !name.contains('/') && name.starts_with(stem) && name.ends_with(ending);
        let mut found: Vec<&str> = names.iter().copied().filter(is_weights).collect();
        found.sort_unstable();
        found
    };
    let safetensors = matching("model", ".safetensors");
    let (weights, index) = match safetensors.is_empty() {
        false => (safetensors, "model.safetensors.index.json"),
        true => (matching("pytorch_model", ".bin"), "pytorch_model.bin.index.json"),
    };
    if weights.is_empty() {
        return None;
    }
    let is_small = |name: &&str| {
        BESIDE.contains(name)
            || *name == index
            || (!name.contains('/') && name.starts_with("rwkv_vocab_v") && name.ends_with(".txt"))
    };
    let mut files: Vec<&str> = names.iter().copied().filter(is_small).collect();
    files.sort_unstable();
    files.extend(weights);
    Some(files)
}

/// The Parquet files of one split, of the part `config` of a data set if it has several.
///
/// They are laid out as `config/split-00000-of-00001.parquet` by their owners, and as
/// `config/split/0000.parquet` where the hub converts a data set itself.
pub(super) fn of_split<'a>(names: &[&'a str], config: Option<&str>, split: &str) -> Vec<&'a str> {
    let is_wanted = |name: &&str| {
        let Some(stem) = name.strip_suffix(".parquet") else { return false };
        let (folders, file) = stem.rsplit_once('/').unwrap_or(("", stem));
        let mut folders = folders.split('/');
        let in_config = config.is_none_or(|config| folders.clone().any(|step| step == config));
        let is_split =
            file == split || file.strip_prefix(split).is_some_and(|r| r.starts_with('-'));
        in_config && (is_split || folders.next_back() == Some(split))
    };
    let mut found: Vec<&str> = names.iter().copied().filter(is_wanted).collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_conversion_reads_is_fetched() {
        let names = [
            "model-00002-of-00002.safetensors",
            "modeling_rwkv6.py",
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "pytorch_model.bin",
            "onnx/model.safetensors",
            "rwkv_vocab_v20230424.txt",
            "model.safetensors.index.json",
            "pytorch_model.bin.index.json",
        ];
        let expected = [
            "config.json",
            "model.safetensors.index.json",
            "rwkv_vocab_v20230424.txt",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(of_model(&names).unwrap(), expected);
        let without: Vec<_> = names.into_iter().filter(|name| !name.contains("safetens")).collect();
        let expected = [
            "config.json",
            "pytorch_model.bin.index.json",
            "rwkv_vocab_v20230424.txt",
            "pytorch_model.bin",
        ];
        assert_eq!(of_model(&without).unwrap(), expected);
        assert_eq!(of_model(&["config.json", "x.gguf"]), None);
    }

    #[test]
    fn splits_are_found_in_both_layouts() {
        let owners = [
            "mrpc/test-00000-of-00001.parquet",
            "mrpc/validation-00000-of-00001.parquet",
            "mnli/validation_matched-00000-of-00001.parquet",
            "stsb/validation-00000-of-00001.parquet",
        ];
        let found = of_split(&owners, Some("mrpc"), "validation");
        assert_eq!(found, ["mrpc/validation-00000-of-00001.parquet"]);
        assert!(of_split(&owners, Some("mnli"), "validation").is_empty());
        assert_eq!(of_split(&["test.parquet", "train.parquet"], None, "test"), ["test.parquet"]);
        let converted = ["default/test/0000.parquet", "default/train/0000.parquet"];
        assert_eq!(of_split(&converted, Some("default"), "train"), ["default/train/0000.parquet"]);
    }
}
