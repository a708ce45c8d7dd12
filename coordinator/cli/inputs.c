#include "inputs.h"

const cli_operand cli_input_operands[] = {
    {.name = "INPUT", .help = "a file, or a folder to search", .many = true},
    {0},
};

mst_status cli_inputs(const cli_args *args, mst_build_options *options_out) {
    mst_status status = MST_OK;
    *options_out = (mst_build_options){.inputs = cli_operands(args),
                                       .input_count = cli_operand_count(args),
                                       .glob = cli_text(args, "glob", NULL),
                                       .text_field = cli_text(args, "field", NULL),
                                       .output = cli_text(args, "output", NULL),
                                       .heldout_fraction = 0.01};
    MST_TRY(cli_real(args, "heldout", 0, 0.5, &options_out->heldout_fraction));
    MST_TRY(cli_whole(args, "seed", 0, UINT64_MAX, &options_out->seed));
done:
    return status;
}
