/* Which instruction-set levels there are, and which of them work here. */
#include "level.h"

#include <stdio.h>

#include "cpu.h"
#include "matmul.h"

/* Of the arithmetic of the bodies: raised where a change of theirs changes bits, so that a run that goes on says so. */
enum { REVISION = 3 };

/* What a level needs, as bits of CPUID leaves and of XCR0 (the registers that the operating system saves). */
typedef struct cpu_features {
    unsigned leaf1_ecx, leaf7_ebx, leaf7_1_eax, extended1_ecx;
    unsigned xcr0;
} cpu_features;

typedef struct cpu_level {
    const char *name;
    mst_cpu_fill_fn *fill;
    cpu_features needs; /* besides those of the levels before it */
} cpu_level;

#ifdef MST_X86
#include <cpuid.h>

mst_cpu_fill_fn mst_cpu_fill_x86_64_v2, mst_cpu_fill_x86_64_v3, mst_cpu_fill_x86_64_v4,
    mst_cpu_fill_x86_64_v4_bf16;

enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe6 }; /* xmm and ymm; opmask and zmm too */

/* The levels of the x86-64 psABI, from low to high, and the last one with products of bf16. */
static const cpu_level levels[] = {
    {"x86-64-v2",
     mst_cpu_fill_x86_64_v2,
     {.leaf1_ecx = bit_SSE3 | bit_SSSE3 | bit_CMPXCHG16B | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT,
      .extended1_ecx = bit_LAHF_LM}},
    {"x86-64-v3",
     mst_cpu_fill_x86_64_v3,
     {.leaf1_ecx = bit_FMA | bit_MOVBE | bit_OSXSAVE | bit_AVX | bit_F16C,
      .leaf7_ebx = bit_BMI | bit_AVX2 | bit_BMI2,
      .extended1_ecx = bit_LZCNT,
      .xcr0 = XCR0_AVX}},
    {"x86-64-v4",
     mst_cpu_fill_x86_64_v4,
     {.leaf7_ebx = (unsigned)bit_AVX512F | bit_AVX512DQ | bit_AVX512CD | bit_AVX512BW | bit_AVX512VL,
      .xcr0 = XCR0_AVX512}},
    {"x86-64-v4-bf16", mst_cpu_fill_x86_64_v4_bf16, {.leaf7_1_eax = bit_AVX512BF16}},
};

static cpu_features features_here(void) {
    cpu_features here = {0};
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) here.leaf1_ecx = ecx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
        here.leaf7_ebx = ebx;
        if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) here.leaf7_1_eax = eax;
    }
    if (__get_cpuid(0x80000001u, &eax, &ebx, &ecx, &edx)) here.extended1_ecx = ecx;
    if (here.leaf1_ecx & bit_OSXSAVE) __asm__("xgetbv" : "=a"(here.xcr0) : "c"(0) : "edx");
    return here;
}
#else
mst_cpu_fill_fn mst_cpu_fill_generic;

static const cpu_level levels[] = {{"generic", mst_cpu_fill_generic, {0}}};

static cpu_features features_here(void) {
    return (cpu_features){0};
}
#endif

enum { LEVELS = sizeof levels / sizeof levels[0] };

static bool has(cpu_features here, cpu_features needs) {
    return (needs.leaf1_ecx & ~here.leaf1_ecx) == 0 && (needs.leaf7_ebx & ~here.leaf7_ebx) == 0 &&
           (needs.leaf7_1_eax & ~here.leaf7_1_eax) == 0 && (needs.extended1_ecx & ~here.extended1_ecx) == 0 &&
           (needs.xcr0 & ~here.xcr0) == 0;
}

/** How many levels, from the lowest on, work here. */
static size_t levels_here(void) {
    cpu_features here = features_here();
    size_t count = 0;
    while (count < LEVELS && has(here, levels[count].needs)) count++;
    return count;
}

static mst_status level_find(const char *name, const cpu_level **level_out) {
    mst_status status = MST_OK;
    char names[128] = "";
    size_t count = levels_here(), used = 0;
    MST_CHECK(count > 0, MST_EUNSUPPORTED,
              "cpu: this processor lacks %s, the least that muster is built for; use device ref",
              levels[0].name);
    *level_out = &levels[count - 1];
    if (name == NULL) goto done;
    for (size_t i = 0; i < count; i++) {
        *level_out = &levels[i];
        if (strcmp(name, levels[i].name) == 0) goto done;
        used +=
            (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", levels[i].name);
    }
    MST_CHECK(false, MST_EUNSUPPORTED, "cpu: instruction-set level '%s' is not available here; these are: %s",
              name, names);
done:
    return status;
}

mst_status mst_kernels_fill_cpu(const char *name, mst_kernels *table) {
    mst_status status = MST_OK;
    const cpu_level *level = NULL;
    char product[96];
    MST_TRY(level_find(name, &level));
    MST_TRY(mst_matmul_cpu_limit(level->name));
    mst_matmul_cpu_class(product, sizeof product);
    *table = (mst_kernels){.name = "cpu"};
    level->fill(table);
    snprintf(table->class_name, sizeof table->class_name, "cpu %s %s bodies-%d", level->name, product,
             REVISION);
done:
    return status;
}
