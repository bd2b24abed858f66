//! A forward pass in f64 that shares no code with the product: one token after another, plain loops.

use super::synthetic::{EPS, Model, THETA};

fn vector(model: &Model, name: &str) -> Vec<f64> {
    model
        .tensor(name)
        .unwrap()
        .values
        .iter()
        .map(|v| f64::from(*v))
        .collect()
}

fn product(model: &Model, name: &str, x: &[f64]) -> Vec<f64> {
    let weights = vector(model, &format!("{name}.weight"));
    let mut out: Vec<f64> = weights
        .chunks_exact(x.len())
        .map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
        .collect();
    if let Some(bias) = model.tensor(&format!("{name}.bias")) {
        out.iter_mut()
            .zip(&bias.values)
            .for_each(|(out, bias)| *out += f64::from(*bias));
    }
    out
}

fn norm(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter()
        .zip(weight)
        .map(|(x, w)| x / (mean + f64::from(EPS)).sqrt() * w)
        .collect()
}

/// The heads of `x`, normed where the model norms them and rotated for `position`.
fn rotated(model: &Model, norm_name: &str, x: &[f64], position: usize) -> Vec<Vec<f64>> {
    let half = model.head_dim / 2;
    x.chunks_exact(model.head_dim)
        .map(|head| {
            let head = match model.tensor(norm_name) {
                Some(_) => norm(head, &vector(model, norm_name)),
                None => head.to_vec(),
            };
            let mut out = head.clone();
            for i in 0..half {
                let frequency = f64::from(THETA).powf(-2.0 * i as f64 / model.head_dim as f64);
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                out[i] = head[i] * cosine - head[i + half] * sine;
                out[i + half] = head[i] * sine + head[i + half] * cosine;
            }
            out
        })
        .collect()
}

/// What each query head reads of the positions so far; keys are `[position][head]`.
fn attend(
    model: &Model,
    queries: &[Vec<f64>],
    keys: &[Vec<Vec<f64>>],
    values: &[Vec<f64>],
) -> Vec<f64> {
    let mut attended = Vec::new();
    for (head_idx, query) in queries.iter().enumerate() {
        let kv_head = head_idx / (model.n_heads / model.n_kv_heads);
        let score = |keys: &Vec<Vec<f64>>| -> f64 {
            let dot: f64 = query.iter().zip(&keys[kv_head]).map(|(q, k)| q * k).sum();
            (dot / (model.head_dim as f64).sqrt()).exp()
        };
        let scores: Vec<f64> = keys.iter().map(score).collect();
        let total: f64 = scores.iter().sum();
        attended.extend((0..model.head_dim).map(|i| {
            let at = kv_head * model.head_dim + i;
            scores
                .iter()
                .zip(values)
                .map(|(s, v)| s / total * v[at])
                .sum::<f64>()
        }));
    }
    attended
}

/// The logits of every position.
pub(super) fn logits(model: &Model, tokens: &[u32]) -> Vec<Vec<f64>> {
    let embedding = vector(model, "model.embed_tokens.weight");
    let mut stream: Vec<Vec<f64>> = tokens
        .iter()
        .map(|token| embedding[*token as usize * model.hidden..][..model.hidden].to_vec())
        .collect();
    for layer_idx in 0..model.n_layers {
        let name = |name: &str| format!("model.layers.{layer_idx}.{name}");
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (position, x) in stream.iter_mut().enumerate() {
            let normed = norm(x, &vector(model, &name("input_layernorm.weight")));
            let project =
                |which: &str| product(model, &name(&format!("self_attn.{which}_proj")), &normed);
            let queries = rotated(
                model,
                &name("self_attn.q_norm.weight"),
                &project("q"),
                position,
            );
            keys.push(rotated(
                model,
                &name("self_attn.k_norm.weight"),
                &project("k"),
                position,
            ));
            values.push(project("v"));
            let attended = attend(model, &queries, &keys, &values);
            let delta = product(model, &name("self_attn.o_proj"), &attended);
            x.iter_mut().zip(delta).for_each(|(x, delta)| *x += delta);
            let normed = norm(x, &vector(model, &name("post_attention_layernorm.weight")));
            let gate = product(model, &name("mlp.gate_proj"), &normed);
            let up = product(model, &name("mlp.up_proj"), &normed);
            let activated: Vec<f64> = gate
                .iter()
                .zip(&up)
                .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                .collect();
            let delta = product(model, &name("mlp.down_proj"), &activated);
            x.iter_mut().zip(delta).for_each(|(x, delta)| *x += delta);
        }
    }
    let head = match model.tensor("lm_head.weight") {
        Some(_) => "lm_head",
        None => "model.embed_tokens",
    };
    let weight = vector(model, "model.norm.weight");
    stream
        .iter()
        .map(|x| product(model, head, &norm(x, &weight)))
        .collect()
}
