"""Times PyTorch's training steps of GPT-2 124M on the CPU: prints one line of seconds per step.

usage: bench_gpt2.py fp32|bf16 STEPS THREADS [BATCH SEQ_LEN]
"""
import math
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    print("skipped: python3-torch is not installed")
    sys.exit(77)

VOCAB, WIDTH, LAYERS, HEADS, CONTEXT = 50257, 768, 12, 12, 1024


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc, self.proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def attention(self, x):
        batch, length, _ = x.shape
        q, k, v = (part.view(batch, length, HEADS, -1).transpose(1, 2) for part in self.qkv(x).split(WIDTH, 2))
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mask = torch.full((length, length), -math.inf).triu(1)
            y = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + mask.to(q.dtype), 3) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, WIDTH))

    def forward(self, x):
        x = x + self.attention(self.ln_1(x))
        try:
            return x + self.proj(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))
        except TypeError:  # before PyTorch 1.12
            return x + self.proj(F.gelu(self.fc(self.ln_2(x))))


class Gpt2(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = layer(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.float().reshape(-1, VOCAB), targets.reshape(-1))


def main():
    precision, steps, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    batch, length = (int(sys.argv[4]), int(sys.argv[5])) if len(sys.argv) > 5 else (4, 256)
    torch.manual_seed(1)
    torch.set_num_threads(threads)
    model = Gpt2()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    tokens = torch.randint(0, VOCAB, (batch, length + 1))
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    print(torch.__version__, *(f"{s:.6f}" for s in seconds))


main()
