/* muster verify: is every byte of a checkpoint what was written? */
#include <sched.h>

#include "commands.h"
#include "muster/checkpoint.h"

static const cli_operand operands[] = {
    {.name = "CKPT", .help = "a checkpoint folder, or a run folder: its newest checkpoint"}, {0}};

static const cli_option options[] = {
    {.name = "threads", .argument = "N", .help = "default: all cores that this process may use"}, {0}};

static uint64_t usable_cores(void) {
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) == 0 ? (uint64_t)CPU_COUNT(&cores) : 1;
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    mst_kernels kernels;
    mst_checkpoint_digests digests;
    mst_checkpoint_context context = {.kernels = &kernels};
    uint64_t threads = usable_cores();
    char path[4096], weights[MST_DIGEST_HEX], state[MST_DIGEST_HEX];
    MST_TRY(cli_whole(args, "threads", 1, 1024, &threads));
    MST_TRY(mst_checkpoint_resolve(cli_operands(args)[0], path));
    MST_TRY(mst_kernels_open(MST_DEVICE_CPU, NULL, &kernels));
    MST_TRY(mst_queue_create((int)threads, &context.queue));
    MST_TRY(mst_checkpoint_verify(&context, path, &digests));
    mst_digest_to_hex(&digests.weights, weights);
    mst_digest_to_hex(&digests.state, state);
    printf("weights %s  state %s\n", weights, state);
done:
    mst_queue_destroy(&context.queue);
    return status;
}

const cli_command cli_verify = {
    .name = "verify",
    .summary = "check every byte of a checkpoint and print its digests",
    .description = "Reads the whole checkpoint, compares everything with its digests and prints one line:\n"
                   "weights SHA256  state SHA256. They are digests of the tensors, whatever the number\n"
                   "of ranks that wrote them: the same state has the same line, and training prints\n"
                   "it too. A damaged file is named, with the tensor, and the exit code is 1.",
    .operands = operands,
    .options = options,
    .example = "muster verify runs/tiny-llama\nmuster verify runs/tiny-llama/checkpoints/step-00000100",
    .run = run,
};
