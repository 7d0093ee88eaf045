/* Log-likelihoods of a block of series: counts times log-probabilities of their cells. */

#ifndef PRODUCTS_H
#define PRODUCTS_H

#include <string.h>

#include "lanes.h"

#define MOST_CELLS 128

typedef lanes pair[2]; /* a block of series, which share what is loaded of the table */

/* Counts of a block of series, [cells], from rows of [all series, cells]: from row j on, or from those that `row` tells
   from there on, where there is one. Beyond the last series they are 0. */
INLINE void gather(const float *counts, int64_t stride, int64_t cells, const int64_t *row, int64_t j, int64_t last,
                   pair *out) {
  memset(out, 0, (size_t)cells * sizeof *out);
  for (int64_t l = 0; l < BLOCK && j + l < last; l++) {
    const float *own = counts + (row ? row[j + l] : j + l) * stride;
    for (int64_t c = 0; c < cells; c++)
      ((float *)out)[c * BLOCK + l] = own[c];
  }
}

/* Four rows of products, `stride` apart in the table: so many that their sums fill the registers. */
INLINE void multiply_four(const pair *counts, const float *table, int64_t stride, int64_t cells, pair *out) {
  const float *a = table, *b = a + stride, *c = b + stride, *d = c + stride;
  pair p = {{0}}, q = {{0}}, r = {{0}}, s = {{0}};
  for (int64_t cell = 0; cell < cells; cell++) {
    lanes x = counts[cell][0], y = counts[cell][1];
    p[0] += a[cell] * x, p[1] += a[cell] * y;
    q[0] += b[cell] * x, q[1] += b[cell] * y;
    r[0] += c[cell] * x, r[1] += c[cell] * y;
    s[0] += d[cell] * x, s[1] += d[cell] * y;
  }
  out[0][0] = p[0], out[0][1] = p[1];
  out[1][0] = q[0], out[1][1] = q[1];
  out[2][0] = r[0], out[2][1] = r[1];
  out[3][0] = s[0], out[3][1] = s[1];
}

/* One row, its sum in two parts: each addition waits for the one before. */
INLINE void multiply(const pair *counts, const float *table, int64_t cells, pair *out) {
  pair even = {{0}}, odd = {{0}};
  for (int64_t cell = 0; cell + 1 < cells; cell += 2) {
    even[0] += table[cell] * counts[cell][0], even[1] += table[cell] * counts[cell][1];
    odd[0] += table[cell + 1] * counts[cell + 1][0], odd[1] += table[cell + 1] * counts[cell + 1][1];
  }
  for (int64_t cell = cells / 2 * 2; cell < cells; cell++)
    even[0] += table[cell] * counts[cell][0], even[1] += table[cell] * counts[cell][1];
  (*out)[0] = even[0] + odd[0], (*out)[1] = even[1] + odd[1];
}

/* All rows of products. */
INLINE void multiply_rows(const pair *counts, const float *table, int64_t stride, int64_t rows, int64_t cells,
                          pair *out) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4)
    multiply_four(counts, table + row * stride, stride, cells, out + row);
  for (; row < rows; row++)
    multiply(counts, table + row * stride, cells, out + row);
}

#endif
