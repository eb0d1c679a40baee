//! What the embedder promises beside the numbers: which layers, which scale, which errors.

mod common;

use std::sync::Arc;

use common::gguf::{self, Parts, TempGguf};
use common::run;
use rwkvq::checkpoint::random::Spec;
use rwkvq::embed::{EmbedOptions, Embedder, Embeddings, Pooling};
use rwkvq::ggml::{Products, TensorType};
use rwkvq::model::{Layer, LayerSelection, Model, SegmentPool, Session, SessionOptions};
use rwkvq::{Error, Result};

/// Five layers, halved after the second and the fourth.
fn spec() -> Spec {
    Spec { n_layer: 5, rescale_every: 2, n_embd: 32, head_size: 8, ..Spec::default() }
}

fn model() -> (TempGguf, Arc<Model>) {
    let file = gguf::random(&spec(), "f32");
    let model = run::open(&file.path);
    (file, model)
}

fn options(layers: &str, pooling: Pooling) -> EmbedOptions {
    let layers = LayerSelection::parse(layers).unwrap();
    EmbedOptions { layers, pooling, normalize: false, session: run::session(16, 1) }
}

fn embed(model: &Arc<Model>, options: EmbedOptions) -> Result<Embeddings> {
    let texts: Vec<_> = [3, 1, 30].iter().map(|&n| run::ids(n, n, 600)).collect();
    Embedder::new(model, options)?.embed_ids(&texts)
}

#[test]
fn any_subset_of_layers_equals_all_of_them() {
    let (_file, model) = model();
    for (pooling, _) in run::POOLINGS {
        let all = embed(&model, options("all", pooling)).unwrap();
        assert_eq!(all.layers.len(), 6);
        for subset in 1..1 << all.layers.len() {
            let chosen: Vec<usize> = (0..6).filter(|il| subset >> il & 1 == 1).collect();
            let words: Vec<_> = chosen.iter().map(|&i| all.layers[i].to_string()).collect();
            let some = embed(&model, options(&words.join(","), pooling)).unwrap();
            assert_eq!(some.layers, chosen.iter().map(|&i| all.layers[i]).collect::<Vec<_>>());
            assert_eq!(some.n_tokens, [3, 1, 30]);
            for text in 0..all.n_texts() {
                for (i, &layer) in chosen.iter().enumerate() {
                    let equal = some.get(text, i) == all.get(text, layer);
                    assert!(equal, "{words:?}, {pooling}: layer {layer} of text {text}");
                }
            }
        }
    }
}

#[test]
fn names_of_layers() {
    let (_file, model) = model();
    let layers = |words: &str| embed(&model, options(words, Pooling::Mean)).unwrap().layers;
    assert_eq!(layers("last"), [Layer::Block(4)]);
    assert_eq!(layers("final"), [Layer::Final]);
    assert_eq!(layers("5"), [Layer::Final]);
    assert_eq!(layers("final, 3,0,3"), [Layer::Block(0), Layer::Block(3), Layer::Final]);
    let error = embed(&model, options("6", Pooling::Mean)).unwrap_err();
    assert_eq!(error.to_string(), "layer 6: the model has 0 to 4 and final");
}

/// A model that cannot be run past its third layer can be run up to it: later layers are not
/// computed when they are not asked for.
#[test]
fn layers_after_the_last_one_asked_for_are_not_computed() {
    let mut parts = Parts::open(&gguf::random(&spec(), "f32").path);
    let broken = parts.tensor("blk.3.channel_mix_value.weight");
    let huge = vec![f32::MAX; broken.shape.n_elements()];
    broken.set(TensorType::F32, &huge);
    let file = parts.write();
    let broken = run::open(&file.path);
    let (_whole_file, whole) = model();
    for (pooling, _) in run::POOLINGS {
        let expected = embed(&whole, options("0,2", pooling)).unwrap();
        assert_eq!(embed(&broken, options("0,2", pooling)).unwrap(), expected);
        // The first layer that makes one is named, whichever were asked for.
        for words in ["3", "0,2,last", "final", "all"] {
            let error = embed(&broken, options(words, pooling)).unwrap_err();
            assert!(matches!(error, Error::NonFinite { .. }), "{error:?}");
            let path = file.path.display();
            let what = format!("{path}: hidden of layer 3 is NaN or infinite");
            assert_eq!(error.to_string(), what, "{words}, {pooling}");
        }
    }
    let error = Session::new(broken, run::one_thread()).unwrap().logits(&[1, 2]).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: logits are NaN or infinite", file.path.display()));
}

#[test]
fn a_nan_on_any_row_is_seen_by_every_pooling() {
    let mut parts = Parts::open(&gguf::random(&spec(), "f32").path);
    let table = parts.tensor("token_embd.weight");
    let mut values = table.to_f32();
    values[7 * 32 + 5] = f32::NAN; // token 7
    table.set(TensorType::F32, &values);
    let file = parts.write();
    let model = run::open(&file.path);
    for (pooling, _) in run::POOLINGS {
        let mut embedder = Embedder::new(&model, options("0", pooling)).unwrap();
        let error = embedder.embed_ids(&[vec![1, 2], vec![3, 7, 4]]).unwrap_err();
        let what = format!("{}: hidden of layer 0 is NaN or infinite", file.path.display());
        assert_eq!(error.to_string(), what, "{pooling}");
        // The next run is clean again.
        embedder.embed_ids(&[vec![1, 2], vec![3, 4]]).unwrap();
    }
}

#[test]
fn normalized_vectors_have_length_one_and_the_same_direction() {
    let (_file, model) = model();
    for (pooling, _) in run::POOLINGS {
        let plain = embed(&model, options("all", pooling)).unwrap();
        let unit = EmbedOptions { normalize: true, ..options("all", pooling) };
        let unit = embed(&model, unit).unwrap();
        for text in 0..plain.n_texts() {
            for layer in 0..plain.layers.len() {
                let [plain, unit] = [&plain, &unit].map(|embeddings| {
                    embeddings.get(text, layer).iter().map(|&x| f64::from(x)).collect::<Vec<_>>()
                });
                let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
                approx::assert_abs_diff_eq!(length(&unit), 1.0, epsilon = 1e-6);
                let scaled: Vec<_> = plain.iter().map(|x| x / length(&plain)).collect();
                let difference = common::max_abs_difference(&unit, &scaled);
                assert!(difference < 1e-6, "{pooling}, layer {layer}: {difference}");
            }
        }
    }
}

#[test]
fn text_is_what_its_tokens_are() {
    let (_file, model) = model();
    let texts = ["the river", "a", "stone by stone"];
    let tokenizer = model.tokenizer().unwrap();
    let ids: Vec<_> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    let mut embedder = Embedder::new(&model, options("all", Pooling::Mean)).unwrap();
    let expected = embedder.embed_ids(&ids).unwrap();
    assert_eq!(expected.n_tokens, ids.iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!(embedder.embed(&texts).unwrap(), expected);
    assert_eq!(embedder.embed_with(tokenizer, &texts).unwrap(), expected);
    assert_eq!(embedder.embed(&[]).unwrap().n_texts(), 0);
}

#[test]
fn impossible_texts_are_refused() {
    let (_file, model) = model();
    let mut embedder = Embedder::new(&model, options("final", Pooling::Mean)).unwrap();
    let message = |result: Result<Embeddings>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{error:?}");
        error.to_string()
    };
    assert_eq!(message(embedder.embed(&["a", ""])), "text 2 is empty");
    assert_eq!(message(embedder.embed_ids(&[vec![], vec![1]])), "text 1 has no tokens");
    assert_eq!(
        message(embedder.embed_ids(&[vec![599], vec![0, 600]])),
        "text 2: token 600, but the model has 0 to 599; is it the right tokenizer?"
    );
    assert_eq!(
        message(embedder.embed_ids(&[vec![u32::MAX]])),
        "text 1: token 4294967295, but the model has 0 to 599; is it the right tokenizer?"
    );
    assert_eq!(embedder.workload().tokens, 0, "nothing ran");
    // The highest token is one.
    embedder.embed_ids(&[vec![599]]).unwrap();
}

#[test]
fn impossible_layers_are_refused() {
    let (_file, model) = model();
    let mut session = Session::new(model, run::one_thread()).unwrap();
    let mut message = |layers: &[Layer]| {
        let run = session.run(&[vec![1]], layers, SegmentPool::Last, |_| Ok(()));
        run.unwrap_err().to_string()
    };
    let (first, fifth) = (Layer::Block(0), Layer::Block(4));
    assert_eq!(message(&[]), "no layer was asked for");
    let ascending = "give each once, ascending";
    assert_eq!(
        message(&[Layer::Final, first]),
        format!("layer final was asked for before layer 0: {ascending}")
    );
    assert_eq!(
        message(&[first, fifth, fifth]),
        format!("layer 4 was asked for before layer 4: {ascending}")
    );
    let missing = Layer::Block(5);
    assert_eq!(message(&[first, missing]), "layer 5: the model has 0 to 4 and final");
}

#[test]
fn impossible_sessions_are_refused() {
    let (_file, model) = model();
    let message = |n_threads, batch_tokens, n_lanes| {
        let options = SessionOptions { n_threads, batch_tokens, n_lanes, ..Default::default() };
        Session::new(model.clone(), options).map(|_| ()).unwrap_err().to_string()
    };
    let few = "give at least one lane and two tokens for each";
    assert_eq!(message(1, 512, 0), format!("512 batch tokens for 0 lanes: {few}"));
    assert_eq!(message(1, 0, 1), format!("0 batch tokens for 1 lanes: {few}"));
    assert_eq!(message(1, 7, 4), format!("7 batch tokens for 4 lanes: {few}"));
    let many = "give at most 1048576 tokens and 4096 lanes";
    assert_eq!(
        message(1, usize::MAX, 1),
        format!("{} batch tokens for 1 lanes: {many}", usize::MAX)
    );
    let lanes = usize::MAX / 2;
    assert_eq!(
        message(1, usize::MAX, lanes),
        format!("{} batch tokens for {lanes} lanes: {many}", usize::MAX)
    );
    assert_eq!(message(0, 512, 1), "0 threads: give 1 to 512");
    assert_eq!(message(513, 512, 1), "513 threads: give 1 to 512");
}

/// The stream of a separator must not reach the text after it, nor that of a text before it: a
/// text that would betray a leak, for the texts before it are of another magnitude.
#[test]
fn nothing_leaks_from_the_text_before() {
    let mut parts = Parts::open(&gguf::random(&spec(), "f32").path);
    // Token 0 is what separators read, where there are any; token 1 is what the other texts are
    // made of.
    let table = parts.tensor("token_embd.weight");
    let mut values = table.to_f32();
    values[..64].iter_mut().enumerate().for_each(|(i, x)| *x = 1e4 * (i as f32 - 20.0));
    table.set(TensorType::F32, &values);
    let file = parts.write();
    let model = run::open(&file.path);
    let text = run::ids(9, 4, 600);
    let products = [Products::Own, Products::Ggml];
    for (pooling, products) in run::POOLINGS.into_iter().flat_map(|p| products.map(|q| (p.0, q))) {
        let options = options("all", pooling);
        let session = SessionOptions { products, ..options.session };
        let mut embedder = Embedder::new(&model, EmbedOptions { session, ..options }).unwrap();
        let alone = embedder.embed_ids(std::slice::from_ref(&text)).unwrap();
        for before in [vec![1; 1], vec![1; 13], vec![0; 14], vec![1; 15], vec![0; 16], vec![1; 40]]
        {
            let pair = embedder.embed_ids(&[before, text.clone()]).unwrap();
            for layer in 0..alone.layers.len() {
                let (a, b) = (alone.get(0, layer), pair.get(1, layer));
                let close = a
                    .iter()
                    .zip(b)
                    .all(|(a, b)| approx::relative_eq!(a, b, max_relative = 1e-6, epsilon = 1e-6));
                assert!(close, "{pooling}, layer {layer}");
            }
        }
    }
}

#[test]
fn texts_arrive_in_order_on_one_lane_and_once_on_several() {
    let (_file, model) = model();
    let texts: Vec<_> = [20, 1, 1, 40, 3].iter().map(|&n| run::ids(n, n, 600)).collect();
    for n_lanes in [1, 3] {
        let mut session = Session::new(model.clone(), run::session(16, n_lanes)).unwrap();
        let mut order = Vec::new();
        let receive = |pooled: rwkvq::model::Pooled<'_>| {
            order.push(pooled.text);
            Ok(())
        };
        session.run(&texts, &[Layer::Final], SegmentPool::Sum, receive).unwrap();
        if n_lanes > 1 {
            order.sort_unstable();
        }
        assert_eq!(order, [0, 1, 2, 3, 4], "{n_lanes} lanes");
    }
}

#[test]
fn the_workload_counts_tokens_and_the_rest() {
    let (_file, model) = model();
    let mut embedder = Embedder::new(&model, options("final", Pooling::Mean)).unwrap();
    embedder.embed_ids(&[vec![1; 5]]).unwrap();
    // Five tokens in a chunk of eight rows.
    assert_eq!((embedder.workload().tokens, embedder.workload().padding), (5, 3));
    embedder.embed_ids(&[vec![1; 10], vec![2; 12]]).unwrap();
    // Sixteen rows: ten tokens and six; then six tokens in eight rows.
    assert_eq!((embedder.workload().tokens, embedder.workload().padding), (27, 5));
}

/// A prompt that all texts begin with is computed once for each chunk, and nobody can tell.
#[test]
fn texts_that_begin_alike_share_what_they_begin_with() {
    let (_file, model) = model();
    let prompt = run::ids(20, 7, 600);
    let mut texts: Vec<Vec<u32>> =
        (1..=6).map(|n| [prompt.clone(), run::ids(n, 100 + n, 600)].concat()).collect();
    texts.push(prompt);
    texts.push(texts[2].clone());
    let n_tokens: usize = texts.iter().map(Vec::len).sum();
    for (pooling, _) in run::POOLINGS {
        let session = run::session(512, 1);
        let options = EmbedOptions { session, ..options("all", pooling) };
        let mut embedder = Embedder::new(&model, options.clone()).unwrap();
        let together = embedder.embed_ids(&texts).unwrap();
        let work = embedder.workload();
        assert_eq!(work.tokens, 20 + (1..=6).sum::<u64>());
        assert_eq!(work.tokens + work.shared, n_tokens as u64);
        for (i, text) in texts.iter().enumerate() {
            let alone = embedder.embed_ids(std::slice::from_ref(text)).unwrap();
            for layer in 0..alone.layers.len() {
                assert_eq!(alone.get(0, layer), together.get(i, layer), "{pooling} {i} {layer}");
            }
        }
        // ggml's operations go from row to row.
        let session = SessionOptions { products: Products::Ggml, ..options.session };
        let mut plain = Embedder::new(&model, EmbedOptions { session, ..options }).unwrap();
        plain.embed_ids(&texts).unwrap();
        assert_eq!((plain.workload().tokens, plain.workload().shared), (n_tokens as u64, 0));
    }
}
