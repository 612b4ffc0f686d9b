/* enum cpu_feature: one bit for each CPUID feature flag, from cpu/features.def. */
#ifndef NESTOR_CPU_FEATURES_H
#define NESTOR_CPU_FEATURES_H

enum cpu_feature {
#define FEATURE(name, text, leaf, subleaf, reg, bit) FEATURE_##name,
#include "cpu/features.def"
#undef FEATURE
    FEATURE_COUNT
};

#endif
