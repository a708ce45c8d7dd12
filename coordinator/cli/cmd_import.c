/* muster import: a model in Hugging Face's layout as a checkpoint. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "converting.h"
#include "hashing.h"
#include "muster/config.h"
#include "muster/terminal.h"
#include "output.h"

static const cli_operand operands[] = {
    {.name = "DIR",
     .help = "the model: a folder with config.json, model.safetensors or its parts, tokenizer.json"},
    {0}};

static const cli_option options[] = {
    {.name = "output",
     .letter = 'o',
     .argument = "FILE.h5",
     .required = true,
     .help = "the new checkpoint; an older packed checkpoint is replaced only when the new one is complete"},
    CLI_THREADS_OPTION,
    {0}};

typedef struct job {
    cli_hashing hashing;
    cli_converting converting;
    mst_pack_options options;
    mst_hf *model;
    char *tokenizer, *companions, *config;
    mst_checkpoint_meta meta;
    mst_checkpoint_digests digests;
    size_t suspect; /* as mst_hf_suspect has it */
} job;

/* A config to begin with: the model is known, the rest is for the user to choose. Paths in it start nowhere, so that the
 * same model gives the same checkpoint on every machine. */
static mst_status make_config(job *j) {
    static const char start[] =
        "run: {name: imported, steps: 1000}\nmodel: {d_model: 2, n_layers: 1, n_heads: 1}\n"
        "data: {sources: [tokens.h5], seq_len: 1}\nschedule: {peak: 1e-5}\n";
    static const char comment[] =
        "# Of an imported model. Steps, data and learning rate are not its own: choose them.\n";
    mst_status status = MST_OK;
    mst_config config = {0};
    char *yaml = NULL;
    MST_TRY(mst_config_parse(start, "/import", NULL, 0, stderr, &config));
    config.model = *mst_hf_model(j->model);
    config.data.seq_len = config.model.max_seq_len < 4096 ? config.model.max_seq_len : 4096;
    config.train.precision = mst_hf_dtype_of(j->model) == MST_HF_F32 ? MST_F32 : MST_BF16;
    MST_TRY(mst_config_to_yaml(&config, &yaml));
    MST_CHECK(asprintf(&j->config, "%s%s", comment, yaml) >= 0, MST_ENOMEM, "import: out of memory");
done:
    free(yaml);
    mst_config_clear(&config);
    return status;
}

static mst_status read_beside(job *j, const mst_hf_notes *notes) {
    mst_status status = MST_OK;
    size_t bytes = 0;
    MST_TRY(mst_hf_tokenizer(j->model, &j->tokenizer, &bytes));
    if (j->tokenizer == NULL)
        notes->say(notes->context,
                   "there is no tokenizer.json: unless tokens are bytes, 'muster generate' asks for one");
    MST_TRY(mst_hf_companions(j->model, notes, &j->companions, &j->meta.companion_bytes));
    MST_TRY(make_config(j));
    j->meta.tokenizer = j->tokenizer;
    j->meta.companions = j->companions;
    j->meta.config = j->config;
done:
    return status;
}

static mst_status read_weights(void *context, size_t tensor, uint64_t first, uint64_t count,
                               float *values_out) {
    job *j = context;
    char text[MST_HF_SUSPECT_TEXT];
    const mst_status status = mst_hf_read(j->model, tensor, first, count, values_out);
    if (status == MST_OK && mst_hf_suspect(j->model, tensor, first, count, values_out, &j->suspect, text)) {
        cli_converting_end(&j->converting);
        fprintf(stderr, "warning: %s\n", text);
    }
    return status;
}

static mst_status make(void *context, const char *temporary) {
    job *j = context;
    const mst_weights_source source = {.context = j, .read = read_weights};
    const mst_status status = mst_checkpoint_pack_weights(
        &j->hashing.context, mst_hf_layout(j->model), &j->meta, &source, temporary, &j->options, &j->digests);
    cli_converting_end(&j->converting);
    return status;
}

static mst_status run(const cli_args *args) {
    static char run_id[] = "", device_class[] = "imported, not computed", versions[] = "muster " MST_VERSION;
    mst_status status = MST_OK;
    const char *output = cli_text(args, "output", NULL);
    job j = {.converting = {.verb = "importing", .live = mst_terminal_live(stderr)},
             .suspect = SIZE_MAX,
             .meta = {.run_id = run_id, .device_class = device_class, .versions = versions}};
    const mst_hf_notes notes = cli_converting_notes(&j.converting);
    j.options = (mst_pack_options){
        .weights_only = true, .progress = cli_converting_show, .progress_context = &j.converting};
    MST_TRY(cli_hashing_begin(args, &j.hashing));
    MST_TRY(cli_check_replaced(output));
    MST_TRY(mst_hf_open(cli_operands(args)[0], &notes, &j.model));
    j.meta.model = *mst_hf_model(j.model);
    MST_TRY(read_beside(&j, &notes));
    MST_TRY(cli_output_make(output, make, &j));
    printf("wrote %s: %s, %zu parameters, read as %s\n", output, mst_family_name(j.meta.model.family),
           mst_hf_layout(j.model)->parameters, mst_hf_dtype_name(mst_hf_dtype_of(j.model)));
    cli_print_digests(&j.digests, true);
done:
    mst_hf_close(&j.model);
    free(j.tokenizer);
    free(j.companions);
    free(j.config);
    cli_hashing_end(&j.hashing);
    return status;
}

const cli_command cli_import = {
    .name = "import",
    .summary = "a model in Hugging Face's layout as a checkpoint",
    .description =
        "Reads config.json and the .safetensors files (F32, F16, BF16) of GPT-2, Llama 2 and 3, SmolLM2,\n"
        "Mistral without a sliding window, Qwen 2, 2.5 and 3 (dense) and OLMo 2, and writes a packed\n"
        "checkpoint of the weights, in fp32, which is exact. Nothing is guessed: a field that is missing, "
        "or\n"
        "that muster does not know and that may change what the model computes, is refused by name.\n"
        "The other files of the folder (tokenizer, chat template, licence, ...) are kept inside, byte for\n"
        "byte, and come back with 'muster export'. To train on, set model.init to the checkpoint or to the\n"
        "folder itself.",
    .operands = operands,
    .options = options,
    .example = "muster import SmolLM2-135M -o smollm2.h5\nmuster generate smollm2.h5 --prompt 'The '",
    .run = run,
};
