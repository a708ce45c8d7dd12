/* All bodies of one level. */
#include "cpu.h"

void MST_AT_LEVEL(mst_cpu_fill)(mst_kernels *table) {
    MST_AT_LEVEL(mst_cpu_fill_norm)(table);
    MST_AT_LEVEL(mst_cpu_fill_norm_grad)(table);
    MST_AT_LEVEL(mst_cpu_fill_rope)(table);
    MST_AT_LEVEL(mst_cpu_fill_row_product)(table);
    MST_AT_LEVEL(mst_cpu_fill_activation)(table);
    MST_AT_LEVEL(mst_cpu_fill_embedding)(table);
    MST_AT_LEVEL(mst_cpu_fill_attention)(table);
    MST_AT_LEVEL(mst_cpu_fill_cross_entropy)(table);
    MST_AT_LEVEL(mst_cpu_fill_ordered_sum)(table);
    MST_AT_LEVEL(mst_cpu_fill_adamw)(table);
    MST_AT_LEVEL(mst_cpu_fill_elements)(table);
}
