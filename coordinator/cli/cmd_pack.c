/* muster pack: a checkpoint as one file. */
#include <inttypes.h>

#include "commands.h"
#include "hashing.h"
#include "muster/terminal.h"
#include "output.h"

static const cli_operand operands[] = {{.name = "CKPT", .help = CLI_CKPT_HELP}, {0}};

static const cli_option options[] = {
    {.name = "output",
     .letter = 'o',
     .argument = "FILE.h5",
     .required = true,
     .help = "the new file; an older packed checkpoint is replaced only when the new one is complete"},
    {.name = "weights-only",
     .help = "leave out the optimizer's state: a third of the size, and no training can go on from it"},
    CLI_THREADS_OPTION,
    {0}};

typedef struct job {
    char source[4096];
    cli_hashing hashing;
    mst_pack_options options;
    mst_checkpoint_digests digests;
    unsigned percent; /* that was shown last */
    bool live;        /* there is a terminal to show it on */
} job;

static void show(void *context, uint64_t done, uint64_t all) {
    job *j = context;
    const unsigned percent = (unsigned)((double)done / (double)all * 100);
    if (!j->live || percent == j->percent) return;
    j->percent = percent;
    fprintf(stderr, "\r\033[Kpacking %u%%", percent);
}

static mst_status make(void *context, const char *temporary) {
    job *j = context;
    mst_status status =
        mst_checkpoint_pack(&j->hashing.context, j->source, temporary, &j->options, &j->digests);
    if (j->live) fputs("\r\033[K", stderr);
    return status;
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    const char *output = cli_text(args, "output", NULL);
    job j = {.live = mst_terminal_live(stderr)};
    j.options = (mst_pack_options){
        .weights_only = cli_flag(args, "weights-only"), .progress = show, .progress_context = &j};
    mst_manifest packed = {0};
    MST_TRY(cli_hashing_begin(args, &j.hashing));
    MST_TRY(mst_checkpoint_resolve(cli_operands(args)[0], j.source));
    MST_TRY(cli_check_replaced(output));
    MST_TRY(cli_output_make(output, make, &j));
    MST_TRY(mst_manifest_read(output, &packed));
    printf("wrote %s, %" PRIu64 " bytes\n", output, packed.shards[0].bytes);
    cli_print_digests(&j.digests, packed.weights_only);
done:
    mst_manifest_clear(&packed);
    cli_hashing_end(&j.hashing);
    return status;
}

const cli_command cli_pack = {
    .name = "pack",
    .summary = "one file of a checkpoint, to share or to keep",
    .description =
        "Copies a checkpoint into one HDF5 file that needs no other: every tensor whole under its Hugging\n"
        "Face name, for h5py, h5dump and HDFView, with the tokenizer, the config and all digests. All that\n"
        "is copied is verified, and so is the new file. The same state gives the same file, on however many\n"
        "ranks it was written. Wherever muster takes a CKPT it takes this file, too.",
    .operands = operands,
    .options = options,
    .example = "muster pack runs/tiny-llama -o tiny.h5\n"
               "muster pack runs/tiny-llama/checkpoints/step-00000100 -o weights.h5 --weights-only",
    .run = run,
};
