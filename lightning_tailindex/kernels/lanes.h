/* What the kernels share: neighbouring series lie in the lanes of vector registers, one operation for all of them.

   Written for GCC and Clang, whose vector types become whatever registers the processor has. */

#ifndef LANES_H
#define LANES_H

#include <stdint.h>

#define INTERFACE 2 /* another number whenever there are other kernels or arguments; compiled.py has it too */

#define LANES 16 /* of single precision, in the widest registers there are */
#define BLOCK (2 * LANES)

/* One version of a function for each generation of processors; the right one is chosen when the library is loaded. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

/* Does `work` for series [first, last), which are shared out among as many threads: of the pool that torch has, since it
   is by torch that the library finds the functions of OpenMP, to which it is not linked. Clang would call functions that
   torch's OpenMP, which is GCC's, does not have. */
#if defined(__clang__)
#define SHARED_OUT
#else
#define SHARED_OUT _Pragma("omp parallel for num_threads(threads) if(threads > 1)")
#endif
#define IN_THREADS(threads, series, work)                                                                              \
  SHARED_OUT for (int64_t share = 0; share < threads; share++) {                                                       \
    int64_t first = series * share / threads / BLOCK * BLOCK;                                                          \
    int64_t last = share + 1 < threads ? series * (share + 1) / threads / BLOCK * BLOCK : series;                      \
    work;                                                                                                              \
  }

/* So that a function becomes part of each of these versions. */
#define INLINE static inline __attribute__((always_inline))

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));

/* The one where a mask of comparison tells so, the other elsewhere. */
INLINE lanes choose(mask where, lanes one, lanes other) {
  return (lanes)((where & (mask)one) | (~where & (mask)other));
}

union bits {
  float value;
  int32_t bits;
};

/* Of |x|: larger for larger numbers, and above all of them for NaN. */
INLINE int32_t bits_of_size(float x) {
  union bits u = {.value = x};
  return u.bits & 0x7fffffff;
}

#endif
