//! One model shared by many threads, each with a session of its own.

mod common;

use std::sync::Barrier;

use common::{gguf, run};
use rwkvq::checkpoint::random::Spec;
use rwkvq::embed::{Embedder, Pooling};
use rwkvq::model::{Model, Session};

const TEXTS: [&str; 5] = [
    "A quiet river runs past the old mill.",
    "x",
    "Three boats, two of them green, lie at the bridge; nobody has used them since winter.",
    "Müller said: \u{201c}no\u{201d}.",
    "A quiet river runs past the old mill.",
];

const N_THREADS: usize = 8;

#[test]
fn eight_threads_give_what_one_gives() {
    for preset in ["f32", "q4_k"] {
        let spec = Spec { n_embd: 256, head_size: 32, n_ff: Some(256), ..Spec::default() };
        let file = gguf::random(&spec, preset);
        let expected = run::embedder(&run::open(&file.path), Pooling::Mean, run::session(16, 2))
            .embed(&TEXTS)
            .unwrap();
        assert_eq!(expected.values.len(), TEXTS.len() * 5 * 256);
        // A model that nothing has been asked of yet: its tokenizer is made by whoever is first.
        let model = run::open(&file.path);
        let start = Barrier::new(N_THREADS);
        let work = |thread: usize| {
            let mut embedder = run::embedder(&model, Pooling::Mean, run::session(16, 2));
            start.wait();
            for pass in 0..3 {
                let found = embedder.embed(&TEXTS).unwrap();
                assert!(found == expected, "{preset}, thread {thread}, pass {pass}");
            }
        };
        std::thread::scope(|scope| {
            let work = &work;
            (0..N_THREADS).for_each(|thread| drop(scope.spawn(move || work(thread))));
        });
    }
}

/// A session goes where its owner goes, and outlives every other handle of its model.
#[test]
fn a_session_moves_between_threads() {
    let file = gguf::random(&Spec::default(), "f32");
    let ids = run::ids(20, 1, 600);
    let mut session = Session::new(run::open(&file.path), run::session(8, 1)).unwrap();
    let here = session.logits(&ids).unwrap();
    let there = std::thread::spawn(move || session.logits(&ids).unwrap()).join().unwrap();
    assert_eq!(here, there);
}

#[test]
fn models_are_shared_and_sessions_are_sent() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Model>();
    is_sync::<Model>();
    is_send::<Session>();
    is_send::<Embedder>();
}
