//! A product that overflows half precision is found and runs on a smaller scale.

mod common;

use common::{cosine, gguf, run};
use rwkvq::checkpoint::random::Spec;
use rwkvq::embed::Pooling;
use rwkvq::ggml::TensorType;
use rwkvq::model::{Products, SessionOptions};

/// A model whose squared activations pass 65504, the largest number of half precision, in one layer.
fn overflowing() -> gguf::TempGguf {
    let file = gguf::random(&Spec::default(), "f32");
    let mut parts = gguf::Parts::open(&file.path);
    for tensor in &mut parts.tensors {
        let factor = match tensor.name.as_str() {
            "blk.1.channel_mix_key.weight" => 3000.0,
            "blk.1.channel_mix_value.weight" => 1e-7,
            _ => continue,
        };
        let values: Vec<f32> = tensor.to_f32().iter().map(|value| value * factor).collect();
        // ggml's product of half-precision weights takes the activations to half precision too.
        let is_value = tensor.name.ends_with("value.weight");
        tensor.set(if is_value { TensorType::F16 } else { TensorType::F32 }, &values);
    }
    parts.write()
}

#[test]
fn an_overflow_is_found_and_computed_again() {
    let file = overflowing();
    let model = run::open(&file.path);
    let texts: Vec<_> = (0..6).map(|t| run::ids(4 + 3 * t, t, 600)).collect();
    // Ours keeps activations in f32: nothing overflows.
    let mut own = run::embedder(&model, Pooling::Mean, run::one_thread());
    let expected = run::vectors(&mut own, &texts);
    assert_eq!(own.session().rescaled_layers(), [0; 0]);
    for (batch_tokens, lanes) in [(512, 1), (16, 1), (32, 2)] {
        let session =
            SessionOptions { products: Products::Ggml, ..run::session(batch_tokens, lanes) };
        let mut ggml = run::embedder(&model, Pooling::Mean, session);
        let found = run::vectors(&mut ggml, &texts);
        let rescaled = ggml.session().rescaled_layers();
        // How ggml was compiled decides there whether it takes these activations to half precision.
        let may_stay = cfg!(target_arch = "aarch64") && rescaled.is_empty();
        assert!(may_stay || rescaled == [1], "{rescaled:?}");
        for (text, (a, b)) in expected.iter().zip(&found).enumerate() {
            for (layer, (a, b)) in a.iter().zip(b).enumerate() {
                let cosine = cosine(a, b);
                assert!(cosine > 0.9999, "text {text}, layer {layer}: {cosine}");
            }
        }
    }
}

/// Where the scale is not to blame, the first layer is named.
#[test]
fn what_stays_infinite_is_an_error_with_the_layer() {
    let file = gguf::random(&Spec::default(), "f32");
    let mut parts = gguf::Parts::open(&file.path);
    for tensor in &mut parts.tensors {
        if tensor.name == "blk.2.channel_mix_key.weight" {
            let values = vec![1e30; tensor.shape.n_elements()];
            tensor.set(TensorType::F32, &values);
        }
    }
    let file = parts.write();
    let mut embedder = run::embedder(&run::open(&file.path), Pooling::Mean, run::one_thread());
    let message = embedder.embed_ids(&[run::ids(9, 1, 600)]).unwrap_err().to_string();
    assert!(message.ends_with("hidden of layer 2 is NaN or infinite"), "{message}");
}
