/* muster inspect: what a checkpoint is, for a person. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "inspect_run.h"
#include "muster/checkpoint.h"

static const cli_operand operands[] = {{.name = "CKPT", .help = CLI_CKPT_HELP}, {0}};

static const cli_option options[] = {{.name = "tensors", .help = "list all tensors with their shapes"},
                                     {.name = "config", .help = "print only the config, as YAML"},
                                     {0}};

/* A text out of the file (UTF-8, but otherwise anything): control characters, also the two-byte ones that
 * some terminals obey, are not printed as they are. */
static void put_text(const char *text, const char *kept) {
    for (; *text != '\0'; text++) {
        const unsigned char byte = (unsigned char)*text, next = (unsigned char)text[1];
        bool control = iscntrl(byte) && strchr(kept, *text) == NULL;
        bool control_pair = byte == 0xc2 && next >= 0x80 && next < 0xa0;
        putchar(control || control_pair ? '?' : *text);
        if (control_pair) text++;
    }
}

static void put_line(const char *key, const char *text) {
    printf("%-14s ", key);
    put_text(text[0] != '\0' ? text : "(not said)", "");
    putchar('\n');
}

static void put_digest(const char *key, const mst_digest *digest) {
    char hex[MST_DIGEST_HEX];
    mst_digest_to_hex(digest, hex);
    put_line(key, hex);
}

/* 1234567 as "1,234,567". */
static const char *grouped(uint64_t number, char text[32]) {
    char plain[24];
    int length = snprintf(plain, sizeof plain, "%" PRIu64, number), at = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) text[at++] = ',';
        text[at++] = plain[i];
    }
    text[at] = '\0';
    return text;
}

static void put_model(const mst_manifest *manifest) {
    const mst_model_config *model = &manifest->meta.model;
    uint64_t parameters = 0;
    char number[32];
    for (size_t i = 0; i < manifest->tensor_count; i++) parameters += manifest->tensors[i].count;
    printf("%-14s %s, %zu layer%s, d_model %zu, %zu head%s", "model", mst_family_name(model->family),
           model->n_layers, model->n_layers == 1 ? "" : "s", model->d_model, model->n_heads,
           model->n_heads == 1 ? "" : "s");
    if (model->n_kv_heads != model->n_heads) printf(" (%zu for keys and values)", model->n_kv_heads);
    printf(", d_ff %zu, vocabulary %zu%s\n", model->d_ff, model->vocab_size,
           model->tie_embeddings ? ", tied embeddings" : "");
    if (manifest->meta.has_base) {
        char base[MST_DIGEST_HEX];
        mst_digest_to_hex(&manifest->meta.base, base);
        printf("%-14s of the model above with the weights %s\n", "adapters", base);
    }
    printf("%-14s %s in %zu tensors\n", "parameters", grouped(parameters, number), manifest->tensor_count);
}

static void put_progress(const mst_checkpoint_meta *meta) {
    char number[4][32];
    printf("%-14s %s (%s updates)\n", "step", grouped(meta->step, number[0]),
           grouped(meta->updates, number[1]));
    printf("%-14s %s tokens in %s samples\n", "trained on", grouped(meta->tokens, number[2]),
           grouped(meta->samples, number[3]));
    if (meta->heldout.valid == 0) return;
    printf("%-14s loss %.4f", "held out", meta->heldout.loss);
    if (isfinite(meta->heldout.bits_per_byte)) printf(", %.4f bits per byte", meta->heldout.bits_per_byte);
    printf(", over %s tokens\n", grouped(meta->heldout.valid, number[0]));
}

/* 15533341 as "14.8 MiB (15,533,341 bytes)". */
static void put_size(const char *key, uint64_t bytes) {
    char number[32];
    const bool large = bytes >= UINT64_C(1) << 30;
    printf("%-14s %.1f %s (%s bytes): ", key, (double)bytes / (large ? 1 << 30 : 1 << 20),
           large ? "GiB" : "MiB", grouped(bytes, number));
}

static void put_sizes(const mst_manifest *manifest) {
    if (manifest->packed) {
        put_size("size", manifest->shards[0].bytes);
        printf("one packed file%s\n",
               manifest->weights_only ? ", the weights alone: no optimizer state" : "");
        return;
    }
    const bool has_tokenizer = manifest->tokenizer.name[0] != '\0';
    const bool has_checksums = manifest->checksums.name[0] != '\0';
    uint64_t bytes = manifest->digests.bytes + manifest->checksums.bytes + manifest->model.bytes +
                     manifest->tokenizer.bytes + manifest->companions.bytes;
    for (size_t i = 0; i < manifest->shard_count; i++) bytes += manifest->shards[i].bytes;
    put_size("size", bytes);
    printf("%zu shard file%s, model.h5, digests.bin%s%s%s\n", manifest->shard_count,
           manifest->shard_count == 1 ? "" : "s", has_checksums ? ", checksums.bin" : "",
           has_tokenizer ? ", tokenizer.json" : "",
           manifest->companions.name[0] != '\0' ? ", huggingface.tar" : "");
}

static void put_tensors(const mst_manifest *manifest) {
    for (size_t i = 0; i < manifest->tensor_count; i++) {
        const mst_manifest_tensor *tensor = &manifest->tensors[i];
        char shape[64], number[32];
        int length = snprintf(shape, sizeof shape, "[%zu", tensor->shape[0]);
        if (tensor->dims == 2)
            length += snprintf(shape + length, sizeof shape - (size_t)length, ", %zu", tensor->shape[1]);
        snprintf(shape + length, sizeof shape - (size_t)length, "]");
        printf("  %-52s f32 %-18s %15s\n", tensor->name, shape, grouped(tensor->count, number));
    }
}

/* HDF5 shows NaN, without an error, where a source of model.h5 is missing. So look. */
static mst_status check_file(const char *path, const mst_manifest_file *file) {
    const bool packed = file->name[0] == '\0'; /* then the path is the file's */
    char name[4096 + MST_FILE_NAME_MAX];
    struct stat facts;
    snprintf(name, sizeof name, "%s%s%s", path, packed ? "" : "/", file->name);
    if (stat(name, &facts) != 0)
        return mst_error(
            MST_EIO,
            "%s is missing; where it is a shard file, model.h5 shows NaN in its place, without an error",
            name);
    if ((uint64_t)facts.st_size != file->bytes)
        return mst_error(MST_EFORMAT, "%s has %llu bytes, the manifest says %" PRIu64, name,
                         (unsigned long long)facts.st_size, file->bytes);
    return MST_OK;
}

/* The model that adapters adapt: there, of the weights that they name, and in its size. */
static mst_status check_base(const char *path, const mst_digest *weights) {
    mst_status status = MST_OK;
    mst_manifest base = {0};
    char file[4096];
    MST_TRY(mst_checkpoint_base(path, weights, file));
    MST_TRY(mst_manifest_read(file, &base));
    MST_TRY(check_file(file, &base.shards[0]));
    put_size("base", base.shards[0].bytes);
    puts(MST_BASE_NAME ", the model that is adapted, once in the run folder");
done:
    mst_manifest_clear(&base);
    return status;
}

/* Names every file that is missing or has another size; fails with the first. */
static mst_status check_files(const char *path, const mst_manifest *manifest) {
    const mst_manifest_file *others[] = {&manifest->digests, &manifest->checksums, &manifest->model,
                                         &manifest->tokenizer, &manifest->companions};
    const size_t other_count = manifest->packed ? 0 : sizeof others / sizeof *others;
    char first[512] = "";
    mst_status status = MST_OK;
    const size_t file_count = other_count + manifest->shard_count;
    for (size_t i = 0; i < file_count + (manifest->meta.has_base ? 1 : 0); i++) {
        const mst_manifest_file *file = i < other_count  ? others[i]
                                        : i < file_count ? &manifest->shards[i - other_count]
                                                         : NULL;
        if (i < other_count && file->name[0] == '\0')
            continue; /* an old checkpoint; bytes are tokens; not imported */
        mst_status found = file != NULL ? check_file(path, file) : check_base(path, &manifest->meta.base);
        if (found == MST_OK) continue;
        put_line(status == MST_OK ? "files" : "", mst_error_message());
        if (status != MST_OK) continue;
        status = found;
        snprintf(first, sizeof first, "%s", mst_error_message());
    }
    if (status != MST_OK) return mst_error(status, "%s", first);
    put_line("files", "all there, in the right size (contents: muster verify)");
    return MST_OK;
}

static mst_status inspect(const cli_args *args, const char *path) {
    mst_status status = MST_OK;
    mst_manifest manifest = {0};
    MST_TRY(mst_manifest_read(path, &manifest));
    if (cli_flag(args, "config")) {
        put_text(manifest.meta.config, "\n\t");
        goto done;
    }
    put_line("checkpoint", path);
    const bool imported = manifest.meta.run_id[0] == '\0'; /* then no run has a state or data */
    put_line("run", imported ? "none: imported" : manifest.meta.run_id);
    put_model(&manifest);
    put_progress(&manifest.meta);
    put_digest("weights", &manifest.kinds[MST_KIND_MASTER]);
    if (!imported) put_digest(manifest.weights_only ? "packed from" : "state", &manifest.state);
    if (!imported) put_digest("data", &manifest.meta.data);
    if (manifest.tokenizer.name[0] != '\0') put_digest("tokenizer", &manifest.tokenizer.digest);
    put_line("device class", manifest.meta.device_class);
    put_line("versions", manifest.meta.versions);
    put_sizes(&manifest);
    MST_TRY(check_files(path, &manifest));
    if (cli_flag(args, "tensors")) put_tensors(&manifest);
done:
    mst_manifest_clear(&manifest);
    return status;
}

/* Of a run folder the rest is shown also where its newest checkpoint is damaged. */
static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    const char *given = cli_operands(args)[0];
    char path[4096], message[2048];
    MST_TRY(mst_checkpoint_resolve(given, path));
    status = inspect(args, path);
    if (strcmp(path, given) == 0 || cli_flag(args, "config")) goto done;
    snprintf(message, sizeof message, "%s", mst_error_message());
    const mst_status listed = inspect_run(given);
    status = status != MST_OK ? mst_error(status, "%s", message) : listed;
done:
    return status;
}

const cli_command cli_inspect = {
    .name = "inspect",
    .summary = "what a checkpoint is: model, step, digests, files, tensors",
    .description =
        "Prints what the checkpoint's manifest says, and looks whether its files are there in\n"
        "their size. To see the numbers, open model.h5, or a packed checkpoint, with h5py, h5dump\n"
        "or HDFView: it shows every tensor whole, under its Hugging Face name. Of a run folder it\n"
        "also lists all checkpoints with their held-out losses, and says who trains there now.",
    .operands = operands,
    .options = options,
    .example =
        "muster inspect runs/tiny-llama --tensors\nmuster inspect runs/tiny-llama --config > again.yaml",
    .run = run,
};
