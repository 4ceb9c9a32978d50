#!/usr/bin/env python3
"""BERT's forward pass once more, in NumPy and double precision, for the C++ one to be compared with.
Written from the formulas (post-norm encoder, exact GELU, additive mask), not from our code.

  bert_reference.py fixture DIR       writes the models and numbers of the unit tests (fixtures/bert)
  bert_reference.py compare PROGRAM   texts through PROGRAM predict on the shipped model with a
                                      random head, tokenizer included

`compare` exits 77 (skipped) where NumPy is missing.
"""
import json
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("skipped: NumPy is not installed")
    sys.exit(77)

import tokenizer_reference as tokenizer

SHIPPED = Path(__file__).parents[2] / "experiments" / "models" / "tiny-en"
erf = np.vectorize(math.erf, otypes=[np.float64])


# ---------------------------------------------------------------- safetensors

def to_bfloat(x):
    """The upper halves of floats, rounded to nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


READERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "U8": "u1"}


def write_safetensors(path, tensors):
    """`tensors`: name to (dtype, array); BF16 and F16 are rounded here."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name in sorted(tensors):
        dtype, array = tensors[name]
        array = np.asarray(array)
        stored = to_bfloat(array) if dtype == "BF16" else array.astype(READERS[dtype])
        raw = stored.tobytes(order="C")
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    """Name to a double array, or an integer one."""
    raw = Path(path).read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        array = np.frombuffer(raw[start + first:start + last], READERS[entry["dtype"]])
        if entry["dtype"] == "BF16":
            array = from_bfloat(array)
        if array.dtype.kind == "f":
            array = array.astype(np.float64)
        out[name] = array.reshape(entry["shape"])
    return out


# ------------------------------------------------------------------- the model

def gelu(x):
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def gelu_new(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_new, "relu": lambda x: np.maximum(x, 0.0)}


class Model:
    """The weights of a checkpoint under canonical names: no "bert." and no old names."""

    def __init__(self, config, tensors):
        self.config = config
        self.tensors = {}
        for name, value in tensors.items():
            name = name[5:] if name.startswith("bert.") else name
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
            self.tensors[name.replace("LayerNorm.beta", "LayerNorm.bias")] = value
        self.activation = ACTIVATIONS[config["hidden_act"]]

    def linear(self, x, name):
        return x @ self.tensors[name + ".weight"].T + self.tensors[name + ".bias"]

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        scaled = centred / np.sqrt(variance + self.config["layer_norm_eps"])
        return scaled * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]

    def attention(self, x, mask, name):
        batch, length, width = x.shape
        heads = self.config["num_attention_heads"]

        def split(part):
            y = self.linear(x, f"{name}.self.{part}")
            return y.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)

        scores = split("query") @ split("key").transpose(0, 1, 3, 2)
        scores = scores / math.sqrt(width // heads)
        scores = scores + ((1.0 - mask) * np.finfo(np.float64).min)[:, None, None, :]
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = weights / weights.sum(-1, keepdims=True)
        return (weights @ split("value")).transpose(0, 2, 1, 3).reshape(x.shape)

    def hidden(self, ids, types, mask):
        t = self.tensors
        x = (t["embeddings.word_embeddings.weight"][ids]
             + t["embeddings.token_type_embeddings.weight"][types]
             + t["embeddings.position_embeddings.weight"][:ids.shape[1]])
        x = self.norm(x, "embeddings.LayerNorm")
        for i in range(self.config["num_hidden_layers"]):
            layer = f"encoder.layer.{i}"
            a = self.attention(x, mask, layer + ".attention")
            h = self.norm(x + self.linear(a, layer + ".attention.output.dense"),
                          layer + ".attention.output.LayerNorm")
            wide = self.activation(self.linear(h, layer + ".intermediate.dense"))
            x = self.norm(h + self.linear(wide, layer + ".output.dense"),
                          layer + ".output.LayerNorm")
        return x

    def logits(self, ids, types, mask):
        first = self.hidden(ids, types, mask)[:, 0]
        return self.linear(np.tanh(self.linear(first, "pooler.dense")), "classifier")

    def masked_logits(self, ids, types, mask, places):
        x = self.hidden(ids, types, mask)
        rows = x.reshape(-1, x.shape[-1])[places]
        y = self.norm(self.activation(self.linear(rows, "cls.predictions.transform.dense")),
                      "cls.predictions.transform.LayerNorm")
        return (y @ self.tensors["embeddings.word_embeddings.weight"].T
                + self.tensors["cls.predictions.bias"])


# ------------------------------------------------------------------- fixtures

# Widths that are no multiple of a vector's, odd numbers of heads, each type, each kind of name.
CASES = {
    "prefixed": dict(hidden=24, heads=3, layers=2, wide=40, labels=3, dtype="F32", prefix=True),
    "bare_old_names": dict(hidden=20, heads=5, layers=3, wide=28, labels=2, dtype="F16",
                           prefix=False, old=True, eps=1e-5),
    "regression": dict(hidden=33, heads=1, layers=1, wide=17, labels=1, dtype="BF16", prefix=True),
    "three_types": dict(hidden=42, heads=7, layers=2, wide=90, labels=5, dtype="F32", prefix=False,
                        types=3, eps=1e-7, act="gelu_new"),
    "rectified": dict(hidden=12, heads=3, layers=2, wide=24, labels=2, dtype="F32", prefix=True,
                      act="relu"),
    "masked_lm": dict(hidden=24, heads=3, layers=2, wide=36, labels=2, dtype="F32", prefix=True,
                      old=True, head="cls"),
    "masked_lm_half": dict(hidden=30, heads=2, layers=1, wide=61, labels=2, dtype="BF16",
                           prefix=True, head="cls"),
}
VOCABULARY, POSITIONS = 48, 14


def random_weights(rng, c):
    h, wide = c["hidden"], c["wide"]
    t = {}

    def linear(name, out, inner, gain=1.0):
        t[name + ".weight"] = rng.standard_normal((out, inner)) * gain / math.sqrt(inner)
        t[name + ".bias"] = 0.2 * rng.standard_normal(out)

    def norm(name):
        weight, bias = ("gamma", "beta") if c.get("old") else ("weight", "bias")
        t[f"{name}.{weight}"] = 1.0 + 0.3 * rng.standard_normal(h)
        t[f"{name}.{bias}"] = 0.2 * rng.standard_normal(h)

    t["embeddings.word_embeddings.weight"] = rng.standard_normal((VOCABULARY, h))
    t["embeddings.position_embeddings.weight"] = 0.5 * rng.standard_normal((POSITIONS, h))
    t["embeddings.token_type_embeddings.weight"] = 0.5 * rng.standard_normal((c.get("types", 2), h))
    norm("embeddings.LayerNorm")
    for i in range(c["layers"]):
        layer = f"encoder.layer.{i}"
        linear(layer + ".attention.self.query", h, h, 1.5)
        linear(layer + ".attention.self.key", h, h, 1.5)
        linear(layer + ".attention.self.value", h, h)
        linear(layer + ".attention.output.dense", h, h)
        norm(layer + ".attention.output.LayerNorm")
        linear(layer + ".intermediate.dense", wide, h)
        linear(layer + ".output.dense", h, wide)
        norm(layer + ".output.LayerNorm")
    linear("pooler.dense", h, h)
    if c["prefix"]:
        t = {"bert." + name: value for name, value in t.items()}
    if c.get("head") == "cls":
        linear("cls.predictions.transform.dense", h, h)
        norm("cls.predictions.transform.LayerNorm")
        t["cls.predictions.bias"] = 0.2 * rng.standard_normal(VOCABULARY)
        # What a pretraining checkpoint also has: the tied decoder and the other head.
        t["cls.predictions.decoder.weight"] = t["bert.embeddings.word_embeddings.weight"] / 1.0
        linear("cls.seq_relationship", 2, h)
        # Scores of unit scale.
        t["bert.embeddings.word_embeddings.weight"] /= math.sqrt(h)
        t["cls.predictions.decoder.weight"] /= math.sqrt(h)
    else:
        linear("classifier", c["labels"], h, 1.5)
    return t


def config_of(c):
    return {"architectures": ["BertModel"], "model_type": "bert", "vocab_size": VOCABULARY,
            "hidden_size": c["hidden"], "num_hidden_layers": c["layers"],
            "num_attention_heads": c["heads"], "intermediate_size": c["wide"],
            "hidden_act": c.get("act", "gelu"), "max_position_embeddings": POSITIONS,
            "type_vocab_size": c.get("types", 2), "layer_norm_eps": c.get("eps", 1e-12),
            "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "pad_token_id": 0,
            "initializer_range": 0.02, "transformers_version": "4.0.0",
            "id2label": {str(i): f"LABEL_{i}" for i in range(c["labels"])}}


def random_batch(rng, lengths, types, width, holes):
    """Padded at the end, the types ascending; with `holes` some tokens inside do not count."""
    ids = np.zeros((len(lengths), width), np.int64)
    kinds, mask = np.zeros_like(ids), np.zeros_like(ids)
    for i, n in enumerate(lengths):
        ids[i, :n] = rng.integers(1, VOCABULARY, n)
        kinds[i, :n] = np.sort(rng.integers(0, types, n))
        mask[i, :n] = 1
        if holes and n > 4:
            mask[i, rng.choice(np.arange(1, n - 1), 2, replace=False)] = 0
    return ids, kinds, mask


def write_fixtures(folder):
    for number, (name, c) in enumerate(CASES.items()):
        rng = np.random.default_rng(100 + number)
        weights = {key: (c["dtype"], value) for key, value in random_weights(rng, c).items()}
        if name == "prefixed":  # a buffer that old versions saved
            weights["bert.embeddings.position_ids"] = ("I64", np.arange(POSITIONS)[None])
        case = Path(folder, name)
        case.mkdir(parents=True, exist_ok=True)
        write_safetensors(case / "model.safetensors", weights)
        config = config_of(c)
        (case / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        model = Model(config, read_safetensors(case / "model.safetensors"))
        types = c.get("types", 2)
        batches = {"one_text": random_batch(rng, [9, 9, 9], 1, 9, False),
                   "padded": random_batch(rng, [11, 1, 6, 3, 8], types, 11, False),
                   "holes": random_batch(rng, [12, 5, 14, 7], types, POSITIONS, True)}
        expected = {}
        for batch, (ids, kinds, mask) in batches.items():
            expected[batch + ".ids"] = ("I64", ids)
            expected[batch + ".types"] = ("I64", kinds)
            expected[batch + ".mask"] = ("U8", mask)
            expected[batch + ".hidden"] = ("F64", model.hidden(ids, kinds, mask))
            if c.get("head") == "cls":
                places = np.flatnonzero(mask)[::3]
                expected[batch + ".places"] = ("I64", places)
                expected[batch + ".logits"] = ("F64", model.masked_logits(ids, kinds, mask, places))
            else:
                expected[batch + ".logits"] = ("F64", model.logits(ids, kinds, mask))
            logits = expected[batch + ".logits"][1]
            print(f"{name}, {batch}: logits {logits.shape}, rms {np.sqrt((logits**2).mean()):.2f}")
        write_safetensors(case / "expected.safetensors", expected)

    # Rounding to the narrow types: ties, subnormals, the largest, beyond it, and random bits.
    rng = np.random.default_rng(7)
    edges = [0.0, -0.0, 1.0, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 65504.0,
             65519.996, 65520.0, 1e5, -1e5, 2.0**-14, 2.0**-24, 2.0**-25, 1.5 * 2.0**-24,
             2.0**-14 * (1 - 2.0**-12), 2.0**-126, 2.0**-149, 3.4028235e38, 3.3961775e38,
             math.inf, -math.inf]
    spread = rng.standard_normal(400) * 10.0**rng.uniform(-9, 6, 400)
    x = np.concatenate([edges, spread]).astype(np.float32)
    with np.errstate(over="ignore"):
        half = x.astype(np.float16).astype(np.float32)
    write_safetensors(Path(folder, "narrow.safetensors"), {
        "x": ("F32", x), "f16": ("F32", half), "bf16": ("F32", from_bfloat(to_bfloat(x)))})


# ------------------------------------------------------------------ comparison

TEXTS = """the old man is fixing the car in the garden|a guy repairs an automobile
a dog runs|the dog is running
|
|an empty first text
Hello, WORLD! (1984)|caf\u00e9 na\u00efve \u4e2d\u6587 \U0001f600
"quoted" 'text'|back\\slash & <tag>
x|y
a|a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a
unbelievably antidisestablishmentarianism|floccinaucinihilipilification
the [MASK] of the [SEP] thing|[CLS] [PAD] [UNK]
\u0391\u03a3 \u0130stanbul \u00df|e\u0301 o\u0308""".split("\n")


def encode(first, second, vocabulary, longest):
    a, b = tokenizer.ids(first, "uncased", vocabulary), None
    if second is not None:
        b = tokenizer.ids(second, "uncased", vocabulary)
    while len(a) + len(b or []) + (2 if b is None else 3) > longest:
        if b is None or len(a) > len(b):
            a.pop()
        else:
            b.pop()
    ids = [vocabulary["[CLS]"]] + a + [vocabulary["[SEP]"]]
    types = [0] * len(ids)
    if b is not None:
        ids += b + [vocabulary["[SEP]"]]
        types += [1] * (len(b) + 1)
    return ids, types


def differences(program, folder, name, lines):
    """The largest difference of a logit over the lines, each alone here and all together there."""
    config = json.loads(Path(folder, "config.json").read_text())
    model = Model(config, read_safetensors(Path(folder, "model.safetensors")))
    tokens = Path(folder, "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    vocabulary = {t: i for i, t in enumerate(tokens)}
    done = subprocess.run([program, "predict", "--model", folder],
                          input="".join(line + "\n" for line in lines).encode(),
                          capture_output=True)
    if done.returncode != 0:
        sys.exit(f"predict exits {done.returncode}: {done.stderr.decode()}")
    found = [[float(x) for x in row.split("\t")] for row in done.stdout.decode().splitlines()]
    if len(found) != len(lines):
        sys.exit(f"{len(lines)} lines in, {len(found)} out")
    worst, square = 0.0, []
    for line, ours in zip(lines, found):
        texts = line.split("\t")
        ids, types = encode(texts[0], texts[1] if len(texts) > 1 else None, vocabulary,
                            config["max_position_embeddings"])
        ids, types = np.array([ids]), np.array([types])
        theirs = model.logits(ids, types, np.ones(ids.shape))[0]
        square += list(theirs**2)
        worst = max(worst, np.abs(theirs - ours).max())
    print(f"{name}: {len(lines)} lines, logits of rms {math.sqrt(np.mean(square)):.2f}, "
          f"largest difference {worst:.1e}")
    return worst


def compare(program):
    shipped = read_safetensors(SHIPPED / "model.safetensors")
    config = json.loads((SHIPPED / "config.json").read_text())
    rng = np.random.default_rng(5)
    h = config["hidden_size"]
    body = {name: value for name, value in shipped.items() if name.startswith("bert.")}
    head = {"pooler.dense.weight": rng.standard_normal((h, h)) / math.sqrt(h),
            "pooler.dense.bias": 0.1 * rng.standard_normal(h)}
    classifier = {"classifier.weight": 2 * rng.standard_normal((3, h)) / math.sqrt(h),
                  "classifier.bias": 0.1 * rng.standard_normal(3)}
    config.pop("label2id")
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(3)}
    long = "the quick brown fox jumps over the lazy dog and " * 80
    pairs = [line.replace("|", "\t") for line in TEXTS] + [f"{long}\tshort", f"short\t{long}",
                                                           f"{long}\t{long}"]
    singles = [text for line in TEXTS for text in line.split("|")] + [long]
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for file in ("vocab.txt", "tokenizer_config.json"):
            Path(folder, file).write_bytes((SHIPPED / file).read_bytes())
        Path(folder, "config.json").write_text(json.dumps(config))
        for dtype, prefix in (("F32", "bert."), ("BF16", "")):
            weights = {prefix + name[5:]: (dtype, value) for name, value in body.items()}
            weights.update({prefix + name: (dtype, value) for name, value in head.items()})
            weights.update({name: (dtype, value) for name, value in classifier.items()})
            write_safetensors(Path(folder, "model.safetensors"), weights)
            worst = max(worst, differences(program, folder, dtype + ", pairs", pairs),
                        differences(program, folder, dtype + ", single texts", singles))
    return worst > 2e-5


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "fixture":
        write_fixtures(arguments[1])
        return 0
    if len(arguments) == 2 and arguments[0] == "compare":
        return int(compare(arguments[1]))
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
