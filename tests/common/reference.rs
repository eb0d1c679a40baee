//! RWKV-6 in plain f64 loops, straight from the checkpoint's tensors: what the graph must equal.
//!
//! It shares nothing with the library: its own reading of safetensors, no rescaling (the stream
//! keeps its true scale), one token after the other. A matrix of shape `[out, in]` is applied by
//! `matvec`, one of shape `[in, out]` (the low-rank factors) by `vecmat`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use safetensors::{Dtype, SafeTensors};

use super::fixture;

/// A tensor in PyTorch's order, slowest dimension first.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// Changes the input of a product in place; called with the name of the matrix and its input.
pub type Disturb = dyn Fn(&str, &mut [f64]);

/// A model, un-rescaled, in f64.
#[derive(Clone)]
pub struct Reference {
    pub n_layer: usize,
    pub n_embd: usize,
    pub n_head: usize,
    pub head_size: usize,
    pub n_vocab: usize,
    /// Of all layer norms.
    pub eps: f64,
    /// Of the group norm after the recurrence.
    pub head_eps: f64,
    /// By Hugging Face name. Public so that a test can nudge one.
    pub tensors: BTreeMap<String, Tensor>,
    /// What happens to the input of every product of a matrix and a vector; normally nothing.
    pub disturb: Option<Rc<Disturb>>,
}

/// The recurrence of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerState {
    /// Input of the time mix at the previous token, `[n_embd]`.
    pub time_shift: Vec<f64>,
    /// `[n_head][head_size keys][head_size values]`, values fastest.
    pub wkv: Vec<f64>,
    /// Input of the channel mix at the previous token, `[n_embd]`.
    pub channel_shift: Vec<f64>,
}

/// What a run puts out.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[n_layer + 1][n_tokens][n_embd]`: after each block, then after the output norm.
    pub hidden: Vec<Vec<Vec<f64>>>,
    /// `[n_tokens][n_vocab]`.
    pub logits: Vec<Vec<f64>>,
}

impl Output {
    /// One pooled vector a layer, the last after the output norm.
    pub fn pooled(&self, pool: Pool) -> Vec<Vec<f64>> {
        self.hidden.iter().map(|layer| pool(layer)).collect()
    }
}

/// Turns `[n_tokens][n_embd]` into `[n_embd]`.
pub type Pool = fn(&[Vec<f64>]) -> Vec<f64>;

/// Mean over tokens, `[n_tokens][n_embd]` to `[n_embd]`.
pub fn mean(tokens: &[Vec<f64>]) -> Vec<f64> {
    let n = tokens.len() as f64;
    (0..tokens[0].len()).map(|c| tokens.iter().map(|x| x[c]).sum::<f64>() / n).collect()
}

/// The last token.
pub fn last(tokens: &[Vec<f64>]) -> Vec<f64> {
    tokens.last().expect("at least one token").clone()
}

/// Maximum over tokens, element by element.
pub fn max(tokens: &[Vec<f64>]) -> Vec<f64> {
    let channel = |c: usize| tokens.iter().map(|x| x[c]).fold(f64::NEG_INFINITY, f64::max);
    (0..tokens[0].len()).map(channel).collect()
}

impl Reference {
    /// Reads `config.json` and every safetensors file of `dir`. Panics on anything unexpected.
    pub fn open(dir: &Path) -> Self {
        let config = fixture::json(&dir.join("config.json"));
        let tensors = read_tensors(dir);
        let faaaa = &tensors["rwkv.blocks.0.attention.time_faaaa"].shape;
        let emb = &tensors["rwkv.embeddings.weight"].shape;
        let eps = config["layer_norm_epsilon"].as_f64().unwrap_or(1e-5);
        let divisor = config["head_size_divisor"].as_f64().unwrap_or(8.0);
        Self {
            n_layer: config["num_hidden_layers"].as_u64().expect("num_hidden_layers") as usize,
            n_embd: emb[1],
            n_head: faaaa[0],
            head_size: faaaa[1],
            n_vocab: emb[0],
            eps,
            // The model code has this 1e-5 whatever layer_norm_epsilon says.
            head_eps: 1e-5 * divisor * divisor,
            tensors,
            disturb: None,
        }
    }

    /// The state before the first token.
    pub fn zero_state(&self) -> Vec<LayerState> {
        let layer = LayerState {
            time_shift: vec![0.0; self.n_embd],
            wkv: vec![0.0; self.n_embd * self.head_size],
            channel_shift: vec![0.0; self.n_embd],
        };
        vec![layer; self.n_layer]
    }

    /// Runs `ids` from the zero state.
    pub fn run(&self, ids: &[u32]) -> Output {
        self.run_from(ids, &mut self.zero_state())
    }

    /// Runs `ids` from `state` and leaves there the state after the last of them.
    pub fn run_from(&self, ids: &[u32], state: &mut [LayerState]) -> Output {
        // x = LN(emb[id]; pre_ln)
        let mut x: Vec<Vec<f64>> = ids
            .iter()
            .map(|&id| {
                self.layer_norm("rwkv.blocks.0.pre_ln", self.row("rwkv.embeddings.weight", id))
            })
            .collect();
        let mut hidden = Vec::new();
        for (il, state) in state.iter_mut().enumerate() {
            for x in &mut x {
                // x = x + time_mix(LN(x; ln1));  x = x + channel_mix(LN(x; ln2))
                let a = self.layer_norm(&format!("rwkv.blocks.{il}.ln1"), x);
                add(x, &self.time_mix(il, &a, state));
                let f = self.layer_norm(&format!("rwkv.blocks.{il}.ln2"), x);
                add(x, &self.channel_mix(il, &f, state));
            }
            hidden.push(x.clone());
        }
        // logits = head LN(x; ln_out)
        let last: Vec<_> = x.iter().map(|x| self.layer_norm("rwkv.ln_out", x)).collect();
        let logits = last.iter().map(|x| self.matvec("head.weight", x)).collect();
        hidden.push(last);
        Output { hidden, logits }
    }

    /// One token through the time mix of layer `il`; `a`: `[n_embd]`, normalized.
    fn time_mix(&self, il: usize, a: &[f64], state: &mut LayerState) -> Vec<f64> {
        let name = |leaf: &str| format!("rwkv.blocks.{il}.attention.{leaf}");
        // sx = a_prev - a
        let sx = subtract(&state.time_shift, a);
        state.time_shift = a.to_vec();

        // xxx = a + sx * maa_x
        let xxx = lerp(a, &sx, self.data(&name("time_maa_x")));
        // z = tanh(xxx W1), five groups of E
        let z = map(self.vecmat(&name("time_maa_w1"), &xxx), f64::tanh);
        // x_c = a + sx * (maa_c + z_c W2_c), c = w, k, v, r, g
        let [xw, xk, xv, xr, xg] = self.mixed_inputs(il, a, &sx, &z);

        // r = W_r x_r, k = W_k x_k, v = W_v x_v, g = silu(W_g x_g)
        let r = self.matvec(&name("receptance.weight"), &xr);
        let k = self.matvec(&name("key.weight"), &xk);
        let v = self.matvec(&name("value.weight"), &xv);
        let g = map(self.matvec(&name("gate.weight"), &xg), |y| y * sigmoid(y));

        // w = exp(-exp(time_decay + tanh(x_w D1) D2))
        let d = map(self.vecmat(&name("time_decay_w1"), &xw), f64::tanh);
        let mut w = self.vecmat(&name("time_decay_w2"), &d);
        add(&mut w, self.data(&name("time_decay")));
        let w = map(w, |y| (-y.exp()).exp());

        let u = self.data(&name("time_faaaa"));
        let y = self.recurrence(&r, &k, &v, &w, u, &mut state.wkv);

        // out = W_o (GroupNorm(y) * g), one group a head
        let mut y = self.group_norm(&name("ln_x"), &y);
        for (y, g) in y.iter_mut().zip(&g) {
            *y *= g;
        }
        self.matvec(&name("output.weight"), &y)
    }

    /// The inputs of decay, key, value, receptance and gate; `z`: `[5 * E]`.
    fn mixed_inputs(&self, il: usize, a: &[f64], sx: &[f64], z: &[f64]) -> [Vec<f64>; 5] {
        let w2 = &self.tensors[&format!("rwkv.blocks.{il}.attention.time_maa_w2")]; // [5, E, C]
        let e = w2.shape[1];
        std::array::from_fn(|c| {
            let letter = ["w", "k", "v", "r", "g"][c];
            let maa = self.data(&format!("rwkv.blocks.{il}.attention.time_maa_{letter}"));
            let slice = &w2.data[c * e * self.n_embd..][..e * self.n_embd];
            let name = format!("rwkv.blocks.{il}.attention.time_maa_w2");
            let mut m = vecmat(slice, &self.input(&name, &z[c * e..][..e]));
            add(&mut m, maa);
            lerp(a, sx, &m)
        })
    }

    /// For each head, with M of `[keys][values]`:
    ///   y_j  = sum_i r_i (u_i k_i v_j + M_ij)
    ///   M_ij = w_i M_ij + k_i v_j
    fn recurrence(
        &self,
        r: &[f64],
        k: &[f64],
        v: &[f64],
        w: &[f64],
        u: &[f64],
        wkv: &mut [f64],
    ) -> Vec<f64> {
        let s = self.head_size;
        let mut y = vec![0.0; self.n_embd];
        for key in 0..self.n_embd {
            let head = key / s * s; // first channel of the head
            for j in 0..s {
                let m = &mut wkv[key * s + j];
                let kv = k[key] * v[head + j];
                y[head + j] += r[key] * (u[key] * kv + *m);
                *m = w[key] * *m + kv;
            }
        }
        y
    }

    /// One token through the channel mix of layer `il`; `f`: `[n_embd]`, normalized.
    fn channel_mix(&self, il: usize, f: &[f64], state: &mut LayerState) -> Vec<f64> {
        let name = |leaf: &str| format!("rwkv.blocks.{il}.feed_forward.{leaf}");
        // sx = f_prev - f
        let sx = subtract(&state.channel_shift, f);
        state.channel_shift = f.to_vec();
        // x_k = f + sx * maa_k, x_r = f + sx * maa_r
        let xk = lerp(f, &sx, self.data(&name("time_maa_k")));
        let xr = lerp(f, &sx, self.data(&name("time_maa_r")));
        // out = sigmoid(W_r x_r) * W_v relu(W_k x_k)^2
        let k = map(self.matvec(&name("key.weight"), &xk), |y| y.max(0.0).powi(2));
        let r = map(self.matvec(&name("receptance.weight"), &xr), sigmoid);
        let v = self.matvec(&name("value.weight"), &k);
        v.iter().zip(&r).map(|(v, r)| v * r).collect()
    }

    /// LN(x; w, b) = (x - mean) / sqrt(var + eps) * w + b
    fn layer_norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        self.scaled(name, normalized(x, self.eps))
    }

    /// The same for each head, with its own eps.
    fn group_norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let heads = x.chunks(self.head_size).flat_map(|head| normalized(head, self.head_eps));
        self.scaled(name, heads.collect())
    }

    fn scaled(&self, name: &str, mut x: Vec<f64>) -> Vec<f64> {
        let weight = self.data(&format!("{name}.weight"));
        let bias = self.data(&format!("{name}.bias"));
        for (c, x) in x.iter_mut().enumerate() {
            *x = *x * weight[c] + bias[c];
        }
        x
    }

    fn data(&self, name: &str) -> &[f64] {
        &self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}")).data
    }

    fn row(&self, name: &str, row: u32) -> &[f64] {
        &self.data(name)[row as usize * self.n_embd..][..self.n_embd]
    }

    /// W x for W of `[out, in]`.
    fn matvec(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let x = self.input(name, x);
        self.data(name).chunks(x.len()).map(|row| dot(row, &x)).collect()
    }

    /// x W for W of `[in, out]`.
    fn vecmat(&self, name: &str, x: &[f64]) -> Vec<f64> {
        vecmat(self.data(name), &self.input(name, x))
    }

    /// What the product with matrix `name` sees of `x`.
    fn input<'a>(&self, name: &str, x: &'a [f64]) -> Cow<'a, [f64]> {
        let mut x = Cow::Borrowed(x);
        if let Some(disturb) = &self.disturb {
            disturb(name, x.to_mut());
        }
        x
    }
}

fn vecmat(w: &[f64], x: &[f64]) -> Vec<f64> {
    let n_out = w.len() / x.len();
    let mut out = vec![0.0; n_out];
    for (row, x) in w.chunks(n_out).zip(x) {
        for (out, w) in out.iter_mut().zip(row) {
            *out += w * x;
        }
    }
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn normalized(x: &[f64], eps: f64) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    x.iter().map(|x| (x - mean) / (variance + eps).sqrt()).collect()
}

fn lerp(x: &[f64], sx: &[f64], weight: &[f64]) -> Vec<f64> {
    x.iter().zip(sx).zip(weight).map(|((x, sx), w)| x + sx * w).collect()
}

fn subtract(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn add(x: &mut [f64], y: &[f64]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

fn map(x: Vec<f64>, f: impl Fn(f64) -> f64) -> Vec<f64> {
    x.into_iter().map(f).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn read_tensors(dir: &Path) -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("a folder entry").path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let bytes = std::fs::read(&path).expect("a readable file");
            let file = SafeTensors::deserialize(&bytes).expect("a valid file");
            for (name, view) in file.tensors() {
                let data = to_f64(view.dtype(), view.data());
                tensors.insert(name, Tensor { shape: view.shape().to_vec(), data });
            }
        }
    }
    tensors
}

fn to_f64(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    fn read<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.chunks_exact(N).map(|b| value(b.try_into().expect("N bytes"))).collect()
    }
    match dtype {
        Dtype::F64 => read(bytes, f64::from_le_bytes),
        Dtype::F32 => read(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F16 => read(bytes, |b| half::f16::from_le_bytes(b).to_f64()),
        Dtype::BF16 => read(bytes, |b| half::bf16::from_le_bytes(b).to_f64()),
        other => panic!("weights of type {other:?}"),
    }
}
