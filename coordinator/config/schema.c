/* The table of keys. A key is added here, in mst_config, and nowhere else. */
#include "schema.h"

static const char *const family_names[] = {"llama", "gpt2", "olmo2", "qwen2", "qwen3", NULL};
static const char *const dtype_names[] = {"f32", "bf16", NULL};
static const char *const token_names[] = {"auto", "uint16", "uint32", NULL};
static const char *const packing_names[] = {"stream", "documents", "single", NULL};
static const char *const transport_names[] = {"auto", "self", "shm", "mpi", "node", "nccl", "peer", NULL};
static const char *const sharding_names[] = {"state", "all", NULL};
static const char *const balance_names[] = {"even", "auto", NULL};
static const char *const schedule_names[] = {"constant", "linear", "cosine", "wsd", NULL};
static const char *const recompute_names[] = {"none", "selective", "full", NULL};
static const char *const nonfinite_names[] = {"stop", "skip", "rollback", NULL};
static const char *const busy_names[] = {"wait", "skip", NULL};
static const char *const device_names[] = {"cpu", "ref", "cuda", "auto", NULL};
static const char *const planned_names[] = {"auto", NULL}; /* of a whole number that the planner may choose */
_Static_assert(MST_FAMILY_COUNT == 5 && MST_FAMILY_QWEN3 == 4, "family_names follows mst_family_id");
_Static_assert(MST_F32 == 0 && MST_BF16 == 1, "dtype_names follows mst_dtype");
_Static_assert(MST_TOKENS_UINT32 == 2, "token_names follows mst_token_type");
_Static_assert(MST_PACKING_SINGLE == 2, "packing_names follows mst_packing");
_Static_assert(MST_TRANSPORT_PEER == 6, "transport_names follows mst_transport");
_Static_assert(MST_SHARDING_ALL == 1, "sharding_names follows mst_sharding");
_Static_assert(MST_BALANCE_AUTO == 1, "balance_names follows mst_balance");
_Static_assert(MST_SCHEDULE_WSD == 3, "schedule_names follows mst_schedule_kind");
_Static_assert(MST_RECOMPUTE_FULL == 2, "recompute_names follows mst_recompute");
_Static_assert(MST_NONFINITE_ROLLBACK == 2, "nonfinite_names follows mst_nonfinite");
_Static_assert(MST_BUSY_SKIP == 1, "busy_names follows mst_when_busy");
_Static_assert(MST_DEVICE_REF == 1 && MST_DEVICE_AUTO == 3, "device_names follows mst_device");

/* clang-format off */
/* The kind's initialisers; _Generic refuses, at compile time, a member of another type. */
#define MEMBER(member) (((mst_config *)0)->member)
#define PLACE(member)  .offset = offsetof(mst_config, member)
#define WHOLE(member, lowest, highest)                                                                       \
    .kind = KIND_WHOLE, PLACE(member), .low = (lowest), .high = (highest),                                   \
    .size = _Generic(MEMBER(member), int: sizeof(int), unsigned long: sizeof(long),                          \
                     unsigned long long: sizeof(long long))
#define REAL(member, lowest, highest)                                                                        \
    .kind = KIND_REAL, PLACE(member), .real_low = (lowest), .real_high = (highest),                          \
    .size = _Generic(MEMBER(member), double: sizeof(double))
#define BOOL(member) .kind = KIND_BOOL, PLACE(member), .size = _Generic(MEMBER(member), bool: sizeof(bool))
#define ENUM(member, list) .kind = KIND_ENUM, PLACE(member), .size = sizeof MEMBER(member), .names = (list)
#define TEXT(member) .kind = KIND_TEXT, PLACE(member), .size = _Generic(MEMBER(member), char *: sizeof(char *))
#define WORDS(member) .kind = KIND_WORDS, PLACE(member), .size = _Generic(MEMBER(member), char *: sizeof(char *))
#define PATH(member) .kind = KIND_PATH, PLACE(member), .size = _Generic(MEMBER(member), char *: sizeof(char *))
/* clang-format on */

/* Values that are part of what defines a run's bits are fixed once it has begun; the others are free. */
#define FREE(key)  .path = (key)
#define FIXED(key) .path = (key), .fixed = true

#define MILLION UINT64_C(1000000)
#define FOREVER (MILLION * MILLION) /* more steps than anyone takes */

const config_section config_sections[] = {
    {"run", "the run as a whole"},
    {"model", "the network"},
    {"lora", "low-rank adapters: trained in the place of the model, which stays as it is (docs/lora.md)"},
    {"data", "what it learns from"},
    {"batch",
     "the batch of a step: leaf * lanes * rounds microbatches of micro sequences (docs/ordered-sum.md)"},
    {"optimizer", "AdamW"},
    {"schedule", "the learning rate"},
    {"train", "how a step is computed"},
    {"checkpoint", "when the state is saved; a checkpoint is also made at the end and on Ctrl-C"},
    {"device", "what computes; may differ from start to start of a run"},
    {"network", "which of a host's networks the job uses; may differ from start to start"},
    {"watchdog", "ends the job when a rank dies or stalls"},
};
const size_t config_section_count = sizeof config_sections / sizeof *config_sections;

const config_key config_keys[] = {
    {FREE("run.name"), TEXT(run.name), .derived = "the config file's name without .yaml", .example = "my-run",
     .meaning = "Name of the run: letters, digits, '.', '_' and '-'. The run folder is runs/NAME."},
    {FREE("run.dir"), PATH(run.dir), .fallback = "null",
     .meaning =
         "Run folder; null: runs/NAME in the working directory. `muster train --run DIR` goes before it."},
    {FIXED("run.seed"), WHOLE(run.seed, 0, UINT64_MAX), .fallback = "0",
     .meaning = "Decides the initial weights and the order of the data."},
    {FREE("run.steps"), WHOLE(run.steps, 1, FOREVER), .example = "1000", .unit = "steps",
     .meaning = "Optimizer steps of the whole run; the schedule ends there. May be left out where run.epochs "
                "is given."},
    {FREE("run.epochs"), REAL(run.epochs, 0, 1e6), .fallback = "0", .unit = "passes",
     .meaning = "Passes over the training data, in the place of run.steps: as many steps as that takes, "
                "rounded up. The run's "
                "own config then has these. With several sources: as many samples as all have together, "
                "drawn by their "
                "weights. 0: run.steps says it."},
    {FREE("run.minutes"), REAL(run.minutes, 0, 1e6), .fallback = "0", .unit = "minutes",
     .meaning = "Wall time of one start, which then stops with a checkpoint and exit code 75; 0: no limit "
                "but the end "
                "of the Slurm job, which counts in any case."},

    {FREE("model.init"), PATH(init), .fallback = "null",
     .meaning = "Where the weights come from at step 0: a folder in Hugging Face's layout, or a checkpoint; "
                "null: random "
                "weights. Keys of model that are not given are then the model's there, whatever their "
                "defaults here."},
    {FIXED("model.family"), ENUM(model.family, family_names), .fallback = "llama",
     .meaning =
         "llama: RMSNorm, rotary positions, SwiGLU, grouped heads, no biases (also SmolLM2, Mistral). gpt2: "
         "LayerNorm, learned positions, GELU, biases. olmo2: as llama, with norms after attention and MLP, "
         "and of queries and keys. qwen2 (also 2.5): as llama, with biases of q, k and v. qwen3: as llama, "
         "with norms of each head's query and key."},
    {FIXED("model.vocab_size"), WHOLE(model.vocab_size, 0, 1 << 24), .fallback = "0", .unit = "tokens",
     .meaning = "Size of the vocabulary; 0: that of the data."},
    {FIXED("model.d_model"), WHOLE(model.d_model, 1, 1 << 20), .example = "256", .unit = "features",
     .meaning = "Width of the residual stream."},
    {FIXED("model.n_layers"), WHOLE(model.n_layers, 1, 4096), .example = "4", .meaning = "Number of layers."},
    {FIXED("model.n_heads"), WHOLE(model.n_heads, 1, 4096), .example = "4",
     .meaning = "Attention heads (query heads) of a layer."},
    {FIXED("model.n_kv_heads"), WHOLE(model.n_kv_heads, 1, 4096), .derived = "n_heads", .example = "4",
     .meaning = "Key and value heads, each shared by n_heads / n_kv_heads query heads. gpt2: n_heads."},
    {FIXED("model.head_dim"), WHOLE(model.head_dim, 1, 1 << 20), .derived = "d_model / n_heads",
     .example = "64", .unit = "features", .meaning = "Width of a head."},
    {FIXED("model.d_ff"), WHOLE(model.d_ff, 1, 1 << 20),
     .derived = "gpt2: 4 * d_model; others: 8/3 * d_model, rounded up to a multiple of 64", .example = "704",
     .unit = "features", .meaning = "Width inside the feed-forward part."},
    {FIXED("model.max_seq_len"), WHOLE(model.max_seq_len, 1, 1 << 24), .derived = "data.seq_len",
     .example = "1024", .unit = "tokens",
     .meaning = "Longest sequence; gpt2: rows of its table of positions."},
    {FIXED("model.norm_eps"), REAL(model.norm_eps, 0, 1), .low_excluded = true, .high_excluded = true,
     .fallback = "1e-5", .meaning = "Added to the variance (LayerNorm) or mean square (RMSNorm)."},
    {FIXED("model.rope_theta"), REAL(model.rope_theta, 1, 1e12), .fallback = "10000",
     .meaning = "Base of the rotary frequencies (all families but gpt2)."},
    {FIXED("model.rope_factor"), REAL(model.rope_factor, 1, 1e6), .fallback = "1",
     .meaning =
         "Llama 3's scaling of rotary frequencies: slow pairs turn slower by this factor; 1: no scaling."},
    {FIXED("model.rope_low_freq_factor"), REAL(model.rope_low_freq_factor, 0, 1e6), .low_excluded = true,
     .fallback = "1",
     .meaning = "Pairs that turn less often than this in the original length are slow (rope_factor)."},
    {FIXED("model.rope_high_freq_factor"), REAL(model.rope_high_freq_factor, 0, 1e6), .low_excluded = true,
     .fallback = "4",
     .meaning = "Pairs that turn more often than this in the original length are not scaled."},
    {FIXED("model.rope_original_seq_len"), WHOLE(model.rope_original_seq_len, 1, 1 << 24), .fallback = "8192",
     .unit = "tokens", .meaning = "Length that the model was trained with before its positions were scaled."},
    {FIXED("model.init_deviation"), REAL(model.init_deviation, 0, 10), .low_excluded = true,
     .fallback = "0.02",
     .meaning = "Standard deviation of the initial weights (normal, cut at 3 deviations)."},
    {FIXED("model.tie_embeddings"), BOOL(model.tie_embeddings), .fallback = "true",
     .meaning = "The output head uses the embedding's weights."},

    {FIXED("lora.rank"), WHOLE(lora.rank, 0, 65536), .fallback = "0",
     .meaning = "Rank of the adapters; 0: none, the model itself is trained. Needs model.init."},
    {FIXED("lora.alpha"), REAL(lora.alpha, 0, 1e6), .derived = "2 * lora.rank", .example = "0",
     .meaning = "What an adapter adds is multiplied by alpha / rank."},
    {FIXED("lora.rslora"), BOOL(lora.rslora), .fallback = "false",
     .meaning = "Multiply by alpha / sqrt(rank) instead (rank-stabilised)."},
    {FIXED("lora.targets"), WORDS(lora.targets), .fallback = "all-linear",
     .meaning = "The projections that get adapters, by the last part of their tensors' names, such as "
                "[q_proj, v_proj]; "
                "all-linear: all of every layer, the output head not."},
    {FIXED("lora.dropout"), REAL(lora.dropout, 0, 1), .fallback = "0",
     .meaning = "Must be 0: muster trains without dropout."},
    {FREE("lora.init"), PATH(lora.init), .fallback = "null",
     .meaning = "A folder in PEFT's layout whose adapters are those of step 0; null: A random, B zero."},

    {FREE("data.sources"), .kind = KIND_SOURCES, PLACE(data.sources), .example = "[tokens.h5]",
     .meaning = "Token files of `muster data build`, and those of other trainers as they are: numpy's .npy, "
                "Megatron's .bin and .idx, .bin of llm.c and nanoGPT (docs/data-format.md). A list of paths, "
                "or of {path: FILE, weight: W, heldout: FILE} (weight: how often its samples are drawn, "
                "relative to the others; default 1. heldout: of another trainer's file, the one that "
                "evaluations read, such as val.bin). A relative path starts at the config file's folder; "
                "after --set, at the working directory."},
    {FREE("data.dtype"), ENUM(data.type, token_names), .fallback = "auto",
     .meaning =
         "Type of the tokens in files of other trainers that have no header to say it (nanoGPT's .bin, "
         "OLMo's .npy). auto: such files are refused."},
    {FREE("data.tokenizer"), PATH(data.tokenizer), .fallback = "null",
     .meaning =
         "The tokenizer.json (Hugging Face's format) that files of other trainers were made with: says "
         "their vocabulary, and goes into the checkpoints. null: model.vocab_size must be given for them, "
         "and bits per byte are not known. Token files of muster have their own inside."},
    {FIXED("data.seq_len"), WHOLE(data.seq_len, 1, 1 << 24), .fallback = "1024", .unit = "tokens",
     .meaning = "Length of a sequence."},
    {FIXED("data.packing"), ENUM(data.packing, packing_names), .fallback = "stream",
     .meaning =
         "What a sequence holds. stream: a piece of all documents one behind the other. documents: as many "
         "whole "
         "documents as fit, each of which sees only itself; what is longer is cut. single: one document, and "
         "padding (docs/sft.md)."},

    {FIXED("batch.micro"), WHOLE(batch.micro, 1, 65536), .fallback = "4", .unit = "sequences",
     .meaning = "Sequences of a microbatch, which one rank computes at once: what memory allows."},
    {FIXED("batch.leaf"), WHOLE(batch.shape.leaf, 1, MILLION), .fallback = "1", .unit = "microbatches",
     .meaning = "Microbatches of a lane, added in order."},
    {FIXED("batch.lanes"), WHOLE(batch.shape.lanes, 1, 256), .fallback = "8", .unit = "lanes",
     .meaning = "Lanes of a round: a power of two. As many ranks can work at once."},
    {FIXED("batch.rounds"), WHOLE(batch.shape.rounds, 1, MILLION), .fallback = "1", .unit = "rounds",
     .meaning = "Rounds of a step. More rounds: less memory for gradients, more traffic."},
    {FIXED("batch.wire"), ENUM(batch.shape.wire, dtype_names), .fallback = "f32",
     .meaning = "Type in which partial gradients are kept and sent: bf16 halves the traffic and rounds every "
                "partial sum."},
    {FREE("batch.transport"), ENUM(batch.transport, transport_names), .fallback = "auto",
     .meaning =
         "How ranks exchange gradients; no effect on the result. self: one rank; shm: one node; node: shared "
         "memory inside nodes, between which each node's sum travels once; mpi: any; nccl: GPUs, one a rank; "
         "peer: GPUs of one node."},
    {FREE("batch.sharding"), ENUM(batch.shape.sharding, sharding_names), .fallback = "state",
     .meaning =
         "What ranks share, each having a part (docs/memory.md); no effect on the result. state: masters, "
         "moments and summed gradients; all: weights, too, gathered layer by layer in every pass, and "
         "gradients, summed layer by layer where a rank has one microbatch a round (leaf 1, as many ranks "
         "as lanes)."},
    {FREE("batch.balance"), ENUM(batch.balance, balance_names), .fallback = "even",
     .meaning =
         "How lanes are dealt to ranks; no effect on the result. even: alike; auto: by the ranks' measured "
         "speeds, whenever a step gets more than 5 % shorter by it."},
    {FREE("batch.allow_mixed"), BOOL(batch.allow_mixed), .fallback = "false",
     .meaning =
         "Ranks of different device classes may work together. The result then depends on who computes "
         "what: it cannot be repeated on other ranks, and the run says so."},

    {FREE("optimizer.beta1"), REAL(optimizer.beta1, 0, 1), .high_excluded = true, .fallback = "0.9",
     .meaning = "Decay of the first moment."},
    {FREE("optimizer.beta2"), REAL(optimizer.beta2, 0, 1), .high_excluded = true, .fallback = "0.95",
     .meaning = "Decay of the second moment."},
    {FREE("optimizer.eps"), REAL(optimizer.eps, 0, 1), .low_excluded = true, .fallback = "1e-8",
     .meaning = "Added to the root of the second moment."},
    {FREE("optimizer.weight_decay"), REAL(optimizer.weight_decay, 0, 10), .fallback = "0.1",
     .meaning = "Decay of the matrices per step, times the learning rate."},
    {FREE("optimizer.decay_norms"), BOOL(optimizer.decay_norms), .fallback = "false",
     .meaning = "Norm weights and biases are decayed too (OLMo 2: true)."},
    {FREE("optimizer.decay_embeddings"), BOOL(optimizer.decay_embeddings), .fallback = "true",
     .meaning = "Embeddings are decayed too (OLMo 2: false); a tied one is also the output head."},
    {FIXED("optimizer.moments"), ENUM(optimizer.moments, dtype_names), .fallback = "f32",
     .meaning = "Type in which both moments are kept: bf16 takes half the memory; they are then rounded up "
                "or down at "
                "random, by a rule that is part of the run's definition (docs/memory.md)."},
    {FREE("optimizer.offload"), BOOL(optimizer.offload), .fallback = "false",
     .meaning = "On a GPU: masters and moments stand in pinned host memory, and the CPU updates them; no "
                "effect on the "
                "result. Without a GPU it does nothing."},
    {FREE("optimizer.clip_norm"), REAL(optimizer.clip_norm, 0, 1e6), .fallback = "1",
     .meaning = "Gradients with a larger norm are scaled down to it; 0: never."},

    {FREE("schedule.kind"), ENUM(schedule.kind, schedule_names), .fallback = "cosine",
     .meaning = "After the warm-up: constant; linear or cosine down to min_ratio * peak; wsd: constant, then "
                "a linear decay."},
    {FREE("schedule.peak"), REAL(schedule.peak, 0, 10), .low_excluded = true, .example = "3e-4",
     .meaning = "Learning rate after the warm-up."},
    {FREE("schedule.min_ratio"), REAL(schedule.min_ratio, 0, 1), .fallback = "0.1",
     .meaning = "Learning rate at the end, relative to the peak."},
    {FREE("schedule.warmup"), WHOLE(schedule.warmup, 0, FOREVER),
     .derived = "run.steps / 100, or warmup_ratio", .example = "10", .unit = "steps",
     .meaning = "Steps of the linear rise to the peak."},
    {FREE("schedule.warmup_ratio"), REAL(schedule_warmup_ratio, 0, 1), .fallback = "0",
     .meaning = "Share of run.steps that the rise takes, rounded up, where schedule.warmup is not given; 0: "
                "that default."},
    {FREE("schedule.decay"), WHOLE(schedule.decay, 0, FOREVER), .derived = "run.steps / 5 for wsd, else 0",
     .example = "0", .unit = "steps", .meaning = "Steps of the final decay (wsd only)."},

    {FIXED("train.precision"), ENUM(train.precision, dtype_names), .fallback = "bf16",
     .meaning = "Type of weights and activations in the passes. Masters and the summed gradient are always "
                "f32; moments are of optimizer.moments, partial sums of batch.wire."},
    {FREE("train.recompute"), ENUM(train.recompute, recompute_names), .fallback = "none",
     .meaning = "What the backward pass computes again instead of keeping it (docs/memory.md); no effect on "
                "the result. "
                "none; selective: outputs of norms and activation functions, which costs little; full: all "
                "of a layer "
                "but its input, which costs another forward pass."},
    {FIXED("train.head_rows"), WHOLE(train.head_rows, 0, INT32_MAX), .names = planned_names,
     .fallback = "auto", .unit = "rows",
     .meaning =
         "Rows of logits that are there at a time, in the loss and its gradient: more are faster on a GPU "
         "and take more memory. Part of the result. auto: the planner chooses once, when the run is created, "
         "and the number is recorded: 256, on a GPU up to a sixteenth of a microbatch's tokens "
         "(docs/memory.md). 0: a sixteenth, at least 256."},
    {FREE("train.z_loss"), REAL(train.z_loss, 0, 1), .fallback = "0",
     .meaning =
         "Coefficient of the z-loss (log Z)^2, which keeps logits small; 0: none. A usual value is 1e-4."},
    {FREE("train.on_nonfinite"), ENUM(train.on_nonfinite, nonfinite_names), .fallback = "stop",
     .meaning = "When a loss or gradient is not finite: stop; skip the step's update; or rollback: to the "
                "newest checkpoint at a multiple of checkpoint.every, else to the start, and on with later "
                "samples."},
    {FREE("train.eval_every"), WHOLE(train.eval_every, 0, FOREVER), .fallback = "0", .unit = "steps",
     .meaning = "Steps from one evaluation on held-out data to the next; 0: never."},
    {FREE("train.eval_batches"), WHOLE(train.eval_batches, 1, MILLION), .fallback = "16",
     .unit = "microbatches",
     .meaning =
         "Microbatches of an evaluation, evenly spread over the held-out data (all when it has fewer)."},
    {FREE("train.target_bits_per_byte"), REAL(train.target_bits_per_byte, 0, 64), .fallback = "0",
     .unit = "bits per byte",
     .meaning = "The run ends, with a checkpoint, when the whole held-out split costs less, which is looked "
                "at whenever an "
                "evaluation found less; 0: never."},

    {FREE("checkpoint.every"), WHOLE(checkpoint.every, 0, FOREVER), .fallback = "0", .unit = "steps",
     .meaning = "Steps from one checkpoint to the next; 0: not by steps."},
    {FREE("checkpoint.minutes"), REAL(checkpoint.minutes, 0, 1e6), .fallback = "30", .unit = "minutes",
     .meaning = "Wall time from one checkpoint to the next; 0: not by time."},
    {FREE("checkpoint.keep"), WHOLE(checkpoint.keep, 0, MILLION), .fallback = "3", .unit = "checkpoints",
     .meaning = "Newest checkpoints that are kept; 0: all. Besides these: keep_every, keep_best, and the "
                "newest at a "
                "multiple of checkpoint.every."},
    {FREE("checkpoint.keep_every"), WHOLE(checkpoint.keep_every, 0, FOREVER), .fallback = "0",
     .unit = "steps", .meaning = "Checkpoints at multiples of so many steps are kept for ever; 0: no such."},
    {FREE("checkpoint.keep_best"), WHOLE(checkpoint.keep_best, 0, MILLION), .fallback = "1",
     .unit = "checkpoints",
     .meaning = "Checkpoints with the lowest held-out loss that are kept; an evaluation (train.eval_every) "
                "that is among "
                "so many best ones makes a checkpoint; 0: no such."},
    {FREE("checkpoint.async"), BOOL(checkpoint.async), .fallback = "true",
     .meaning =
         "Training goes on while a checkpoint is written, for which a copy of this rank's weights and "
         "moments is kept in host memory (12 bytes a parameter, divided by the ranks). false: it waits."},
    {FREE("checkpoint.when_busy"), ENUM(checkpoint.when_busy, busy_names), .fallback = "wait",
     .meaning =
         "When a checkpoint is due and the one before is still being written: wait for it, or skip the new "
         "one. The checkpoint at a run's end or stop always waits."},

    {FREE("device.kernels"), ENUM(device.kernels, device_names), .fallback = "cpu",
     .meaning = "cpu: fast; cuda: NVIDIA GPUs, which the ranks of a node share in turn; auto: cuda where it "
                "works, else "
                "cpu; ref: the plain specification, very slow, for comparisons."},
    {FREE("device.level"), TEXT(device.level), .fallback = "null",
     .meaning =
         "Instruction-set level such as x86-64-v3 of cpu; null: the best one here. Results are the same bits "
         "within one level."},
    {FREE("device.threads"), WHOLE(device.threads, 0, 1024), .fallback = "0", .unit = "threads",
     .meaning = "CPU threads of a rank; 0: the node's cores divided by its ranks. No effect on the result."},
    {FREE("device.graphs"), BOOL(device.graphs), .fallback = "false",
     .meaning = "On a GPU: the kernels of a layer's pass are recorded once and launched together, as a CUDA "
                "graph, which is "
                "for models so small that launches take the time (docs/gpu.md); no effect on the result. "
                "Without a GPU it does "
                "nothing."},
    {FREE("device.attention_workspace"), WHOLE(device.attention_workspace, 0, MILLION), .fallback = "512",
     .unit = "MiB",
     .meaning =
         "On a GPU where cuDNN is installed: memory that its attention may take to add in one order, which "
         "grows with the square of data.seq_len (docs/gpu.md). Where it is not enough, and with 0, muster's "
         "own "
         "kernel serves, whose memory is linear. Chosen once, when a run begins, and recorded. Without a GPU "
         "it "
         "does nothing."},
    {FREE("device.leave_out"), BOOL(device.leave_out), .fallback = "true",
     .meaning = "When a rank's GPU breaks (its memory lost bits, its link failed, it is gone), the other "
                "ranks go on "
                "without it, from the newest checkpoint to the same bits (docs/gpu.md); false: the job ends. "
                "No effect on "
                "the result."},

    {FREE("network.interfaces"), TEXT(network.interfaces), .fallback = "null",
     .meaning =
         "Interfaces of rank 0's host over which the watchdog's heartbeats go: names or subnets, with "
         "commas between (\"ib0,10.1.0.0/16\"); null: those over which the hosts reach each other. MPI's "
         "own need a launcher's option (docs/watchdog.md)."},

    {FREE("watchdog.seconds"), REAL(watchdog.seconds, 0, 1e6), .fallback = "60", .unit = "seconds",
     .meaning =
         "How long a rank may be silent or make no progress before the whole job is ended: at least 1, or 0: "
         "for ever."},
};
const size_t config_key_count = sizeof config_keys / sizeof *config_keys;
_Static_assert(sizeof config_keys / sizeof *config_keys <= CONFIG_KEYS_MAX, "raise CONFIG_KEYS_MAX");
