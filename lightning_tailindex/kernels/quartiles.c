/* Quartiles of neighbouring series, sorted all at once. */

#include <math.h>
#include <string.h>

#include "lanes.h"

#define MOST_ROWS 1024

INLINE float smaller(float a, float b) {
  return a < b ? a : b;
}

INLINE float larger(float a, float b) {
  return a < b ? b : a;
}

/* Puts the smaller of every two values first. */
INLINE void order(float *first, float *second) {
  float small[LANES], large[LANES];
  for (int l = 0; l < LANES; l++) {
    small[l] = smaller(first[l], second[l]);
    large[l] = larger(first[l], second[l]);
  }
  memcpy(first, small, sizeof small);
  memcpy(second, large, sizeof large);
}

/* Two steps of the network at once, first with third and second with fourth, then neighbours: what is loaded is used
   twice. */
INLINE void order_four(float *restrict first, float *restrict second, float *restrict third, float *restrict fourth) {
#pragma GCC ivdep
  for (int l = 0; l < LANES; l++) {
    float a = smaller(first[l], third[l]), c = larger(first[l], third[l]);
    float b = smaller(second[l], fourth[l]), d = larger(second[l], fourth[l]);
    first[l] = smaller(a, b), second[l] = larger(a, b);
    third[l] = smaller(c, d), fourth[l] = larger(c, d);
  }
}

/* Batcher's bitonic network: which rows are compared does not depend on the values, so all lanes do the same.
   `rows` is a power of two. */
INLINE void sort(float *value, int64_t rows) {
  for (int64_t run = 2; run <= rows; run *= 2) {
    int64_t reach = run / 2;
    for (; reach >= 2; reach /= 4)
      for (int64_t i = 0; i < rows; i += 2 * reach)
        for (int64_t j = i; j < i + reach / 2; j++) {
          float *a = value + j * LANES, *b = a + reach / 2 * LANES, *c = a + reach * LANES, *d = b + reach * LANES;
          if (i & run)
            order_four(d, c, b, a);
          else
            order_four(a, b, c, d);
        }
    for (int64_t i = 0; reach == 1 && i < rows; i += 2) {
      int64_t is_down = (i & run) != 0;
      order(value + (i + is_down) * LANES, value + (i + 1 - is_down) * LANES);
    }
  }
}

/* Copies values, infinity in place of zeros and NaN, which sorts them behind all others; counts the non-zero ones. */
INLINE void load(const float *x, int64_t width, int absolute, float *out, int32_t *present) {
  for (int64_t l = 0; l < width; l++) {
    float value = absolute ? fabsf(x[l]) : x[l];
    present[l] += value != 0;
    out[l] = value == 0 || value != value ? INFINITY : value;
  }
  for (int64_t l = width; l < LANES; l++)
    out[l] = INFINITY;
}

FOR_EACH_PROCESSOR
static void quartiles_of(const float *x, int64_t stride, const int64_t *row, int64_t rows, int absolute, float *out,
                         int64_t *present, int64_t series, int64_t first, int64_t last) {
  float value[MOST_ROWS * LANES] __attribute__((aligned(4 * LANES)));
  int64_t padded = 1;
  while (padded < rows)
    padded *= 2;
  for (int64_t j = first; j < last; j += LANES) {
    int64_t width = last - j < LANES ? last - j : LANES;
    int32_t count[LANES] = {0};
    for (int64_t i = 0; i < rows; i++)
      if (width == LANES)
        load(x + row[i] * stride + j, LANES, absolute, value + i * LANES, count);
      else
        load(x + row[i] * stride + j, width, absolute, value + i * LANES, count);
    for (int64_t i = rows * LANES; i < padded * LANES; i++)
      value[i] = INFINITY;
    sort(value, padded);
    for (int64_t l = 0; l < width; l++) {
      int64_t n = count[l], place[3] = {n / 4, (n - 1) / 2, n - 1 - n / 4};
      for (int k = 0; k < 3; k++)
        out[k * series + j + l] = n ? value[place[k] * LANES + l] : 0;
      present[j + l] = n;
    }
  }
}

/* Finds the lower quartile, the lower median and the upper quartile of the non-zero values of each series.

   x         values, row i of a series `stride` behind row i - 1
   row       which rows are looked at, as many as `rows`, at most MOST_ROWS
   absolute  whether their absolute values are
   out       [3, series]; 0 for a series of zeros
   present   number of non-zero values, [series] */
void quartiles(int threads, int64_t series, const float *x, int64_t stride, const int64_t *row, int64_t rows,
               int absolute, float *out, int64_t *present) {
  IN_THREADS(threads, series, quartiles_of(x, stride, row, rows, absolute, out, present, series, first, last))
}
