//! Presets: no rule is idle, no tensor is without a type, and the plans are those on record.
//!
//! `RWKVQ_WRITE_SNAPSHOTS=1 cargo test --test presets` writes the plans anew; read the difference.

#[path = "common/finch.rs"]
mod finch;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use finch::{Size, FINCH_14B, FINCH_1B6, FINCH_3B, FINCH_7B};
use rwkvq::ggml::TensorType;
use rwkvq::recipe::{Choice, Plan, PlanTensor, Recipe};

/// Rows of 96 and of 320: superblocks of 256 fill neither. More than ten layers, for the order.
const NARROW: Size = Size {
    n_layer: 12,
    n_embd: 96,
    head_size: 16,
    n_ff: 320,
    n_vocab: 300,
    low_rank_mix: 32,
    low_rank_decay: 64,
};

fn tensors(size: &Size) -> Vec<PlanTensor> {
    let targets = size.targets().into_iter();
    targets
        .map(|target| PlanTensor { name: target.name, shape: target.shape, ty: TensorType::F32 })
        .collect()
}

fn plan(preset: &str, size: &Size) -> Plan {
    let recipe = Recipe::open(preset).unwrap();
    Plan::new(&recipe, recipe.layout, size.n_layer, &tensors(size), &|_| false).unwrap()
}

#[test]
fn every_rule_decides_something() {
    // The mixtures have a rule for each of the two.
    let models = [tensors(&FINCH_1B6), tensors(&NARROW)];
    for preset in Recipe::names() {
        let recipe = Recipe::open(preset).unwrap();
        for (i, rule) in recipe.rules.iter().enumerate() {
            let decides = |tensor: &PlanTensor| {
                let fits = |multiple: usize| tensor.shape.n_cols().is_multiple_of(multiple);
                tensor.shape.trimmed().rank() > 1
                    && rule.tensors.is_match(&tensor.name)
                    && rule.row_multiple_of.is_none_or(fits)
                    && !recipe.rules[..i].iter().any(|earlier| {
                        earlier.tensors.is_match(&tensor.name)
                            && earlier.row_multiple_of.is_none_or(fits)
                    })
            };
            // The norms are vectors in this architecture; the rule states what must stay so.
            let is_norms = rule.tensors.glob().glob() == "*_norm.weight";
            let used = models.iter().flatten().any(decides);
            assert!(used || is_norms, "{preset}: rule {} decides nothing", i + 1);
            assert!(!rule.why.is_empty(), "{preset}: rule {} has no reason", i + 1);
            let matches = |tensor: &PlanTensor| rule.tensors.is_match(&tensor.name);
            assert!(models.iter().all(|model| model.iter().any(matches)), "{preset}: {}", i + 1);
        }
    }
}

#[test]
fn every_tensor_gets_a_type_and_whole_rows() {
    for size in [FINCH_1B6, NARROW] {
        let tensors = tensors(&size);
        for preset in Recipe::names() {
            let plan = plan(preset, &size);
            let mut sources: Vec<usize> = plan.rows.iter().map(|row| row.source).collect();
            sources.sort_unstable();
            assert_eq!(sources, (0..tensors.len()).collect::<Vec<_>>(), "{preset}");
            for row in &plan.rows {
                assert_eq!(row.name, tensors[row.source].name);
                let row_bytes = row.to.row_bytes(row.shape.n_cols()).unwrap();
                assert_eq!(row.bytes, (row_bytes * row.shape.n_rows()) as u64, "{}", row.name);
                assert!(!row.why.is_empty(), "{preset}: {}", row.name);
            }
        }
    }
}

/// What must stay in f32 for quality and for ggml's kernels does, whatever the preset.
#[test]
fn small_tensors_stay_in_f32() {
    for preset in Recipe::names() {
        for row in plan(preset, &FINCH_1B6).rows {
            let matrices = ["key", "value", "receptance", "gate", "output"];
            let of_layer = |end: &str| row.name.ends_with(&format!("_mix_{end}.weight"));
            let is_matrix = matches!(row.name.as_str(), "output.weight" | "token_embd.weight")
                || matrices.iter().any(|matrix| of_layer(matrix));
            assert!(is_matrix || row.to == TensorType::F32, "{preset}: {} is {}", row.name, row.to);
            assert!(!is_matrix || preset == "f32" || row.to != TensorType::F32, "{}", row.name);
        }
    }
}

/// Bytes of all tensors as llama.cpp's converter and llama-quantize give them. The K columns of
/// that table are its mixtures, whose output matrix is q6_k; the other columns have one type.
#[test]
fn total_bytes_are_llama_cpps() {
    let presets = ["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s"];
    #[rustfmt::skip]
    let table: [(Size, usize, [u64; 6]); 4] = [
        (FINCH_1B6, 582,
            [6_399_492_096, 3_245_375_488, 1_766_883_328, 1_384_939_520, 1_193_312_256, 1_012_957_184]),
        (FINCH_3B, 774,
            [12_399_452_160, 6_275_768_320, 3_405_291_520, 2_663_751_680, 2_279_383_040, 1_917_624_320]),
        (FINCH_7B, 774,
            [30_542_987_264, 15_510_601_728, 8_464_171_008, 6_643_843_072, 5_681_250_304, 4_775_280_640]),
        (FINCH_14B, 1470,
            [56_276_353_024, 28_593_946_624, 15_617_818_624, 12_265_652_224, 10_463_019_008, 8_766_423_040]),
    ];
    for (size, n_tensors, bytes) in table {
        let [f32, f16, q8_0, q6_k, q5_k, q4_k] = bytes;
        let bytes = [f32, f16, f16, q8_0, q6_k, q5_k, q5_k, q4_k, q4_k];
        for (preset, bytes) in presets.iter().zip(bytes) {
            let plan = plan(preset, &size);
            assert_eq!(plan.rows.len(), n_tensors);
            assert_eq!(plan.total_bytes().unwrap(), bytes, "{preset}, width {}", size.n_embd);
        }
    }
}

/// The last two columns of that table are mixtures too. With a rule for the output matrix the pure
/// presets give the same numbers, so every other tensor of theirs is right.
#[test]
fn q3_k_and_q2_k_differ_from_llama_cpps_mixtures_in_the_output_matrix_alone() {
    #[rustfmt::skip]
    let table = [
        (FINCH_1B6, [821_329_920, 674_791_424]),
        (FINCH_3B, [1_533_255_680, 1_239_326_720]),
        (FINCH_7B, [3_812_687_872, 3_076_587_520]),
        (FINCH_14B, [6_963_789_824, 5_585_305_600u64]),
    ];
    for (size, bytes) in table {
        for (preset, expected) in ["q3_k", "q2_k"].iter().zip(bytes) {
            let plan = plan(preset, &size);
            let output = plan.rows.iter().find(|row| row.name == "output.weight").unwrap();
            let row_bytes = TensorType::Q6_K.row_bytes(output.shape.n_cols()).unwrap();
            let wide = (row_bytes * output.shape.n_rows()) as u64;
            assert_eq!(plan.total_bytes().unwrap() - output.bytes + wide, expected, "{preset}");
        }
    }
}

#[test]
fn file_types_are_llama_cpps_numbers() {
    let expected = [
        ("f32", 0),
        ("f16", 1),
        ("bf16", 32),
        ("q8_0", 7),
        ("q6_k", 18),
        ("q5_k", 16),
        ("q5_k_m", 17),
        ("q5_k_s", 16),
        ("q4_k", 14),
        ("q4_k_m", 15),
        ("q4_k_s", 14),
        ("q3_k", 11),
        ("q2_k", 10),
    ];
    let found: Vec<_> =
        Recipe::names().map(|name| (name, Recipe::open(name).unwrap().file_type)).collect();
    assert_eq!(found, expected);
}

/// Each preset file in the folder is one of the binary, and says in its table what it does.
#[test]
fn the_folder_holds_the_presets_of_the_binary() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("quant-presets");
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    files.sort();
    let mut names: Vec<&str> = Recipe::names().collect();
    names.sort_unstable();
    assert_eq!(files, names);
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for name in names {
        assert!(readme.contains(&format!("`{name}`")), "README.md does not name {name}");
        let path = folder.join(format!("{name}.json"));
        let (from_file, built_in) = (Recipe::open(path.to_str().unwrap()), Recipe::open(name));
        assert_eq!(format!("{:?}", from_file.unwrap()), format!("{:?}", built_in.unwrap()));
    }
}

#[test]
fn a_rule_for_edges_widens_the_first_and_last_layers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edges.json");
    let text = r#"{"about": "a", "file_type": 15, "layout": "quantized", "default": "q4_k", "rules": [
        {"tensors": "blk.*.channel_mix_value.weight", "layers": "edges/8", "type": "q6_k", "why": "edges"}]}"#;
    std::fs::write(&path, text).unwrap();
    let recipe = Recipe::open(path.to_str().unwrap()).unwrap();
    assert!(matches!(recipe.rules[0].choice, Choice::Type(TensorType::Q6_K)));
    assert_eq!(recipe.name, "edges");
    let plan = Plan::new(&recipe, recipe.layout, 24, &tensors(&FINCH_1B6), &|_| false).unwrap();
    let wide: Vec<&str> = plan
        .rows
        .iter()
        .filter(|row| row.to == TensorType::Q6_K)
        .map(|row| row.name.split('.').nth(1).unwrap())
        .collect();
    assert_eq!(wide, ["0", "1", "2", "21", "22", "23"]);
}

#[test]
fn the_plan_of_finch_1b6_is_the_one_on_record() {
    check_snapshot("finch-1b6.txt", &FINCH_1B6);
}

#[test]
fn the_plan_of_a_narrow_model_is_the_one_on_record() {
    check_snapshot("width-96.txt", &NARROW);
}

fn check_snapshot(name: &str, size: &Size) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/plans").join(name);
    let text = snapshot(size);
    if std::env::var_os("RWKVQ_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (i, (expected, found)) in expected.lines().zip(text.lines()).enumerate() {
        assert_eq!(found, expected, "{name}, line {}", i + 1);
    }
    assert_eq!(text, expected, "{name}");
}

/// All presets of a model: sizes, types, order of the tensors.
fn snapshot(size: &Size) -> String {
    let mut text = String::new();
    let plans: Vec<Plan> = Recipe::names().map(|preset| plan(preset, size)).collect();
    writeln!(text, "preset  file_type layout    tensor bytes  bits per weight").unwrap();
    for plan in &plans {
        let (preset, file_type) = (&plan.preset, plan.file_type);
        let (layout, bytes) = (format!("{:?}", plan.layout), plan.total_bytes().unwrap());
        let bpw = plan.bits_per_weight();
        writeln!(text, "{preset:<7} {file_type:>9} {layout:<9} {bytes:>12}  {bpw:.4}").unwrap();
    }
    text += "\ntypes of all but vectors; * in place of a type whose blocks do not fill the rows\n";
    text += &types(&plans);
    for preset in ["f32", "q8_0"] {
        let plan = plans.iter().find(|plan| plan.preset == preset).unwrap();
        writeln!(text, "\norder of tensors, {:?} (.weight left out)", plan.layout).unwrap();
        text += &order(plan);
    }
    text
}

/// A line for each kind of tensor, a column for each preset.
fn types(plans: &[Plan]) -> String {
    let mut table: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for plan in plans {
        let mut kinds: BTreeMap<(String, String), String> = BTreeMap::new();
        for row in plan.rows.iter().filter(|row| row.shape.rank() > 1) {
            let star = if row.instead_of.is_some() { "*" } else { "" };
            let cell = format!("{}{star}", row.to);
            let kind = (kind(&row.name), row.shape.to_string());
            let first = kinds.entry(kind).or_insert_with(|| cell.clone());
            assert_eq!(*first, cell, "{}: {} differs from other layers", plan.preset, row.name);
        }
        for (kind, cell) in kinds {
            table.entry(kind).or_default().push(cell);
        }
    }
    let mut text = format!("{:<53}", "");
    text += &columns(plans.iter().map(|plan| plan.preset.as_str()));
    for ((kind, shape), cells) in table {
        text += &format!("{kind:<36} {shape:<15} ");
        text += &columns(cells.iter().map(String::as_str));
    }
    text
}

/// `blk.*.attn_norm.weight` for that tensor of any layer.
fn kind(name: &str) -> String {
    match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((_, rest)) => format!("blk.*.{rest}"),
        None => name.to_owned(),
    }
}

fn columns<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let line: String = cells.map(|cell| format!("{cell:<7}")).collect();
    format!("{}\n", line.trim_end())
}

/// Names in order; layers that are in the same order inside share a line.
fn order(plan: &Plan) -> String {
    let mut groups: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    let mut last_layer = None;
    for row in &plan.rows {
        let parts: Vec<&str> = row.name.splitn(3, '.').collect();
        let (layer, rest) = match parts.as_slice() {
            ["blk", il, rest] => (il.to_string(), rest.to_string()),
            _ => ("-".to_owned(), row.name.clone()),
        };
        if last_layer.as_ref() == Some(&layer) {
            let (_, names) = groups.last_mut().unwrap();
            names.push(rest);
        } else {
            groups.push((vec![layer.clone()], vec![rest]));
            last_layer = Some(layer);
        }
    }
    groups.dedup_by(|next, first| {
        let same = next.1 == first.1;
        if same {
            first.0.append(&mut next.0);
        }
        same
    });
    let line = |(layers, names): &(Vec<String>, Vec<String>)| {
        let short = |name: &String| name.strip_suffix(".weight").unwrap_or(name).to_owned();
        let names: Vec<String> = names.iter().map(short).collect();
        format!("layer {}: {}\n", layers.join(" "), names.join(" "))
    };
    groups.iter().map(line).collect()
}
