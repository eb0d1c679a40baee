//! Checkpoints with something wrong in them: one line that names it, and nothing written.

use std::fs;

use rwkvq::checkpoint::random::Spec;
use serde_json::{json, Value};

use crate::args;
use crate::model_file::{ModelFile, Tensor};
use crate::workplace::{run, succeeds, tiny, wide, Workplace};

const KEY: &str = "rwkv.blocks.1.attention.key.weight";

fn changed(change: impl FnOnce(&mut ModelFile)) -> Workplace {
    let place = Workplace::new();
    ModelFile::change(&place.path("m/model.safetensors"), change);
    place
}

#[test]
fn a_missing_shard() {
    let place = Workplace::with(&Spec { shards: 2, ..tiny() });
    fs::remove_file(place.path("m/model-00002-of-00002.safetensors")).unwrap();
    place.convert_refused(&["model-00002-of-00002.safetensors which is absent"]);
    fs::remove_file(place.path("m/model.safetensors.index.json")).unwrap();
    place.convert_refused(&["shard model-00002-of-00002.safetensors is absent"]);
}

#[test]
fn a_type_that_is_no_weight() {
    changed(|model| model.tensor(KEY).dtype = "I32".into()).convert_refused(&[
        "model.safetensors",
        KEY,
        "I32",
        "F32",
        "F16",
        "BF16",
    ]);
}

#[test]
fn a_missing_tensor() {
    changed(|model| model.0.retain(|tensor| tensor.name != KEY))
        .convert_refused(&["missing tensor \"blocks.1.attention.key.weight\""]);
    let last = |name: &str| name.contains("blocks.1.");
    let place = changed(|model| model.0.retain(|tensor| !last(&tensor.name)));
    place.convert_refused(&["num_hidden_layers in config.json: expected 1", "found 2"]);
}

#[test]
fn a_tensor_that_no_rule_knows() {
    let extra = |name: &str| Tensor {
        name: name.into(),
        dtype: "F32".into(),
        shape: vec![1],
        bytes: vec![0; 4],
    };
    for name in ["rwkv.blocks.1.attention.time_maa_q", "lora.weight"] {
        changed(|model| model.0.push(extra(name)))
            .convert_refused(&[&format!("unknown tensor {name:?}")]);
    }
}

#[test]
fn a_tensor_of_another_shape() {
    let place = changed(|model| model.tensor(KEY).shape = vec![64, 16]);
    place.convert_refused(&[KEY, "expected shape [32, 32], found [64, 16]"]);
}

#[test]
fn a_file_that_was_cut() {
    let place = Workplace::new();
    let path = place.path("m/model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for n in [whole.len() - 1, whole.len() / 2, 8 + header, 8 + header / 2, 9] {
        fs::write(&path, &whole[..n]).unwrap();
        place.convert_refused(&["model.safetensors: truncated:", &format!("file has {n}")]);
    }
    for n in [8, 4, 1] {
        fs::write(&path, &whole[..n]).unwrap();
        place.convert_refused(&["model.safetensors: neither a safetensors nor a PyTorch file"]);
    }
    fs::write(&path, []).unwrap();
    place.convert_refused(&["model.safetensors: empty file"]);
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    place.convert_refused(&["model.safetensors: 1 bytes follow the last tensor"]);
}

#[test]
fn weights_that_are_not_numbers() {
    let cases = [(f32::NAN, "NaN"), (f32::INFINITY, "infinite"), (f32::NEG_INFINITY, "infinite")];
    for (value, word) in cases {
        let place = changed(|model| model.tensor(KEY).set(77, value));
        let expected = format!("tensor \"blk.1.time_mix_key.weight\": element 77 is {word}");
        for preset in ["f32", "q8_0"] {
            place.convert_to_refused(preset, &[&expected, "nothing was written"]);
        }
    }
    // One that is transposed and one that is stacked: elements are counted in the GGUF.
    let place = changed(|model| {
        let w1 = model.tensor("rwkv.blocks.0.attention.time_decay_w1");
        assert_eq!(w1.shape, [32, 64]);
        w1.set(64 + 3, f32::NAN);
    });
    place.convert_refused(&["\"blk.0.time_mix_decay_w1.weight\": element 97 is NaN"]);
    let place = changed(|model| {
        model.tensor("rwkv.blocks.0.attention.time_maa_v").set(5, f32::NAN);
    });
    place.convert_refused(&["\"blk.0.time_mix_lerp_fused.weight\": element 69 is NaN"]);
}

/// Finite weights that a type cannot hold: ggml writes a scale that is infinite, or, worse, zeros.
#[test]
fn weights_too_large_for_a_type() {
    let place = Workplace::with(&wide());
    let path = place.path("m/model.safetensors");
    let key = "rwkv.blocks.0.attention.key.weight";
    let mut cases = vec![("f16", 70_000.0, "70000"), ("f16", -70_000.0, "-70000")];
    let quantized = ["q8_0", "q6_k", "q5_k", "q4_k", "q4_k_m", "q3_k", "q2_k"];
    cases.extend(quantized.map(|preset| (preset, 1e38, "1e38")));
    cases.extend(quantized.map(|preset| (preset, -1e12, "-1e12")));
    for (preset, value, shown) in cases {
        ModelFile::change(&path, |model| model.tensor(key).set(1077, value));
        let ty = preset.trim_end_matches("_m");
        let expected = format!("element 1077 is {shown}, too large for {ty}; choose a wider type");
        place.convert_to_refused(preset, &["tensor \"blk.0.time_mix_key.weight\"", &expected]);
    }
    ModelFile::change(&path, |model| model.tensor(key).set(1077, 1e38));
    for preset in ["f32", "bf16"] {
        succeeds(args!["convert", place.path("m"), "--preset", preset, "-o", place.path("out")]);
    }
    // bf16 rounds the largest float up, to infinity.
    ModelFile::change(&path, |model| model.tensor(key).set(1077, f32::MAX));
    let args = args!["convert", place.path("m"), "--preset", "bf16", "-o", place.path("x.gguf")];
    place.refused(args, 3, &["element 1077 is 3.4028235e38, too large for bf16"]);
}

#[test]
fn other_models_by_name() {
    let cases = [
        ("rwkv.blocks.0.attention.time_first", "this is RWKV-4"),
        ("rwkv.blocks.0.attention.time_mix_gate", "this is RWKV-5"),
        ("blocks.0.att.r_k", "this is RWKV-7"),
        ("model.layers.0.attn.x_proj.0.weight", "this is an fla RWKV-6"),
        ("model.layers.0.self_attn.q_proj.weight", "this is a \"llama\" model"),
    ];
    for (name, expected) in cases {
        let place = changed(|model| {
            model.0.truncate(1);
            model.0[0].name = name.into();
        });
        config(&place, |config| config["model_type"] = json!("llama"));
        place.convert_refused(&[expected, "only RWKV-6 (Finch) is supported"]);
    }
    let place = changed(|model| model.0[0].name = "x".into());
    config(&place, |config| config["model_type"] = json!("rwkv5"));
    place.convert_refused(&["model_type in config.json: expected rwkv6", "found rwkv5"]);
}

fn config(place: &Workplace, change: impl FnOnce(&mut Value)) {
    let path = place.path("m/config.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn a_config_that_disagrees_with_the_tensors() {
    let cases = [
        ("hidden_size", json!(64), "32"),
        ("num_hidden_layers", json!(3), "2"),
        ("vocab_size", json!(301), "300"),
        ("head_size", json!(32), "16"),
    ];
    for (key, value, found) in cases {
        let place = Workplace::new();
        config(&place, |config| config[key] = value.clone());
        let expected = format!("{key} in config.json: expected {found}");
        place.convert_refused(&[&expected, &format!("found {value}")]);
    }
    let wrong = [
        ("hidden_size", json!("wide"), "expected a positive integer"),
        ("hidden_size", json!(-1), "expected a positive integer"),
        ("layer_norm_epsilon", json!("small"), "expected a number"),
        ("layer_norm_epsilon", json!(2), "expected a number"),
        ("rescale_every", json!(1.5), "expected an integer"),
        ("head_size_divisor", json!(4), "expected 8"),
    ];
    for (key, value, expected) in wrong {
        let place = Workplace::new();
        config(&place, |config| config[key] = value);
        place.convert_refused(&[&format!("{key} in config.json"), expected]);
    }
    for key in ["hidden_size", "head_size", "layer_norm_epsilon", "rescale_every"] {
        let place = Workplace::new();
        config(&place, |config| drop(config.as_object_mut().unwrap().remove(key)));
        place.convert_refused(&[&format!("config.json has no {key}")]);
    }
    let place = Workplace::new();
    place.write("m/config.json", "{");
    place.convert_refused(&["config.json: not valid JSON"]);
    place.write("m/config.json", "[]");
    place.convert_refused(&["config.json: expected a JSON object, found an array"]);
}

/// Published configs have these wrong, so nobody is told unless they ask.
#[test]
fn known_lies_of_a_config_are_noted_under_verbose_alone() {
    let place = Workplace::new();
    config(&place, |config| {
        config["num_attention_heads"] = json!(64);
        config["intermediate_size"] = json!(1234);
    });
    let convert = |more: &str| {
        let mut args = args!["convert", place.path("m"), "--preset", "f16", "--overwrite"];
        args.extend(args!["-o", place.path("out"), more]);
        run(args)
    };
    let quiet = convert("--json");
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    let verbose = convert("--verbose");
    assert_eq!(verbose.code, 0);
    for note in [
        "note: config.json says num_attention_heads 64, the tensors say 2\n",
        "note: config.json says intermediate_size 1234, the tensors say 96\n",
    ] {
        assert!(verbose.stderr.contains(note), "{}", verbose.stderr);
    }
}

#[test]
fn vocabularies() {
    let place = Workplace::new();
    let path = place.path("m/rwkv_vocab_v20230424.txt");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("3 '\\x02' 1", "3 '\\x02' 2", 1)).unwrap();
    place.convert_refused(&["rwkv_vocab_v20230424.txt", "line 3"]);
    // More tokens than the model has rows.
    fs::write(&path, format!("{text}300 'zzzzz' 5\n")).unwrap();
    place.convert_refused(&["rwkv_vocab_v20230424.txt", "300"]);
    fs::remove_file(&path).unwrap();
    place.convert_refused(&["no rwkv_vocab_v20230424.txt", "--vocab"]);
    let elsewhere = place.write("v.txt", text);
    let args = args!["convert", place.path("m"), "--preset", "f32", "-o", place.path("a.gguf")];
    succeeds([args, args!["--vocab", elsewhere]].concat());
}

#[test]
fn folders_without_a_checkpoint() {
    let place = Workplace::new();
    fs::rename(place.path("m/model.safetensors"), place.path("m/other.safetensors")).unwrap();
    place
        .convert_refused(&["no model*.safetensors and no pytorch_model*.bin", "other.safetensors"]);
    fs::remove_file(place.path("m/other.safetensors")).unwrap();
    place.convert_refused(&["no model*.safetensors and no pytorch_model*.bin"]);
    let convert = |name: &str| {
        let source = place.path(name);
        args!["convert", source, "--preset", "q8_0", "-o", place.path("out")]
    };
    place.refused(convert("nowhere"), 4, &["nowhere: No such file or directory"]);
    place.write("text", "hello, this is a text");
    place.refused(convert("text"), 3, &["text: neither a safetensors nor a PyTorch file"]);
}
