/* What the backward pass computes again it computes to the same bits, and a model that keeps less takes less memory. */
#include "model_fixture.h"

static const uint64_t seed = 41;

/* Two passes, so that the second meets what the first left in the buffers. */
static void train(fixture *f, mst_loss *loss_out) {
    CHECK_OK(fixture_train(f, 1, 1e-4, loss_out));
    CHECK_OK(fixture_train(f, 0.5, 0, loss_out));
}

static void check(mst_family_id family, mst_dtype dtype, mst_device device, size_t layers) {
    fixture kept;
    mst_model_config config = fixture_config(family, layers, 4, 2);
    mst_model_options options = {.dtype = dtype, .micro = 2, .seq_len = 33};
    mst_loss expected = {0};
    size_t before;
    fixture_init(&kept, &config, &options, device, 2, seed);
    train(&kept, &expected);
    CHECK(isfinite(expected.loss), "the loss is not finite");
    before = mst_model_bytes(kept.model);
    for (options.recompute = MST_RECOMPUTE_SELECTIVE; options.recompute <= MST_RECOMPUTE_FULL;
         options.recompute++) {
        fixture f;
        mst_loss loss = {0};
        size_t planned = 0, pinned = 0;
        fixture_init(&f, &config, &options, device, 2, seed);
        train(&f, &loss);
        CHECK(memcmp(&loss, &expected, sizeof loss) == 0, "%s %s recompute %d: loss %.17g, not %.17g",
              mst_family_name(family), mst_dtype_name(dtype), (int)options.recompute, loss.loss,
              expected.loss);
        for (size_t u = 0; u < f.layout.unit_count; u++)
            CHECK(memcmp(f.gradients[u], kept.gradients[u],
                         f.layout.units[u].blocks * MST_BLOCK * mst_dtype_size(mst_dtype_acc(dtype))) == 0,
                  "%s %s recompute %d: gradient of unit %zu", mst_family_name(family), mst_dtype_name(dtype),
                  (int)options.recompute, u);
        const size_t bytes = mst_model_bytes(f.model);
        CHECK_OK(mst_model_bytes_of(&config, &f.layout, &options, &planned, &pinned));
        CHECK(bytes == planned, "%zu bytes, planned %zu", bytes, planned);
        CHECK(pinned >= 2 * 5 * 2 * 33 * sizeof(float), "%zu pinned bytes where memory is apart", pinned);
        CHECK(layers == 1 ? bytes == before : bytes < before, "recompute %d takes %zu bytes, less takes %zu",
              (int)options.recompute, bytes, before);
        before = bytes;
        fixture_clear(&f);
    }
    fixture_clear(&kept);
}

int main(void) {
    for (mst_family_id family = 0; family < MST_FAMILY_COUNT; family++) {
        check(family, MST_F32, MST_DEVICE_CPU, 3);
        check(family, MST_BF16, MST_DEVICE_CPU, 4);
        check(family, MST_BF16, MST_DEVICE_CPU, 1);
        check(family, MST_F64, MST_DEVICE_REF, 3);
    }
    return test_finish("test_model_recompute");
}
