/* muster report: what a run did, as a page, as CSV or for TensorBoard. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "muster/report.h"

static const cli_operand operands[] = {{.name = "RUN", .help = "a run folder; the run may still be going"},
                                       {0}};

static const cli_option options[] = {
    {.name = "output",
     .argument = "FILE",
     .letter = 'o',
     .help =
         "where to; '-' is standard output; for tensorboard a folder. Default: report.html, metrics.csv or "
         "tensorboard in the run folder"},
    {.name = "format", .argument = "html|csv|tensorboard", .help = "default html"},
    {0}};

static const struct {
    const char *name, *file;
} formats[] = {
    [MST_REPORT_HTML] = {"html", "report.html"},
    [MST_REPORT_CSV] = {"csv", "metrics.csv"},
    [MST_REPORT_TENSORBOARD] = {"tensorboard", "tensorboard"},
};

static mst_status find_format(const char *name, mst_report_format *format_out) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, name) != 0) continue;
        *format_out = (mst_report_format)i;
        return MST_OK;
    }
    return mst_error(MST_ECONFIG, "report: --format: '%s' is none of html, csv, tensorboard", name);
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    const char *folder = cli_operands(args)[0], *output = cli_text(args, "output", NULL);
    mst_report_format format = MST_REPORT_HTML;
    char *otherwise = NULL;
    MST_TRY(find_format(cli_text(args, "format", "html"), &format));
    if (asprintf(&otherwise, "%s/%s", folder, formats[format].file) < 0) otherwise = NULL;
    MST_CHECK(otherwise != NULL, MST_ENOMEM, "report: no memory");
    if (output == NULL) output = otherwise;
    MST_TRY(mst_report_write(folder, format, output, stderr));
    if (strcmp(output, "-") != 0) printf("wrote %s\n", output);
done:
    free(otherwise);
    return status;
}

const cli_command cli_report = {
    .name = "report",
    .summary = "what a run did: a page with charts, CSV, or TensorBoard events",
    .description =
        "Writes one self-contained HTML page: loss and held-out curves, learning rate, gradient norm, speed, "
        "memory, checkpoints, restarts, config, device, data, samples. It needs no network, no server and no "
        "other file. Reading changes nothing in the run, which may still be going.",
    .operands = operands,
    .options = options,
    .example =
        "muster report runs/tiny-llama -o report.html\nmuster report runs/tiny-llama --format csv -o -\n"
        "muster report runs/tiny-llama --format tensorboard -o events/tiny",
    .run = run,
};
