#include "hashing.h"

#include <sched.h>
#include <unistd.h>

#include "output.h"

static uint64_t usable_cores(void) {
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) == 0 ? (uint64_t)CPU_COUNT(&cores) : 1;
}

mst_status cli_hashing_begin(const cli_args *args, cli_hashing *hashing_out) {
    mst_status status = MST_OK;
    uint64_t threads = usable_cores();
    *hashing_out = (cli_hashing){.context = {.kernels = &hashing_out->kernels}};
    MST_TRY(cli_whole(args, "threads", 1, 1024, &threads));
    MST_TRY(mst_kernels_open(MST_DEVICE_CPU, NULL, &hashing_out->kernels));
    MST_TRY(mst_queue_create((int)threads, &hashing_out->context.queue));
done:
    return status;
}

void cli_hashing_end(cli_hashing *hashing) {
    mst_queue_destroy(&hashing->context.queue);
}

mst_status cli_check_replaced(const char *output) {
    mst_status status = MST_OK;
    mst_manifest there = {0};
    MST_TRY(cli_output_check(output));
    if (access(output, F_OK) != 0) goto done;
    MST_CHECK(mst_manifest_read(output, &there) == MST_OK, MST_ECONFIG,
              "the output '%s' is there and is no packed checkpoint; name another", output);
done:
    mst_manifest_clear(&there);
    return status;
}

void cli_print_digests(const mst_checkpoint_digests *digests, bool weights_only) {
    char weights[MST_DIGEST_HEX], state[MST_DIGEST_HEX];
    mst_digest_to_hex(&digests->weights, weights);
    mst_digest_to_hex(&digests->state, state);
    if (weights_only)
        printf("weights %s  (the weights alone: no optimizer state)\n", weights);
    else
        printf("weights %s  state %s\n", weights, state);
}
