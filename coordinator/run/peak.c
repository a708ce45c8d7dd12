/* What a plan wants to know of this machine and of the data. */
#include "device.h"
#include "muster/run.h"
#include "muster/sources.h"

mst_status mst_run_peak(const mst_config *config, int node_rank, mst_peak *peak_out) {
    mst_status status = MST_OK;
    mst_comm *comm = NULL;
    run_device device = {0};
    MST_TRY(mst_comm_create_alone(&comm));
    MST_TRY(device_open(config, comm, node_rank, &device));
    *peak_out = (mst_peak){.gpu = device.kernels.memory > 0, .driver = (double)device.taken};
    MST_TRY(device_peak(&device, comm, NULL, config->train.precision, &peak_out->flops));
done:
    device_close(&device);
    mst_comm_destroy(&comm);
    return status;
}

mst_status mst_run_vocabulary(mst_config *config) {
    mst_status status = MST_OK;
    mst_data *data = NULL;
    if (config->model.vocab_size > 0) goto done;
    status = mst_sources_open(config, NULL, &data);
    if (status != MST_OK)
        MST_TRY(mst_error(MST_ECONFIG,
                          "model.vocab_size is not given, so the data would have to say it: %s; give it with "
                          "--set model.vocab_size=N",
                          mst_error_message()));
    config->model.vocab_size = mst_data_vocab(data);
done:
    mst_data_close(&data);
    return status;
}
