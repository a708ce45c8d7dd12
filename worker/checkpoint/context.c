#include "context.h"

mst_status(ckpt_agree)(const mst_checkpoint_context *context, mst_status mine) {
    ckpt_report(context, true);
    mst_status status = mst_comm_agree(context->comm, mine);
    ckpt_report(context, false);
    return status;
}

mst_status ckpt_all(const mst_checkpoint_context *context, bool mine, bool *all_out) {
    ckpt_report(context, true);
    mst_status status = mst_comm_all(context->comm, mine, all_out);
    ckpt_report(context, false);
    return status;
}

mst_status ckpt_broadcast(const mst_checkpoint_context *context, void *bytes, size_t size) {
    ckpt_report(context, true);
    mst_status status = mst_comm_broadcast(context->comm, 0, bytes, size);
    ckpt_report(context, false);
    return status;
}

mst_status ckpt_gather(const mst_checkpoint_context *context, const void *mine, const size_t *bytes_of,
                       void *all_out) {
    ckpt_report(context, true);
    mst_status status = mst_comm_gather(context->comm, mine, bytes_of, all_out);
    ckpt_report(context, false);
    return status;
}

mst_status ckpt_barrier(const mst_checkpoint_context *context) {
    ckpt_report(context, true);
    mst_status status = mst_comm_barrier(context->comm);
    ckpt_report(context, false);
    return status;
}
