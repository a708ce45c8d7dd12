/* muster plan: what a run would take, without a cluster. */
#include "commands.h"
#include "muster/plan.h"
#include "muster/run.h"
#include "muster/sources.h"
#include "muster/units.h"

static const cli_operand operands[] = {{.name = "CONFIG.yaml", .help = "the config of the run"}, {0}};

static const cli_option options[] = {
    {.name = "ranks", .argument = "N", .help = "default: one a node"},
    {.name = "nodes", .argument = "M", .help = "default 1"},
    {.name = "memory",
     .argument = "SIZE",
     .help = "of a node, or with device.kernels: cuda of a GPU, such as 24GiB; default: not compared"},
    {.name = "flops",
     .argument = "RATE",
     .help = "what large matrix products reach on one rank, such as 450e9 or 2TFLOP/s; default: measured "
             "here, the "
             "cores of this machine divided by the ranks of a node"},
    {.name = "utilisation",
     .argument = "SHARE",
     .help = "of that, what a whole step reaches: metrics.jsonl of a run has it as peak_share; default 80%"},
    {.name = "bandwidth",
     .argument = "RATE",
     .help = "of a node's link, each way, such as 25Gb/s; default 10Gb/s"},
    {.name = "latency", .argument = "TIME", .help = "of a message between nodes, such as 5us; default 20us"},
    {.name = "disk",
     .argument = "RATE",
     .help = "of the checkpoints' file system, such as 2GB/s; default 500MB/s"},
    {.name = "set", .argument = "KEY=VALUE", .repeated = true, .help = "as for muster train"},
    {.name = "json", .help = "print one line of JSON, in bytes, bytes/s and seconds"},
    {0}};

static mst_status quantity(const cli_args *args, const char *name, mst_quantity kind, double *value) {
    char what[64];
    const char *given = cli_text(args, name, NULL);
    snprintf(what, sizeof what, "plan: --%s", name);
    return given != NULL ? mst_quantity_parse(kind, what, given, value) : MST_OK;
}

static mst_status read_machine(const cli_args *args, mst_machine *machine_out) {
    mst_status status = MST_OK;
    uint64_t nodes = 1, ranks = 0;
    mst_machine m = {.utilisation = MST_PLAN_UTILISATION,
                     .bandwidth = 10e9 / 8,
                     .latency = 20e-6,
                     .disk = 500e6,
                     .driver = MST_PLAN_DRIVER};
    MST_TRY(cli_whole(args, "nodes", 1, 4096, &nodes));
    ranks = nodes;
    MST_TRY(cli_whole(args, "ranks", 1, 4096, &ranks));
    m.ranks = (int)ranks;
    m.nodes = (int)nodes;
    MST_TRY(quantity(args, "memory", MST_QUANTITY_BYTES, &m.memory));
    MST_TRY(quantity(args, "flops", MST_QUANTITY_FLOPS, &m.flops));
    MST_TRY(quantity(args, "utilisation", MST_QUANTITY_SHARE, &m.utilisation));
    MST_TRY(quantity(args, "bandwidth", MST_QUANTITY_LINK, &m.bandwidth));
    MST_TRY(quantity(args, "latency", MST_QUANTITY_SECONDS, &m.latency));
    MST_TRY(quantity(args, "disk", MST_QUANTITY_RATE, &m.disk));
    *machine_out = m;
done:
    return status;
}

/*
 * Without --flops, this machine stands for a node, and its cores are divided by the node's ranks; of its GPUs each rank has
 * one. A device that is left open is the one that a run would take here.
 */
static mst_status measure(mst_config *config, mst_machine *machine) {
    mst_status status = MST_OK;
    const int on_a_node = (machine->ranks + machine->nodes - 1) / machine->nodes;
    mst_peak peak;
    status = mst_run_peak(config, 0, &peak);
    if (status == MST_ECONFIG)
        status =
            mst_error(status, "plan: %s; or give --flops, to plan for what is not here", mst_error_message());
    MST_TRY(status);
    MST_CHECK(peak.flops > 0, MST_ECONFIG,
              "plan: reference kernels are not measured (device.kernels), nor where memory is too short; "
              "give --flops");
    if (peak.driver > 0) machine->driver = peak.driver;
    if (peak.gpu) config->device.kernels = MST_DEVICE_CUDA;
    machine->flops = peak.gpu || config->device.threads > 0 ? peak.flops : peak.flops / on_a_node;
done:
    return status;
}

/* run.epochs can be planned with without the data, too; then the plan does not know the steps. */
static mst_status count_steps(mst_config *config) {
    for (size_t i = 0; i < config->data.source_count; i++)
        if (!mst_data_is_there(config->data.sources[i].path)) return MST_OK;
    return mst_sources_count_steps(config);
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    const char *const *overrides;
    const size_t count = cli_texts(args, "set", &overrides);
    mst_config config = {0};
    mst_machine machine;
    mst_plan plan;
    mst_plan_advice advice[MST_PLAN_ADVICE_MAX];
    size_t advised = 0;
    MST_TRY(read_machine(args, &machine));
    MST_TRY(mst_config_load(cli_operands(args)[0], overrides, count, stderr, &config));
    MST_TRY(mst_run_vocabulary(&config));
    MST_TRY(count_steps(&config));
    const char *source = machine.flops > 0 ? "declared" : "measured here";
    if (machine.flops == 0) MST_TRY(measure(&config, &machine));
    MST_TRY(mst_plan_make(&config, &machine, &plan));
    MST_TRY(mst_plan_advise(&config, &plan, advice, &advised));
    if (cli_flag(args, "json"))
        MST_TRY(mst_plan_print_json(&plan, &config, source, advice, advised, stdout));
    else
        mst_plan_print(&plan, &config, source, advice, advised, stdout);
    MST_CHECK(plan.fits, MST_ENOMEM, "plan: %s does not fit into --memory", cli_operands(args)[0]);
done:
    mst_config_clear(&config);
    return status;
}

const cli_command cli_plan = {
    .name = "plan",
    .summary = "what a run would take, and whether it fits, without a cluster",
    .description =
        "From the config alone: memory of a rank by purpose, seconds of computing and of the exchange\n"
        "between nodes (what is hidden behind backward), checkpoints, tokens a day, the time to finish.\n"
        "Ends with 0 when it fits, 1 when it does not, 2 for a wrong command or config. docs/plan.md has\n"
        "the formulas.",
    .operands = operands,
    .options = options,
    .example = "muster plan configs/gpt2-124m.yaml --ranks 8 --nodes 2 --memory 24GiB --bandwidth 25Gb/s",
    .run = run,
};
