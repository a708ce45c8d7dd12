"""What is measured on a GPU, and the bars."""

# Dense bf16 on paper, TFLOP/s, by a word of the GPU's name.
PAPER = {"H200": 989.0, "H100": 989.0, "A100": 312.0}

# Of GPT-2's, 50,257 is padded to a multiple of 128, here and for PyTorch: an odd width is no size for tensor cores.
GPT2 = {"family": "gpt2", "vocab_size": 50304, "max_seq_len": 1024}
SMALL = {**GPT2, "d_model": 768, "n_layers": 12, "n_heads": 12, "d_ff": 3072}
LARGE = {**GPT2, "d_model": 1600, "n_layers": 48, "n_heads": 25, "d_ff": 6400}
LLAMA_7B = {
    "family": "llama", "vocab_size": 32000, "d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "d_ff": 11008,
    "max_seq_len": 4096, "tie_embeddings": False,
}  # fmt: skip
TINY = {"family": "gpt2", "vocab_size": 512, "max_seq_len": 64, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 128}
TINY_LLAMA = {
    "family": "llama", "vocab_size": 512, "max_seq_len": 64, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
    "d_ff": 96, "tie_embeddings": False,
}  # fmt: skip

# `bar`, `stretch`: of the GPU's FLOP/s on paper. `choices`: settings; the first that the plan says fits, and that does, is taken.
# `steps`: to warm up, and timed. `seconds`: of the part, at most. `peers`: ways of PyTorch's (gpu_torch.MODES) and the seconds of
# each, at most. `precision`: what it computes with (gpu_torch.NUMBERS): of 7B, fp32 weights, gradients and moments alone, and
# autocast's copies, fill the GPU.
WORKS = [
    {"name": "GPT-2 124M", "model": SMALL, "seq_len": 1024, "leaf": 4, "bar": 0.40, "stretch": 0.44, "steps": (2, 8),
     "seconds": 45, "precision": "bf16", "peers": {"layers": 70, "eager": 45, "compiled": 110},
     "choices": [{"batch.micro": 32}, {"batch.micro": 16}, {"batch.micro": 4}]},
    {"name": "GPT-2 1.5B", "model": LARGE, "seq_len": 1024, "leaf": 4, "bar": 0.47, "stretch": 0.52, "steps": (2, 4),
     "seconds": 60, "precision": "bf16", "peers": {"layers": 80, "eager": 60, "compiled": 180},
     "choices": [{"batch.micro": 16}, {"batch.micro": 8}, {"batch.micro": 4}]},
    {"name": "Llama 7B", "model": LLAMA_7B, "seq_len": 4096, "leaf": 4, "bar": 0.48, "stretch": 0.55, "steps": (1, 3),
     "seconds": 90, "precision": "bf16-weights", "peers": {"layers": 110, "eager": 90},
     "choices": [
         {"batch.micro": 2, "optimizer.moments": "bf16"},
         {"batch.micro": 1, "optimizer.moments": "bf16"},
         {"batch.micro": 1, "optimizer.moments": "bf16", "train.recompute": "selective"},
         {"batch.micro": 1, "optimizer.moments": "bf16", "train.recompute": "full"}]},
]  # fmt: skip
DRY = [
    {"name": "tiny", "model": TINY, "seq_len": 64, "leaf": 2, "bar": 0.40, "stretch": 0.44, "steps": (1, 2), "seconds": 60,
     "precision": "bf16", "peers": {"eager": 60}, "choices": [{"batch.micro": 2}]},
    {"name": "tiny Llama, with less", "model": TINY_LLAMA, "seq_len": 64, "leaf": 1, "bar": 0.48, "stretch": 0.55, "steps": (1, 1),
     "seconds": 60, "precision": "bf16-weights", "peers": {"eager": 60},
     "choices": [{"batch.micro": 1, "optimizer.moments": "bf16", "train.recompute": "full"}]},
]  # fmt: skip
PEER_BAR = 1.0  # of the best PyTorch's tokens/s
RECIPE = {"rate": 3e-4, "clip": 1.0, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}  # of PyTorch's steps

# One layer, so that the head is most of it: all logits at once, and a sixteenth of them at a time.
HEAD = {"name": "head", "model": {**SMALL, "n_layers": 1}, "seq_len": 1024, "leaf": 4, "steps": (2, 8), "seconds": 30, "bar": 0.95,
        "settings": {"batch.micro": 16}}  # fmt: skip
DRY_HEAD = {**HEAD, "model": {**TINY, "n_layers": 1}, "seq_len": 64, "leaf": 1, "steps": (1, 2),
            "settings": {"batch.micro": 2}}  # fmt: skip

KERNELS = {"seconds": 110}
# Of the bandwidth of a copy in the same run.
BANDWIDTH_BARS = {
    "adamw": 0.90, "ordered_sum": 0.90, "rmsnorm_forward": 0.80, "rmsnorm_backward": 0.80, "layernorm_forward": 0.80,
    "layernorm_backward": 0.80, "swiglu_forward": 0.80, "swiglu_backward": 0.80, "gelu_forward": 0.80, "gelu_backward": 0.80,
}  # fmt: skip

# sequences, length, heads, kv_heads, head_dim: as check_attention.c times them.
ATTENTION = {"shapes": [(16, 1024, 12, 12, 64), (2, 4096, 32, 8, 128)], "seconds": 40, "bar": 0.50,
             "served_bar": 0.97}  # fmt: skip
DRY_ATTENTION = {**ATTENTION, "shapes": [(4, 256, 12, 12, 64), (1, 1024, 9, 3, 64)]}

FIND_SECONDS = 60  # to find PyTorch in, which takes long to start for the first time
MEMORY_BAR = 0.03  # what is planned beside what is in use
TOTAL_SECONDS = 470  # of all parts together, where no other limit is given
