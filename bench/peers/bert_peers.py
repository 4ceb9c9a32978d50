"""PyTorch's time for the training steps and forward passes that `parsimony bench` times on BERT.

The model is Hugging Face's BERT written out in plain PyTorch (embeddings,
post-norm layers, pooler, classifier; dropout 0.1 on hidden states and attention
in training), with random weights, batch 16 x 128 tokens without padding, for
which no mask is added to the scores.  Adapters are of rank 8 on every dense
layer of encoder and pooler and on the word embedding; all else is frozen.  Of
the two ways to apply them the faster one is used: rows go through the thin
factors, so that autograd forms no dense gradient of a frozen weight.  AdamW is
PyTorch's multi-tensor one (foreach).

--first-token-only makes the last layer compute no more than the classifier
reads, as ours does; Hugging Face's model computes every token.
"""

import sys
from functools import partial

from harness import main, torch

import torch.nn.functional as F
from torch import nn

SIZES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "base": (12, 768)}
HEAD_WIDTH = 64
BATCH, LENGTH, VOCABULARY, POSITIONS = 16, 128, 30522, 512
RANK, EPS, DROPOUT, STD = 8, 1e-3, 0.1, 0.02
first_token_only = False


def parameter(*shape, std=STD):
    return nn.Parameter(std * torch.randn(*shape))


def orthonormal(rows, cols):
    if rows < cols:
        return orthonormal(cols, rows).T.contiguous()
    return torch.linalg.qr(torch.randn(rows, cols))[0]


class Update(nn.Module):
    """left right, the low-rank update of a weight (out, in)."""

    def __init__(self, method, out_size, in_size):
        super().__init__()
        if method == "lora":
            self.left = parameter(out_size, RANK, std=1)
            self.right = nn.Parameter(torch.zeros(RANK, in_size))
            self.core = None
        else:
            self.left = nn.Parameter(EPS * orthonormal(out_size, RANK))
            self.right = nn.Parameter(EPS * orthonormal(RANK, in_size))
            self.core = nn.Parameter(EPS * orthonormal(RANK, RANK))

    def factors(self):
        return self.left, self.right if self.core is None else self.core @ self.right


class Linear(nn.Module):
    def __init__(self, in_size, out_size, method=None):
        super().__init__()
        self.weight = parameter(out_size, in_size)
        self.bias = nn.Parameter(torch.zeros(out_size))
        self.update = Update(method, out_size, in_size) if method else None

    def forward(self, x):
        y = F.linear(x, self.weight, self.bias)
        if self.update is None:
            return y
        left, right = self.update.factors()
        return y + F.linear(F.linear(x, right), left)


class Embeddings(nn.Module):
    def __init__(self, width, method):
        super().__init__()
        self.word = parameter(VOCABULARY, width)
        self.position = parameter(POSITIONS, width)
        self.segment = parameter(2, width)
        self.update = Update(method, VOCABULARY, width) if method else None
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, ids, types):
        x = F.embedding(ids, self.word) + self.position[:ids.shape[1]]
        x = x + F.embedding(types, self.segment)
        if self.update is not None:
            left, right = self.update.factors()
            x = x + F.embedding(ids, left) @ right
        return F.dropout(self.norm(x), DROPOUT, self.training)


class Layer(nn.Module):
    def __init__(self, width, method):
        super().__init__()
        self.query, self.key, self.value, self.out = (
            Linear(width, width, method) for _ in range(4))
        self.up = Linear(width, 4 * width, method)
        self.down = Linear(4 * width, width, method)
        self.norm1 = nn.LayerNorm(width, eps=1e-12)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    @staticmethod
    def heads(x):
        batch, length, width = x.shape
        return x.view(batch, length, width // HEAD_WIDTH, HEAD_WIDTH).transpose(1, 2)

    def forward(self, x, asking):
        """`asking` are the rows of x that the layer computes."""
        q, k, v = (self.heads(f) for f in (self.query(asking), self.key(x), self.value(x)))
        p = F.softmax(q @ k.transpose(-1, -2) * HEAD_WIDTH ** -0.5, dim=-1)
        p = F.dropout(p, DROPOUT, self.training)
        context = (p @ v).transpose(1, 2).reshape(asking.shape)
        x = self.norm1(F.dropout(self.out(context), DROPOUT, self.training) + asking)
        y = self.down(F.gelu(self.up(x)))
        return self.norm2(F.dropout(y, DROPOUT, self.training) + x)


class Bert(nn.Module):
    def __init__(self, size, method=None):
        super().__init__()
        layers, width = SIZES[size]
        self.embeddings = Embeddings(width, method)
        self.layers = nn.ModuleList(Layer(width, method) for _ in range(layers))
        self.pooler = Linear(width, width, method)
        self.classifier = Linear(width, 2)

    def forward(self, ids, types):
        x = self.embeddings(ids, types)
        for layer in self.layers[:-1]:
            x = layer(x, x)
        x = self.layers[-1](x, x[:, :1] if first_token_only else x)
        pooled = torch.tanh(self.pooler(x[:, 0]))
        return self.classifier(F.dropout(pooled, DROPOUT, self.training))


def random_batch():
    ids = torch.randint(VOCABULARY, (BATCH, LENGTH))
    return ids, torch.zeros_like(ids), torch.arange(BATCH) % 2


def bert_step(method, size):
    model = Bert(size, None if method == "full" else method)
    if method != "full":
        for name, p in model.named_parameters():
            p.requires_grad_(".update." in name)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0, foreach=True)
    ids, types, labels = random_batch()

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(ids, types), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def bert_forward(size):
    model = Bert(size).eval()
    ids, types, _ = random_batch()

    def step():
        with torch.inference_mode():
            return model(ids, types)

    return step


CASES = {
    **{f"bert_step/{method}/{size}": partial(bert_step, method, size)
       for method in ("lora", "deep-lora", "full") for size in SIZES},
    **{f"bert_forward/{size}": partial(bert_forward, size) for size in SIZES},
}


if __name__ == "__main__":
    if "--first-token-only" in sys.argv:
        sys.argv.remove("--first-token-only")
        first_token_only = True
    sys.exit(main(CASES, __doc__))
