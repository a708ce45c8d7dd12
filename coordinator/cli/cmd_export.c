/* muster export: a checkpoint's model in Hugging Face's layout. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "converting.h"
#include "hashing.h"
#include "muster/config.h"
#include "muster/files.h"
#include "muster/report.h"
#include "muster/terminal.h"
#include "muster/units.h"
#include "output.h"

static const cli_operand operands[] = {{.name = "CKPT", .help = CLI_CKPT_HELP}, {0}};

static const cli_option options[] = {
    {.name = "output", .letter = 'o', .argument = "DIR", .required = true, .help = "the new folder"},
    {.name = "dtype",
     .argument = "f32|f16|bf16",
     .help = "type of the weights; default: that of the imported model, else the precision of training"},
    {.name = "shard-size",
     .argument = "SIZE",
     .help = "largest weight file, such as 2GiB; default 4GiB. More than one gets an index"},
    {.name = "adapter",
     .help = "of a run that trains adapters: these alone, in PEFT's layout; without, they are merged into "
             "the model"},
    {.name = "base",
     .argument = "NAME",
     .help = "with --adapter: name or path of the model that they adapt, for adapter_config.json; default: "
             "model.init"},
    CLI_THREADS_OPTION,
    {0}};

typedef struct job {
    char source[4096];
    cli_hashing hashing;
    cli_converting converting;
    mst_export_options options;
    mst_export_adapters adapters;
    char base[4096]; /* the model that adapters adapt */
    mst_config config;
    char *losses;
} job;

static mst_status show(void *context, uint64_t done, uint64_t all) {
    cli_converting_show(context, done, all);
    return cli_output_interrupted();
}

static mst_status make(void *context, const char *temporary) {
    job *j = context;
    const mst_status status = mst_hf_export(&j->hashing.context, j->source, temporary, &j->options);
    cli_converting_end(&j->converting);
    return status;
}

static mst_status read_dtype(const cli_args *args, mst_hf_dtype *dtype_out, const mst_hf_dtype **given_out) {
    mst_status status = MST_OK;
    const char *name = cli_text(args, "dtype", NULL);
    int i = 0;
    *given_out = NULL;
    if (name == NULL) goto done;
    while (i < MST_HF_DTYPES && strcmp(name, mst_hf_dtype_name((mst_hf_dtype)i)) != 0) i++;
    MST_CHECK(i < MST_HF_DTYPES, MST_ECONFIG, "--dtype: '%s' is none of f32, f16 and bf16", name);
    *dtype_out = (mst_hf_dtype)i;
    *given_out = dtype_out;
done:
    return status;
}

static mst_status read_size(const cli_args *args, uint64_t *bytes_out) {
    mst_status status = MST_OK;
    double bytes = 0;
    MST_TRY(
        mst_quantity_parse(MST_QUANTITY_BYTES, "--shard-size", cli_text(args, "shard-size", "4GiB"), &bytes));
    *bytes_out = bytes < 0x1p62 ? (uint64_t)bytes : UINT64_C(1) << 62;
done:
    return status;
}

/* How adapters are exported; that there are none, where the user asks for them. */
static mst_status look_at_adapters(job *j, const cli_args *args, const mst_checkpoint_meta *meta) {
    mst_status status = MST_OK;
    const char *name = cli_text(args, "base", NULL);
    mst_export_adapters *a = &j->adapters;
    mst_lora lora;
    MST_CHECK(meta->has_base || !cli_flag(args, "adapter"), MST_ECONFIG,
              "--adapter: %s holds a model, and no adapters", j->source);
    MST_CHECK(name == NULL || cli_flag(args, "adapter"), MST_ECONFIG,
              "--base is for adapters alone: give --adapter, too");
    MST_CHECK(name == NULL || name[0] != '\0', MST_ECONFIG, "--base is empty; give a name or path");
    MST_CHECK(cli_text(args, "shard-size", NULL) == NULL || !cli_flag(args, "adapter"), MST_ECONFIG,
              "--shard-size is for a model: PEFT reads adapters from one file");
    if (!meta->has_base) goto done;
    MST_TRY(mst_config_held_lora(&j->config, j->source, &lora));
    *a = (mst_export_adapters){.apart = cli_flag(args, "adapter"),
                               .base = j->base,
                               .base_name = name != NULL ? name : j->config.init,
                               .lora = lora,
                               .targets = j->config.lora.targets,
                               .alpha = j->config.lora.alpha,
                               .rslora = j->config.lora.rslora};
    MST_TRY(mst_checkpoint_base(j->source, &meta->base, j->base));
    j->options.adapters = a;
done:
    return status;
}

/* The passes' precision; adapters; and the losses of the run, where the checkpoint lies in its folder. */
static mst_status look_at_run(job *j, const cli_args *args) {
    mst_status status = MST_OK;
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests digests;
    char *folder = NULL, *run = NULL;
    MST_TRY(mst_checkpoint_open(j->source, &meta, &digests));
    MST_TRY(mst_config_parse(meta.config, j->source, NULL, 0, stderr, &j->config));
    j->options.fallback = j->config.train.precision == MST_BF16 ? MST_HF_BF16 : MST_HF_F32;
    MST_TRY(look_at_adapters(j, args, &meta));
    MST_TRY(mst_folder_of(j->source, &folder)); /* RUN/checkpoints */
    MST_TRY(mst_folder_of(folder, &run));
    if (strcmp(mst_base_name(folder), "checkpoints") == 0)
        MST_TRY(mst_report_losses(run, meta.step, &j->losses));
    j->options.losses = j->losses;
done:
    free(folder);
    free(run);
    mst_checkpoint_meta_clear(&meta);
    return status;
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    const char *output = cli_text(args, "output", NULL);
    mst_hf_dtype dtype;
    job j = {.converting = {.verb = "exporting", .live = mst_terminal_live(stderr)}};
    j.options = (mst_export_options){.name = mst_base_name(output),
                                     .notes = cli_converting_notes(&j.converting),
                                     .progress = show,
                                     .progress_context = &j.converting};
    MST_TRY(cli_hashing_begin(args, &j.hashing));
    MST_TRY(read_dtype(args, &dtype, &j.options.dtype));
    MST_TRY(read_size(args, &j.options.shard_bytes));
    MST_TRY(cli_output_folder_check(output));
    MST_TRY(mst_checkpoint_resolve(cli_operands(args)[0], j.source));
    MST_TRY(look_at_run(&j, args));
    MST_TRY(cli_output_make_folder(output, make, &j));
    printf("wrote %s\n", output);
done:
    free(j.losses);
    mst_config_clear(&j.config);
    cli_hashing_end(&j.hashing);
    return status;
}

const cli_command cli_export = {
    .name = "export",
    .summary = "a checkpoint's model in Hugging Face's layout",
    .description =
        "Writes a new folder that transformers' from_pretrained and other readers of that layout load:\n"
        "config.json, .safetensors files, tokenizer.json, what came with an imported model byte for byte,\n"
        "and a model card, README.md, with what is known of the training. Every weight is verified against\n"
        "its digest. The folder appears whole or not at all. Adapters (LoRA) are merged into the model that "
        "they\n"
        "adapt, or with --adapter written alone, as PEFT's PeftModel.from_pretrained loads them.",
    .operands = operands,
    .options = options,
    .example = "muster export runs/tiny-llama -o tiny-llama-hf\n"
               "muster export smollm2.h5 -o smollm2-f32 --dtype f32 --shard-size 500MB",
    .run = run,
};
