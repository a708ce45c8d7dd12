"""Reading of tokenizer.json against Hugging Face's tokenizers: equal ids for 10 MB of mixed text with each family's structure, with and
without what the post-processor adds; added tokens with all their flags; decoding."""
import itertools
import json
import os
import random
import sys
import tempfile
from pathlib import Path

from hf_tokenizers import FAMILIES, Muster, mixed, scripted, train
from tokenizers import Tokenizer

failures = 0


def check(good, text):
    global failures
    if not good:
        failures += 1
        print("failed:", text, flush=True)


def compare(what, texts, got, wanted):
    check(len(got) == len(wanted), f"{what}: {len(got)} texts, not {len(wanted)}")
    for text, ours, theirs in zip(texts, got, wanted):
        if ours != theirs:
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
            check(False, f"{what}: {text[:60]!r}...: token {at} is {ours[at:at+5]}, not {theirs[at:at+5]}")
            return


def check_family(program, folder, name, texts, training):
    path = folder / "tokenizer.json"
    path.write_text(train(name, training), encoding="utf-8")
    ours, theirs = Muster(program, path), Tokenizer.from_file(str(path))
    plain = [e.ids for e in theirs.encode_batch(texts, add_special_tokens=False)]
    compare(name, texts, ours.encode(texts), plain)
    few = texts[::7] + ["", " ", "a"]
    compare(name + " with affixes", few, ours.encode(few, "affixes"), [e.ids for e in theirs.encode_batch(few)])
    decoded = ours.decode(plain)
    for text, got, ids in zip(texts, decoded, plain):
        if "prefix" in name or theirs.normalizer:
            check(got.decode() == theirs.decode(ids, skip_special_tokens=False), f"{name}: decoding of {text[:60]!r}")
        else:
            check(got == text.encode(), f"{name}: decoding of {text[:60]!r}")
    tokens = sum(map(len, plain))
    print(f"{name}: {sum(len(t.encode()) for t in texts)} bytes, {tokens} tokens, {theirs.get_vocab_size()} in the vocabulary")


def encode_each(tokenizer, texts):
    """Their ids; None where they panic, as they do where the white space of two added tokens overlaps."""
    ids, sys_stderr, nowhere = [], os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # each panic prints itself
    for text in texts:
        try:
            ids.append(tokenizer.encode(text).ids)
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            ids.append(None)
    os.dup2(sys_stderr, 2)
    os.close(sys_stderr)
    os.close(nowhere)
    return ids


def check_added(program, folder, rng, trials):
    """Small alphabets, so that added tokens meet, overlap, and stand beside letters and spaces."""
    base = json.loads(train("qwen2.5", ["ab ba e\u0301 \u00e9"], 300))
    base["added_tokens"] = []
    base["post_processor"] = None
    count = len(base["model"]["vocab"])
    letters = ["a", "b", " ", "\n", "\u00e9", "e\u0301", "<", ">", "_", "1", "\u3000", "\u0301", "\u24b6", "\u2014"]
    path = folder / "added.json"
    for trial in range(trials):
        contents, added = set(), []
        for _ in range(rng.randrange(1, 6)):
            content = "".join(rng.choice(letters) for _ in range(rng.randrange(1, 4)))
            if content in contents or content in base["model"]["vocab"]:
                continue
            contents.add(content)
            flags = {f: rng.random() < 0.35 for f in ("single_word", "lstrip", "rstrip", "normalized", "special")}
            added.append({"id": count + len(added), "content": content, **flags})
        base["added_tokens"] = added
        forms = [Tokenizer.from_str(json.dumps(base)).normalizer.normalize_str(a["content"]) for a in added if a["normalized"]]
        if len(set(forms)) < len(forms):
            continue
        if trial % 2:
            base["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = trial % 4 == 1
        path.write_text(json.dumps(base))
        texts = ["".join(rng.choice(letters + [a["content"] for a in added]) for _ in range(rng.randrange(12))) for _ in range(200)]
        theirs = Tokenizer.from_file(str(path))
        wanted = encode_each(theirs, texts)
        got = Muster(program, path).encode(texts)
        kept = [(t, g, w) for t, g, w in zip(texts, got, wanted) if w is not None]
        check(len(kept) > 100, f"added tokens: only {len(kept)} texts could be compared")
        compare(f"added tokens {json.dumps(added)}", *zip(*kept))


def main(program):
    characters = 5_000_000 if len(sys.argv) < 3 else int(sys.argv[2])
    seed = random.randrange(1 << 32) if len(sys.argv) < 4 else int(sys.argv[3])
    print("seed", seed)
    texts = mixed(characters, seed)
    everything = [chr(c) for c in range(0, 0x110000, max(5_000_000 // characters, 1)) if not 0xD800 <= c < 0xE000]
    texts.append("".join(everything))
    texts.append("".join(itertools.chain.from_iterable((c, rng_c) for c, rng_c in zip(everything, itertools.cycle("a1 '\n\u0301")))))
    print(sum(len(t.encode()) for t in texts), "bytes of text in", len(texts), "texts")
    training = mixed(characters * 2 // 5, 1)
    with tempfile.TemporaryDirectory() as folder:
        for name in FAMILIES:
            check_family(program, Path(folder), name, texts, training)
        check_added(program, Path(folder), random.Random(seed), max(characters * 3 // 100_000, 20))
    print(f"{failures} failed")
    return failures > 0


sys.exit(main(sys.argv[1]))
