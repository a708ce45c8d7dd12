/* muster verify: is every byte of a checkpoint what was written? */
#include "commands.h"
#include "hashing.h"

static const cli_operand operands[] = {{.name = "CKPT", .help = CLI_CKPT_HELP}, {0}};

static const cli_option options[] = {CLI_THREADS_OPTION, {0}};

/* The model that adapters adapt: of the weights that their manifest names, which are verified with the rest of it. */
static mst_status verify_base(const cli_hashing *hashing, const char *path, const mst_manifest *manifest) {
    mst_status status = MST_OK;
    mst_checkpoint_digests digests;
    char base[4096];
    if (!manifest->meta.has_base) goto done;
    MST_TRY(mst_checkpoint_base(path, &manifest->meta.base, base));
    MST_TRY(mst_checkpoint_verify(&hashing->context, base, &digests));
done:
    return status;
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    cli_hashing hashing;
    mst_manifest manifest = {0};
    mst_checkpoint_digests digests;
    char path[4096];
    MST_TRY(cli_hashing_begin(args, &hashing));
    MST_TRY(mst_checkpoint_resolve(cli_operands(args)[0], path));
    MST_TRY(mst_checkpoint_verify(&hashing.context, path, &digests));
    MST_TRY(mst_manifest_read(path, &manifest));
    MST_TRY(verify_base(&hashing, path, &manifest));
    cli_print_digests(&digests, manifest.weights_only);
done:
    mst_manifest_clear(&manifest);
    cli_hashing_end(&hashing);
    return status;
}

const cli_command cli_verify = {
    .name = "verify",
    .summary = "check every byte of a checkpoint and print its digests",
    .description =
        "Reads the whole checkpoint, compares everything with its digests and prints one line:\n"
        "weights SHA256  state SHA256. They are digests of the tensors, whatever the number\n"
        "of ranks that wrote them: the same state has the same line, and training prints\n"
        "it too. Of adapters the model that they adapt, " MST_BASE_NAME " of the run folder, is read, too.\n"
        "A damaged file is named, with the tensor, and the exit code is 1.",
    .operands = operands,
    .options = options,
    .example = "muster verify runs/tiny-llama\nmuster verify runs/tiny-llama/checkpoints/step-00000100",
    .run = run,
};
