"""Token files and the order of samples once more, from docs/data-format.md. Nothing here is shared with muster."""
import hashlib
import json

import numpy

MASK64 = 2**64 - 1
SHUFFLE, MIX, HELDOUT = 2, 3, 6  # purposes of random numbers: kernels/include/muster/random.h
SLOTS = 4096


def philox(seed, purpose, a, b):
    """Philox 4x32-10 (Salmon et al., SC 2011): four words of 32 bits."""
    key = seed ^ (purpose * 0xD1342543DE82EF95 & MASK64)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    x = [a & 0xFFFFFFFF, a >> 32, b & 0xFFFFFFFF, b >> 32]
    for _ in range(10):
        p0, p2 = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [p2 >> 32 ^ x[1] ^ k0, p2 & 0xFFFFFFFF, p0 >> 32 ^ x[3] ^ k1, p0 & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return x


def uniform(seed, purpose, a, b):
    """The first 53 bits as a number in [0, 1)."""
    x = philox(seed, purpose, a, b)
    return ((x[1] << 32 | x[0]) >> 11) * 2.0**-53


def permute(seed, purpose, stream, count, index):
    """Feistel network of six rounds over the next even power of two, again and again until the result is in range."""
    half = 0
    while 4**half < count:
        half += 1
    mask = 2**half - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(6):
            left, right = right, left ^ philox(seed, purpose, stream, turn << 32 | right)[0] & mask
        index = left << half | right
        if index < count:
            return index


def read_index(path):
    """The index of a token file, and the file's bytes."""
    data = path.read_bytes()
    line, rest = data.split(b"\n", 1)
    return json.loads(rest[: int(line.split()[5].rstrip(b","))]), data


def add_loss_masks(path, masks):
    """Gives a token file loss masks, {split: uint8 array}, which `muster data build` does not write so far."""
    index, data = read_index(path)
    for split, mask in masks.items():
        data += bytes(-len(data) % 4096)
        digest = hashlib.sha256(mask.tobytes()).hexdigest()
        record = {"type": "uint8", "count": len(mask), "offset": len(data), "sha256": digest}
        index["splits"][split]["loss_mask"] = record
        data += mask.tobytes()
    body = json.dumps(index).encode()
    line = f"muster tokens 1, index of {len(body):012d} bytes, sha256 {hashlib.sha256(body).hexdigest()}\n".encode()
    assert len(line) == 118 and len(line) + len(body) <= 65536
    path.write_bytes((line + body).ljust(65536, b"\0") + data[65536:])


class Source:
    """The arrays of a token file, and how often it is drawn from."""

    def __init__(self, path, weight=1):
        index, data = read_index(path)
        self.weight = weight
        self.streams = {}
        for split, records in index["splits"].items():
            tokens, mask = (
                records[name] and numpy.frombuffer(data, *(records[name][k] for k in ("type", "count", "offset")))
                for name in ("tokens", "loss_mask")
            )
            self.streams[split] = tokens, numpy.ones(len(tokens), bool) if mask is None else mask != 0


class Reader:
    """Samples of sources in the order in which a run of this seed consumes them."""

    def __init__(self, sources, seed, seq_len):
        self.sources, self.seed, self.seq_len = sources, seed, seq_len
        self.slots = self.deal()

    def deal(self):
        """By largest remainders. Enough for weights whose shares are all at least one slot."""
        total = sum(source.weight for source in self.sources)
        shares = [source.weight / total * SLOTS for source in self.sources]
        slots = [int(share) for share in shares]
        assert min(slots) >= 1
        by_remainder = sorted(range(len(slots)), key=lambda i: slots[i] - shares[i])
        for i in by_remainder[: SLOTS - sum(slots)]:
            slots[i] += 1
        return slots

    def samples(self, split):
        return [(len(source.streams[split][0]) - 1) // self.seq_len for source in self.sources]

    def find(self, split, sample):
        """A sample's source and its number there."""
        counts, at = self.samples(split), 0
        if split == "heldout":
            while sample >= counts[at]:
                sample, at = sample - counts[at], at + 1
            return at, sample
        if len(self.sources) > 1:
            block = sample // SLOTS
            slot = permute(self.seed, MIX, block, SLOTS, sample % SLOTS)
            while slot >= self.slots[at]:
                slot, at = slot - self.slots[at], at + 1
            sample = block * self.slots[at] + slot
        epoch, turn = divmod(sample, counts[at])
        return at, permute(self.seed, SHUFFLE, at << 48 ^ epoch, counts[at], turn)

    def read(self, split, first, count):
        """Tokens and targets, both [count, seq_len]; a target that does not count is -1."""
        tokens, targets = [], []
        for sample in range(first, first + count):
            at, number = self.find(split, sample)
            stream, mask = self.sources[at].streams[split]
            here = slice(number * self.seq_len, (number + 1) * self.seq_len + 1)
            row = stream[here].astype(numpy.int64)
            tokens.append(row[:-1])
            targets.append(numpy.where(mask[here], row, -1)[1:])
        return numpy.array(tokens), numpy.array(targets)

    def windows(self, split):
        """All of a split as read() gives samples, source by source in file order; the last window of a source is filled
        with tokens 0 and targets -1."""
        tokens, targets = [], []
        for source in self.sources:
            stream, mask = source.streams[split]
            row = stream.astype(numpy.int64)
            counts = numpy.where(mask, row, -1)[1:]
            rest = -len(counts) % self.seq_len
            tokens.append(numpy.pad(row[:-1], (0, rest)).reshape(-1, self.seq_len))
            targets.append(numpy.pad(counts, (0, rest), constant_values=-1).reshape(-1, self.seq_len))
        return numpy.concatenate(tokens), numpy.concatenate(targets)
