#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GW_SUM_NONE = 1 };

/* sum: is this piece what it was? A keyed 64-bit sum, neither 0 nor GW_SUM_NONE. Two different
 * pieces have the same one with probability 2^-63; the key is this process's
 * own, so nobody can look for such a pair. Any thread. */
uint64_t gw_sum(const uint8_t *p, size_t n);
bool gw_is_zero(const uint8_t *p, size_t n);
