"""muster tokenizer train against Hugging Face's trainer: the same vocabulary and the same merges, in the same order, from the same text, for
every pattern; the file loads there and gives the same ids on other text as here.

Both break ties in the same way (the smallest ids), and both merge what stands at least twice: min_frequency is 2 there. Hugging Face's
own default, 0, goes on to merge what stands once."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from hf_tokenizers import ENGLISH, CODE, LLAMA3, QWEN2, Muster, byte_level, files, mixed, split
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

failures = 0


def check(good, text):
    global failures
    if not good:
        failures += 1
        print("failed:", text, flush=True)


def digits(step):
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), step])


CASES = {
    "gpt2": ([], byte_level()),
    "gpt2 with digits": (["--digits"], digits(byte_level())),
    "cl100k": (["--pattern", "cl100k"], split(LLAMA3)),
    "qwen2": (["--pattern", "qwen2", "--special", "<|im_start|>", "--special", "<|im_end|>"], split(QWEN2)),
}


def train_theirs(pre_tokenizer, special, texts, vocab):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=vocab, min_frequency=2, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def merges(root):
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in root["model"]["merges"]]


def check_case(muster, dump, folder, name, texts, heldout, vocab):
    options, pre_tokenizer = CASES[name]
    path = folder / "tokenizer.json"
    subprocess.run([muster, "tokenizer", "train", folder / "text", "--vocab", str(vocab), "--heldout", "0", "-o", path, *options],
                   check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ours = json.loads(path.read_text(encoding="utf-8"))
    special = [token["content"] for token in ours["added_tokens"]]
    tokenizer = train_theirs(pre_tokenizer, special, texts, vocab)
    theirs = json.loads(tokenizer.to_str())
    check(ours["model"]["vocab"] == theirs["model"]["vocab"], f"{name}: another vocabulary")
    a, b = merges(ours), merges(theirs)
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    check(a == b, f"{name}: {len(a)} merges, not {len(b)}; number {at} is {a[at:at+1]}, not {b[at:at+1]}")
    check(len(a) == vocab - 256 - len(special), f"{name}: {len(a)} merges")

    loaded = Tokenizer.from_file(str(path))
    here, there = Muster(dump, path).encode(heldout), [e.ids for e in loaded.encode_batch(heldout)]
    for text, x, y in zip(heldout, here, there):
        check(x == y, f"{name}: other ids for {text[:60]!r}")
        plain = [token for token in text.split("<|endoftext|>")]
        check(len(plain) > 1 or loaded.decode(y, skip_special_tokens=False) == text, f"{name}: decoding of {text[:60]!r}")
    ours_count = sum(map(len, here))
    theirs_count = sum(len(e.ids) for e in tokenizer.encode_batch(heldout))
    check(ours_count <= 1.01 * theirs_count, f"{name}: {ours_count} tokens of held-out text, {theirs_count} there")
    size = sum(len(t.encode()) for t in heldout)
    print(f"{name}: {len(a)} merges are equal; {size} bytes of other text in {ours_count} tokens, {theirs_count} with their own", flush=True)


def main():
    muster, dump = sys.argv[1:]
    texts = mixed(3_000_000, 1)
    texts, heldout = [t for i, t in enumerate(texts) if i % 10], texts[::10]
    check(len(texts) > 50 and len(heldout) > 5, f"{len(texts)} texts and {len(heldout)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text").mkdir()
        for i, text in enumerate(texts):
            (folder / "text" / f"{i:06}.txt").write_bytes(text.encode())
        for case in CASES:
            check_case(muster, dump, folder, case, texts, heldout, 8000)
    print("tokenizer train:", "failed" if failures else "passed")
    return failures > 0


sys.exit(main())
