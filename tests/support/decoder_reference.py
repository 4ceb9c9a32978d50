#!/usr/bin/env python3
"""GPT-2, LLaMA and ViT once more, in NumPy and double precision, and GPT-2's tokenizer in Python, for
the C++ ones to be compared with. Written from the formulas, not from our code.

  decoder_reference.py fixture DIR    writes the models and numbers of the unit tests
                                      (fixtures/decoders); the tokenizers' need Debian's python3-regex and
                                      python3-sentencepiece
"""
import json
import sys
from pathlib import Path

import numpy as np

from bert_reference import erf, write_safetensors

WORDS = ["Hello world", "  two  blanks\n\nand lines \n", "it's we'll I'd THEY'RE can't", "caf\u00e9 na\u00efve \u00dcber",
         "12 345,67 1/2 \u00bd \u0663\u0664", "\u4f60\u597d\u4e16\u754c", "tabs\tand\u00a0no-break\u2003em ", "\U0001f600\U0001f44d mixed!?...",
         "<|endoftext|>after<|endoftext|>", "''s 's s' ' s", "x" * 40 + " " + "ab" * 30, "\u0001\u007f\u0085\u200b", "",
         " ", "a", "\n", " a", "a ", "don't  stop", "e\u0301 \u1100\u1161", "\u2028line\u2029par\u1680ogham\u180e"]
TEXT = ("the cat sat on the mat and the dog sat on the cat's mat; they're happy, aren't they? "
        "Hello world, hello there! 12 or 345 or 67. caf\u00e9 na\u00efve ") * 4


def uniform(rng, shape, scale):
    return rng.uniform(-scale, scale, shape).astype(np.float32)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, w, b, eps):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * w + b


def heads_of(x, count):
    return x.reshape(*x.shape[:2], count, -1).transpose(0, 2, 1, 3)


def attend(q, k, v, causal, mask=None):
    """(batch, heads, length, width) each."""
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
    n = scores.shape[-1]
    if causal:
        scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
    if mask is not None:
        scores = np.where(mask[:, None, None, :] != 0, scores, -np.inf)
    out = softmax(scores) @ v
    return out.transpose(0, 2, 1, 3).reshape(q.shape[0], n, -1)


# ---------------------------------------------------------------- GPT-2

def gpt2_weights(rng, c):
    d, f = c["n_embd"], c["n_inner"]
    w = {"wte.weight": uniform(rng, (c["vocab_size"], d), .8), "wpe.weight": uniform(rng, (c["n_positions"], d), .4)}
    for i in range(c["n_layer"]):
        p = f"h.{i}."
        for norm in ("ln_1", "ln_2"):
            w[p + norm + ".weight"] = 1 + uniform(rng, d, .3)
            w[p + norm + ".bias"] = uniform(rng, d, .2)
        for name, shape in (("attn.c_attn", (d, 3 * d)), ("attn.c_proj", (d, d)), ("mlp.c_fc", (d, f)),
                            ("mlp.c_proj", (f, d))):
            w[p + name + ".weight"] = uniform(rng, shape, .3)
            w[p + name + ".bias"] = uniform(rng, shape[1], .2)
    w["ln_f.weight"] = 1 + uniform(rng, d, .3)
    w["ln_f.bias"] = uniform(rng, d, .2)
    return w


def gpt2(w, c, ids, mask=None):
    eps, heads = c["layer_norm_epsilon"], c["n_head"]
    x = w["wte.weight"][ids] + w["wpe.weight"][:ids.shape[1]]
    for i in range(c["n_layer"]):
        p = f"h.{i}."
        n = layer_norm(x, w[p + "ln_1.weight"], w[p + "ln_1.bias"], eps)
        q, k, v = np.split(n @ w[p + "attn.c_attn.weight"] + w[p + "attn.c_attn.bias"], 3, -1)
        a = attend(heads_of(q, heads), heads_of(k, heads), heads_of(v, heads), True, mask)
        x = x + a @ w[p + "attn.c_proj.weight"] + w[p + "attn.c_proj.bias"]
        n = layer_norm(x, w[p + "ln_2.weight"], w[p + "ln_2.bias"], eps)
        u = n @ w[p + "mlp.c_fc.weight"] + w[p + "mlp.c_fc.bias"]
        u = .5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + .044715 * u ** 3)))
        x = x + u @ w[p + "mlp.c_proj.weight"] + w[p + "mlp.c_proj.bias"]
    return layer_norm(x, w["ln_f.weight"], w["ln_f.bias"], eps)


# ---------------------------------------------------------------- LLaMA

def llama_weights(rng, c):
    d, f, width = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * width, c["num_key_value_heads"] * width
    w = {"embed_tokens.weight": uniform(rng, (c["vocab_size"], d), .8)}
    for i in range(c["num_hidden_layers"]):
        p = f"layers.{i}."
        for name, shape, bias in (("self_attn.q_proj", (q, d), c["attention_bias"]),
                                  ("self_attn.k_proj", (kv, d), c["attention_bias"]),
                                  ("self_attn.v_proj", (kv, d), c["attention_bias"]),
                                  ("self_attn.o_proj", (d, q), c["attention_bias"]),
                                  ("mlp.gate_proj", (f, d), c["mlp_bias"]),
                                  ("mlp.up_proj", (f, d), c["mlp_bias"]),
                                  ("mlp.down_proj", (d, f), c["mlp_bias"])):
            w[p + name + ".weight"] = uniform(rng, shape, .4)
            if bias:
                w[p + name + ".bias"] = uniform(rng, shape[0], .2)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            w[p + norm + ".weight"] = 1 + uniform(rng, d, .3)
    w["norm.weight"] = 1 + uniform(rng, d, .3)
    return w


def llama(w, c, ids, mask=None):
    eps, heads, kv = c["rms_norm_eps"], c["num_attention_heads"], c["num_key_value_heads"]
    half = c["head_dim"] // 2

    def norm(x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight

    def linear(x, name):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    def rotate(x):
        p = np.arange(x.shape[2])[:, None]
        angle = p * c["rope_theta"] ** (-2 * np.arange(half) / c["head_dim"])
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)

    x = w["embed_tokens.weight"][ids]
    for i in range(c["num_hidden_layers"]):
        p = f"layers.{i}."
        n = norm(x, w[p + "input_layernorm.weight"])
        q = rotate(heads_of(linear(n, p + "self_attn.q_proj"), heads))
        k = rotate(heads_of(linear(n, p + "self_attn.k_proj"), kv)).repeat(heads // kv, 1)
        v = heads_of(linear(n, p + "self_attn.v_proj"), kv).repeat(heads // kv, 1)
        x = x + linear(attend(q, k, v, True, mask), p + "self_attn.o_proj")
        n = norm(x, w[p + "post_attention_layernorm.weight"])
        g = linear(n, p + "mlp.gate_proj")
        x = x + linear(g / (1 + np.exp(-g)) * linear(n, p + "mlp.up_proj"), p + "mlp.down_proj")
    return norm(x, w["norm.weight"])


# ---------------------------------------------------------------- ViT

def vit_weights(rng, c):
    d, f, p = c["hidden_size"], c["intermediate_size"], c["patch_size"]
    patches = (c["image_size"] // p) ** 2
    w = {"vit.embeddings.cls_token": uniform(rng, (1, 1, d), .5),
         "vit.embeddings.position_embeddings": uniform(rng, (1, patches + 1, d), .5),
         "vit.embeddings.patch_embeddings.projection.weight": uniform(rng, (d, c["num_channels"], p, p), .3),
         "vit.embeddings.patch_embeddings.projection.bias": uniform(rng, d, .2)}
    for i in range(c["num_hidden_layers"]):
        q = f"vit.encoder.layer.{i}."
        for name, shape in (("attention.attention.query", (d, d)), ("attention.attention.key", (d, d)),
                            ("attention.attention.value", (d, d)), ("attention.output.dense", (d, d)),
                            ("intermediate.dense", (f, d)), ("output.dense", (d, f))):
            w[q + name + ".weight"] = uniform(rng, shape, .3)
            w[q + name + ".bias"] = uniform(rng, shape[0], .2)
        for norm in ("layernorm_before", "layernorm_after"):
            w[q + norm + ".weight"] = 1 + uniform(rng, d, .3)
            w[q + norm + ".bias"] = uniform(rng, d, .2)
    w["vit.layernorm.weight"] = 1 + uniform(rng, d, .3)
    w["vit.layernorm.bias"] = uniform(rng, d, .2)
    w["classifier.weight"] = uniform(rng, (len(c["id2label"]), d), .5)
    w["classifier.bias"] = uniform(rng, len(c["id2label"]), .2)
    return w


def vit(w, c, pixels):
    p, eps, heads = c["patch_size"], c["layer_norm_eps"], c["num_attention_heads"]
    kernel = w["vit.embeddings.patch_embeddings.projection.weight"]
    rows = []
    for y in range(0, c["image_size"], p):
        for x in range(0, c["image_size"], p):
            rows.append(np.einsum("bcij,dcij->bd", pixels[:, :, y:y + p, x:x + p], kernel))
    x = np.stack(rows, 1) + w["vit.embeddings.patch_embeddings.projection.bias"]
    cls = np.broadcast_to(w["vit.embeddings.cls_token"], (x.shape[0], 1, x.shape[2]))
    x = np.concatenate([cls, x], 1) + w["vit.embeddings.position_embeddings"]
    for i in range(c["num_hidden_layers"]):
        q = f"vit.encoder.layer.{i}."

        def linear(x, name):
            return x @ w[q + name + ".weight"].T + w[q + name + ".bias"]
        n = layer_norm(x, w[q + "layernorm_before.weight"], w[q + "layernorm_before.bias"], eps)
        parts = [heads_of(linear(n, "attention.attention." + s), heads) for s in ("query", "key", "value")]
        x = x + linear(attend(*parts, False), "attention.output.dense")
        n = layer_norm(x, w[q + "layernorm_after.weight"], w[q + "layernorm_after.bias"], eps)
        u = linear(n, "intermediate.dense")
        x = x + linear(.5 * u * (1 + erf(u / np.sqrt(2))), "output.dense")
    x = layer_norm(x, w["vit.layernorm.weight"], w["vit.layernorm.bias"], eps)
    return x, x[:, 0] @ w["classifier.weight"].T + w["classifier.bias"]


# ---------------------------------------------------------------- byte-level BPE

def byte_characters():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for b in range(256):
        table[b] = chr(b) if b in kept else chr(256 + extra)
        extra += b not in kept
    return table


BYTES = byte_characters()


def words_of(text):
    import regex
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return ["".join(BYTES[b] for b in word.encode()) for word in regex.findall(pattern, text)]


def merged(parts, pair):
    out, i = [], 0
    while i < len(parts):
        if tuple(parts[i:i + 2]) == pair:
            out.append(parts[i] + parts[i + 1])
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return out


def train(text, count):
    words = [list(word) for word in words_of(text)]
    merges = []
    while len(merges) < count:
        pairs = {}
        for word in words:
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        if not pairs:
            break
        best = max(sorted(pairs), key=lambda p: pairs[p])
        merges.append(best)
        words = [merged(word, best) for word in words]
    return merges


def bpe_ids(text, vocabulary, ranks):
    ids = []
    for i, part in enumerate(text.split("<|endoftext|>")):
        if i > 0:
            ids.append(vocabulary["<|endoftext|>"])
        for word in words_of(part):
            parts = list(word)
            while len(parts) > 1:
                best = min(zip(parts, parts[1:]), key=lambda p: ranks.get(p, 1 << 40))
                if best not in ranks:
                    break
                parts = merged(parts, best)
            ids += [vocabulary[p] for p in parts]
    return ids


# ---------------------------------------------------------------- fixtures

def write_model(folder, config, weights, expected):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_safetensors(folder / "model.safetensors", {n: ("F32", a) for n, a in weights.items()})
    write_safetensors(folder / "expected.safetensors",
                      {n: ("I64" if a.dtype.kind == "i" else "U8" if a.dtype == np.uint8 else "F64", a)
                       for n, a in expected.items()})


def text_case(rng, vocab, double, forward, config, head, score):
    ids = rng.integers(0, vocab, (2, 9))
    mask = np.ones((2, 9), np.uint8)
    mask[1, 6:] = 0
    h = forward(double, config, ids)
    padded = forward(double, config, ids, mask)
    last = padded[np.arange(2), mask.sum(1) - 1]
    return {"ids": ids, "mask": mask, "hidden": h, "scores": h @ head.T, "labels": last @ score.T}


def fixtures(target):
    rng = np.random.default_rng(7)
    for name, prefix in (("gpt2_prefixed", "transformer."), ("gpt2_bare", "")):
        c = {"model_type": "gpt2", "vocab_size": 40, "n_positions": 12, "n_embd": 24, "n_layer": 2, "n_head": 3,
             "n_inner": 40, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "num_labels": 3}
        if not prefix:
            c["n_inner"] = 96
        w = gpt2_weights(rng, c)
        if not prefix:
            del c["n_inner"]  # four times the width
        score = uniform(rng, (3, 24), .5)
        double = {n: a.astype(np.float64) for n, a in w.items()}
        expected = text_case(rng, 40, double, gpt2, c, double["wte.weight"], score.astype(np.float64))
        stored = {prefix + n: a for n, a in w.items()}
        if prefix:
            stored["score.weight"] = score
            stored["lm_head.weight"] = w["wte.weight"]
        else:
            for i in range(2):  # the masks of the original files
                stored[f"h.{i}.attn.bias"] = np.tril(np.ones((1, 1, 12, 12), np.float32))
            del expected["labels"]
        write_model(target / name, c, stored, expected)
    for name, kv, tied, bias in (("llama_shared", 2, True, False), ("llama_own_head", 4, False, True)):
        c = {"model_type": "llama", "vocab_size": 40, "hidden_size": 24, "intermediate_size": 44,
             "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": kv, "head_dim": 8,
             "hidden_act": "silu", "max_position_embeddings": 12, "rms_norm_eps": 1e-5, "rope_theta": 500.0,
             "attention_bias": bias, "mlp_bias": bias, "tie_word_embeddings": tied, "num_labels": 3}
        w = llama_weights(rng, c)
        head = w["embed_tokens.weight"] if tied else uniform(rng, (40, 24), .5)
        score = uniform(rng, (3, 24), .5)
        double = {n: a.astype(np.float64) for n, a in w.items()}
        expected = text_case(rng, 40, double, llama, c, head.astype(np.float64), score.astype(np.float64))
        stored = {"model." + n: a for n, a in w.items()} | {"score.weight": score}
        if not tied:
            stored["lm_head.weight"] = head
            stored["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
        write_model(target / name, c, stored, expected)
    c = {"model_type": "vit", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 40, "hidden_act": "gelu", "image_size": 12, "patch_size": 4, "num_channels": 2,
         "layer_norm_eps": 1e-12, "qkv_bias": True, "id2label": {"0": "a", "1": "b", "2": "c"},
         "label2id": {"a": 0, "b": 1, "c": 2}}
    w = vit_weights(rng, c)
    pixels = rng.uniform(-1, 1, (3, 2, 12, 12))
    hidden, logits = vit({n: a.astype(np.float64) for n, a in w.items()}, c, pixels)
    write_model(target / "vit", c, w, {"pixels": pixels, "hidden": hidden, "logits": logits})

    merges = train(TEXT, 120)
    vocabulary = {BYTES[b]: i for i, b in enumerate(sorted(BYTES, key=lambda b: (len(BYTES[b]), BYTES[b])))}
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    vocabulary["<|endoftext|>"] = len(vocabulary)
    folder = target / "bpe"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    ranks = {pair: i for i, pair in enumerate(merges)}
    cases = [{"text": t, "ids": bpe_ids(t, vocabulary, ranks)} for t in WORDS + [TEXT]]
    (folder / "cases.json").write_text(json.dumps(cases, indent=0) + "\n")


def sentencepiece(folder):
    """A model of Google's trainer and the ids of its Python binding (Debian's python3-sentencepiece)."""
    import sentencepiece as spm
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus.txt"
    corpus.write_text((TEXT + "\n") * 4)
    spm.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(folder / "tokenizer"), vocab_size=340,
                                   model_type="bpe", byte_fallback=True, hard_vocab_limit=False,
                                   normalization_rule_name="identity", remove_extra_whitespaces=False)
    corpus.unlink()
    (folder / "tokenizer.vocab").unlink()
    model = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    cases = [{"text": t, "ids": model.encode(t)} for t in WORDS if "\u0001" not in t]
    (folder / "cases.json").write_text(json.dumps(cases, indent=0) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "fixture":
        sys.exit(__doc__)
    fixtures(Path(sys.argv[2]))
    sentencepiece(Path(sys.argv[2]) / "sentencepiece")
