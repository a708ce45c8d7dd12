"""Makes tests/unit/data/hf, which test_hf reads: small models, and the logits that transformers computes with them in fp32.
Usage: ~/.cache/muster/oracles/bin/python tests/oracle/make_hf.py tests/unit/data/hf

A folder has config.json, weights, and expected.bin: 12 tokens as int32, then their logits, [12, vocabulary], as fp32."""
import json
import shutil
import sys
from pathlib import Path

import numpy
import torch

import hf_models

# Weights stand in these types, so that all three are read; they are rounded before the logits are computed.
TYPES = {"llama_9_3_tied": torch.float32, "gpt2_9": torch.float16, "gpt2_5_untied": torch.float32}
TOKENS = [(i * i * 5 + 3) % 53 for i in range(12)]


def main(folder):
    for name in hf_models.MODELS:
        dtype = TYPES.get(name, torch.bfloat16)
        model = hf_models.make(name, vocab=53, ff=30)
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(p.to(dtype).float())
        logits = hf_models.logits_of(model, TOKENS).numpy()  # before `to`, which rounds rotary frequencies, too
        model.to(dtype)
        shutil.rmtree(folder / name, ignore_errors=True)
        # One of them in several files, with an index.
        model.save_pretrained(folder / name, max_shard_size="9KB" if name == "qwen2_9_3" else "1GB")
        (folder / name / "generation_config.json").unlink(missing_ok=True)
        config = json.loads((folder / name / "config.json").read_text())
        expected = numpy.array(TOKENS, "<i4").tobytes() + logits.astype("<f4").tobytes()
        (folder / name / "expected.bin").write_bytes(expected)
        print(name, config["model_type"], dtype, logits.shape, f"largest {abs(logits).max():.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
