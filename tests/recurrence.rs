//! What a text becomes depends on the text alone: not on its neighbours, on where chunks cut it,
//! on the lane it runs in, or on what the session ran before.
//!
//! On one thread, hidden vectors, and so last and maximum, and logits are equal bit for bit, in
//! every tensor type; a mean is equal to 1e-6 of its largest element, for the sum over the tokens
//! of a chunk is rounded to f32.

mod common;

use std::sync::Arc;

use common::gguf::{self, TempGguf};
use common::run;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rwkvq::checkpoint::random::Spec;
use rwkvq::embed::{Embeddings, Pooling};
use rwkvq::ggml::Products;
use rwkvq::model::{Layer, Model, SegmentPool, Session, SessionOptions};
use rwkvq::Error;

const N_VOCAB: u32 = 300;

/// f32 and 16-bit weights meet one kind of kernel, superblocks another; the superblocks need
/// width, so the model is shallow.
const PRESETS: [&str; 4] = ["f32", "f16", "q8_0", "q4_k"];

fn model(preset: &str) -> (TempGguf, Arc<Model>) {
    let spec = Spec { n_vocab: N_VOCAB as usize, rescale_every: 2, seed: 5, ..Spec::default() };
    let spec = match preset {
        "q4_k" => Spec { n_layer: 2, n_embd: 256, head_size: 64, n_ff: Some(256), ..spec },
        _ => Spec { n_layer: 5, n_embd: 32, head_size: 8, n_ff: Some(64), ..spec },
    };
    let file = gguf::random(&spec, preset);
    let model = run::open(&file.path);
    (file, model)
}

fn text(longest: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..N_VOCAB, 1..=longest)
}

/// Texts of which many begin as one does, some as long as it or no longer.
fn batch() -> impl Strategy<Value = Vec<Vec<u32>>> {
    let ends = prop::collection::vec((0..=30usize, prop::collection::vec(0..N_VOCAB, 0..30)), 1..7);
    (text(30), ends).prop_map(|(beginning, ends)| {
        let text = |(n, end): (usize, Vec<u32>)| {
            let text = [&beginning[..n.min(beginning.len())], &end].concat();
            if text.is_empty() {
                beginning.clone()
            } else {
                text
            }
        };
        ends.into_iter().map(text).collect()
    })
}

/// Any number of lanes up to four, chunks from the smallest to larger than most batches; texts
/// share rows by our operations, ggml's run them one after the other.
fn session() -> impl Strategy<Value = SessionOptions> {
    (1..=4usize, 2..=70usize, any::<bool>()).prop_map(|(n_lanes, batch_tokens, own)| {
        let products = if own { Products::Own } else { Products::Ggml };
        SessionOptions { products, ..run::session(batch_tokens.max(2 * n_lanes), n_lanes) }
    })
}

/// The same products, one text after the other.
fn alone(options: &SessionOptions) -> SessionOptions {
    SessionOptions { products: options.products, ..run::one_thread() }
}

/// Runs `check` on `n` cases; a failure prints the smallest case found.
#[track_caller]
fn property<S: Strategy>(n: u32, cases: S, check: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases: n, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&cases, check).unwrap();
}

fn embed(
    model: &Arc<Model>,
    pooling: Pooling,
    options: SessionOptions,
    texts: &[Vec<u32>],
) -> Embeddings {
    run::embedder(model, pooling, options).embed_ids(texts).unwrap()
}

/// All layers of text `i`, one after the other.
fn of_text(embeddings: &Embeddings, i: usize) -> &[f32] {
    let width = embeddings.layers.len() * embeddings.n_embd;
    &embeddings.values[i * width..(i + 1) * width]
}

fn equal(pooling: Pooling, n_embd: usize, a: &[f32], b: &[f32]) -> bool {
    if pooling != Pooling::Mean {
        return a == b;
    }
    a.chunks_exact(n_embd).zip(b.chunks_exact(n_embd)).all(|(a, b)| {
        let largest = a.iter().fold(0f32, |max, x| max.max(x.abs()));
        a.iter().zip(b).all(|(a, b)| approx::abs_diff_eq!(a, b, epsilon = 1e-6 * largest))
    })
}

#[test]
fn a_text_alone_equals_the_text_in_any_batch() {
    for preset in PRESETS {
        let (_file, model) = model(preset);
        property(8, (batch(), session()), |(texts, options)| {
            for (pooling, _) in run::POOLINGS {
                let together = embed(&model, pooling, options.clone(), &texts);
                for (i, text) in texts.iter().enumerate() {
                    let options = alone(&options);
                    let alone = embed(&model, pooling, options, std::slice::from_ref(text));
                    let (a, b) = (of_text(&alone, 0), of_text(&together, i));
                    prop_assert!(equal(pooling, alone.n_embd, a, b), "{preset}, {pooling}, {i}");
                }
            }
            Ok(())
        });
    }
}

#[test]
fn the_order_of_texts_is_of_no_consequence() {
    let (_file, model) = model("q8_0");
    let shuffled = batch().prop_flat_map(|texts| {
        let order: Vec<usize> = (0..texts.len()).collect();
        (Just(texts), Just(order).prop_shuffle())
    });
    property(16, (shuffled, session()), |((texts, order), options)| {
        let reordered: Vec<_> = order.iter().map(|&i| texts[i].clone()).collect();
        for (pooling, _) in run::POOLINGS {
            let a = embed(&model, pooling, options.clone(), &texts);
            let b = embed(&model, pooling, options.clone(), &reordered);
            for (place, &i) in order.iter().enumerate() {
                let (a, b) = (of_text(&a, i), of_text(&b, place));
                prop_assert!(equal(pooling, model.hparams().n_embd, a, b), "{pooling}, {i}");
            }
        }
        Ok(())
    });
}

#[test]
fn cuts_change_nothing_in_the_logits() {
    for preset in PRESETS {
        let (_file, model) = model(preset);
        property(8, (text(100), session()), |(text, options)| {
            let logits = |options| Session::new(model.clone(), options).unwrap().logits(&text);
            let whole = logits(alone(&options)).unwrap();
            prop_assert_eq!(whole.len(), N_VOCAB as usize);
            prop_assert_eq!(whole, logits(options).unwrap());
            Ok(())
        });
    }
}

#[test]
fn a_session_remembers_nothing() {
    let (_file, model) = model("f32");
    property(16, (batch(), batch(), session()), |(first, second, options)| {
        for (pooling, _) in run::POOLINGS {
            let mut one = run::embedder(&model, pooling, options.clone());
            let mut other = run::embedder(&model, pooling, options.clone());
            let a = one.embed_ids(&first).unwrap();
            let b = one.embed_ids(&second).unwrap();
            // Two sessions on one model, in turn.
            prop_assert_eq!(&other.embed_ids(&second).unwrap(), &b);
            prop_assert_eq!(&one.embed_ids(&first).unwrap(), &a);
            prop_assert_eq!(&other.embed_ids(&first).unwrap(), &a);
            prop_assert_eq!(&one.embed_ids(&second).unwrap(), &b);
        }
        Ok(())
    });
}

/// Other layers make another graph of the same length, logits one of another length; all of them
/// share the state and the memory for intermediate values.
#[test]
fn a_session_can_change_what_it_computes() {
    let (_file, model) = model("f32");
    property(8, (batch(), text(30), session()), |(texts, text, options)| {
        let fresh = || Session::new(model.clone(), options.clone()).unwrap();
        let last = |session: &mut Session, layers: &[Layer]| {
            let mut all = vec![Vec::new(); texts.len()];
            let receive = |pooled: rwkvq::model::Pooled<'_>| {
                all[pooled.text] = pooled.values.to_vec();
                Ok(())
            };
            session.run(&texts, layers, SegmentPool::Last, receive).unwrap();
            all
        };
        let (early, late) = ([Layer::Block(0), Layer::Final], [Layer::Block(3), Layer::Final]);
        let mut session = fresh();
        for _ in 0..2 {
            prop_assert_eq!(last(&mut session, &early), last(&mut fresh(), &early));
            prop_assert_eq!(session.logits(&text).unwrap(), fresh().logits(&text).unwrap());
            prop_assert_eq!(last(&mut session, &late), last(&mut fresh(), &late));
        }
        Ok(())
    });
}

#[test]
fn a_session_that_was_stopped_starts_anew() {
    let (_file, model) = model("f32");
    let texts: Vec<_> = (0..5).map(|i| run::ids(11, i, N_VOCAB as usize)).collect();
    let mut session = Session::new(model.clone(), run::session(8, 1)).unwrap();
    let layers = [Layer::Block(2), Layer::Final];
    let stopped = session.run(&texts, &layers, SegmentPool::Sum, |pooled| match pooled.text {
        2 => Err(Error::Interrupted),
        _ => Ok(()),
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let sums = |session: &mut Session| {
        let mut all = Vec::new();
        let receive = |pooled: rwkvq::model::Pooled<'_>| {
            all.extend_from_slice(pooled.values);
            Ok(())
        };
        session.run(&texts, &layers, SegmentPool::Sum, receive).unwrap();
        all
    };
    let expected = sums(&mut Session::new(model.clone(), run::session(8, 1)).unwrap());
    assert_eq!(sums(&mut session), expected);
}

/// More forks than the recurrence keeps states of, more texts than a graph has segments at first,
/// and more equal ones than rows.
#[test]
fn many_texts_that_begin_alike() {
    let (_file, model) = model("q4_k");
    let beginning = run::ids(100, 1, N_VOCAB as usize);
    let mut texts: Vec<Vec<u32>> = (1..=100)
        .rev()
        .map(|n| [&beginning[..n], &run::ids(2, n, N_VOCAB as usize)].concat())
        .collect();
    texts.extend(vec![beginning[..3].to_vec(); 150]);
    for options in [run::session(4096, 1), run::session(4096, 3), run::session(128, 1)] {
        for (pooling, _) in run::POOLINGS {
            let together = embed(&model, pooling, options.clone(), &texts);
            for (i, text) in texts.iter().enumerate().step_by(7) {
                let alone = embed(&model, pooling, run::one_thread(), std::slice::from_ref(text));
                let (a, b) = (of_text(&alone, 0), of_text(&together, i));
                assert!(equal(pooling, alone.n_embd, a, b), "{options:?} {pooling}, {i}");
            }
        }
    }
}
