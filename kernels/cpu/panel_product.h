/* The matrix product of bf16 by panels that registers and caches hold: level x86-64-v4-bf16. Private to this folder. */
#ifndef MST_CPU_PANEL_PRODUCT_H
#define MST_CPU_PANEL_PRODUCT_H

#include "cpu.h"

#ifdef MST_LEVEL
/** Whether this level has a body for such a product; the arguments are valid, and no dimension is 0. */
bool MST_AT_LEVEL(mst_panel_product_takes)(const mst_matmul_args *args);

/** As mst_matmul_cpu, where mst_panel_product_takes it. */
mst_matmul_fn MST_AT_LEVEL(mst_panel_product);
#endif

#endif
