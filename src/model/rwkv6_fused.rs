//! A layer of operations of our own, which the CPU runs in place of those of `rwkv6`; see there for
//! the letters.
//!
//! What lies between two products is computed where the second one prepares its activations, so
//! that it is never written to memory. Sums that two operations need are added up in both.

use super::rwkv6::{Builder, Outputs, STATES_PER_LAYER};
use super::weights::{ChannelMix, Index, LayerWeights, Lerps, Norm, TimeMix};
use crate::arch::rwkv6::GROUP_NORM_EPS;
use crate::ggml::{Node, RecurrenceNodes, Rows};

/// Rows of one half of a layer, and what the token shift needs besides them.
#[derive(Clone, Copy)]
struct Shift {
    x: Node,
    states: Node,
    shift: Node,
}

impl Shift {
    /// x + (before - x) * (lerp + mix)
    fn by(self, lerp: Node, mix: Option<Node>) -> Rows<Node> {
        let Self { x, states, shift } = self;
        Rows::Shifted { x, states, shift, lerp, mix }
    }
}

impl Builder<'_> {
    /// x: {C, N} -> {C, N}
    pub(super) fn fused_layer(
        &mut self,
        il: usize,
        weights: &LayerWeights,
        x: Node,
        shift: Node,
    ) -> Outputs {
        let halvings = self.model.hparams().halvings_before(il);
        let halves = self.model.hparams().halvings_before(il + 1) > halvings;
        let a = self.fused_norm(x, None, weights.norm_1, halvings);
        let states = self.g.state(STATES_PER_LAYER * il);
        let y = self.fused_time_mix(il, &weights.time_mix, Shift { x: a, states, shift });
        let f = self.fused_norm(x, Some(y), weights.norm_2, halvings);
        let states = self.g.state(STATES_PER_LAYER * il + 1);
        let (v, gate) = self.fused_channel_mix(&weights.channel_mix, Shift { x: f, states, shift });
        let scale = if halves { 0.5 } else { 1.0 };
        let x = self.g.rows_of(Rows::AddGated { x, y, v, gate, scale });
        Outputs { x, a, f }
    }

    /// norm(x + y) * weight + bias
    pub(super) fn fused_norm(
        &mut self,
        x: Node,
        y: Option<Node>,
        norm: Norm,
        halvings: u32,
    ) -> Node {
        let (weight, bias) = (self.g.weight(norm.weight), self.g.weight(norm.bias));
        self.g.rows_of(Rows::Norm { x, y, weight, bias, eps: self.eps(halvings) })
    }

    fn fused_time_mix(&mut self, il: usize, w: &TimeMix, a: Shift) -> Node {
        let [xw, xk, xv, xr, xg] = self.fused_interpolations(w, a);
        let r = self.fused_product(w.receptance, xr);
        let k = self.fused_product(w.key, xk);
        let v = self.fused_product(w.value, xv);
        let gate = self.fused_product(w.gate, xg);
        let d = self.fused_product(w.decay_w1, xw);
        let n_cols = self.model.hparams().low_rank_decay;
        let d = Rows::Tanh { x: d, width: n_cols, first: 0, n_cols };
        let decay = self.fused_product(w.decay_w2, d);
        let (base, bonus) = (self.g.weight(w.decay), self.g.weight(w.first));
        let state = self.g.state(STATES_PER_LAYER * il + 2);
        let nodes = RecurrenceNodes { k, v, r, decay, base, bonus, state, shift: a.shift };
        let out = self.g.recurrence(nodes);
        let x = self.store_recurrence(out, il);
        let (weight, bias) = (self.g.weight(w.ln.weight), self.g.weight(w.ln.bias));
        let head_size = self.model.hparams().head_size;
        let o = Rows::NormGated { x, head_size, weight, bias, eps: GROUP_NORM_EPS, gate };
        self.fused_product(w.output, o)
    }

    /// xw, xk, xv, xr, xg
    fn fused_interpolations(&mut self, w: &TimeMix, a: Shift) -> [Rows<Node>; 5] {
        let e = self.model.hparams().low_rank_mix;
        let lerp_x = self.g.weight(w.lerp_x);
        let z = self.fused_product(w.w1, a.by(lerp_x, None));
        let w2 = self.g.weight(w.w2);
        std::array::from_fn(|i| {
            let z = Rows::Tanh { x: z, width: 5 * e, first: i * e, n_cols: e };
            let plane = self.g.plane(w2, i);
            let mix = self.g.product_of(plane, z);
            a.by(self.lerp(w.lerps, i), Some(mix))
        })
    }

    /// {C}
    fn lerp(&mut self, lerps: Lerps, i: usize) -> Node {
        match lerps {
            Lerps::Separate(parts) => self.g.weight(parts[i]),
            Lerps::Fused(index) => {
                let fused = self.g.weight(index);
                self.g.rows(fused, i, 1, 1)
            }
        }
    }

    /// W_v relu(W_k xk)^2, and W_r xr, whose sigmoid is its gate.
    fn fused_channel_mix(&mut self, w: &ChannelMix, f: Shift) -> (Node, Node) {
        let (lerp_k, lerp_r) = (self.g.weight(w.lerp_k), self.g.weight(w.lerp_r));
        let x = self.fused_product(w.key, f.by(lerp_k, None));
        let v = self.fused_product(w.value, Rows::SquaredRelu { x });
        (v, self.fused_product(w.receptance, f.by(lerp_r, None)))
    }

    /// W x, for a weight of the layers.
    fn fused_product(&mut self, weight: Index, x: Rows<Node>) -> Node {
        let weight = self.g.weight(weight);
        self.g.product_of(weight, x)
    }
}
