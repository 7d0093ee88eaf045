/* Maxima of curves that are products. */

#include "curves.h"
#include "products.h"

#define MOST_NODES 256

FOR_EACH_PROCESSOR
static void peaks_of(const float *counts, int64_t stride, const int64_t *row, const float *table, const int64_t *limit,
                     const uint8_t *between, int64_t curves, int64_t cells, float *out, int64_t series, int64_t first,
                     int64_t last) {
  pair own[MOST_CELLS], curve[MOST_NODES];
  struct peak found;
  for (int64_t j = first; j < last; j += BLOCK) {
    gather(counts, stride, cells, row, j, last, own);
    multiply_rows(own, table, cells, limit[curves], cells, curve);
    for (int64_t k = j; k < last && k < j + BLOCK; k += LANES)
      for (int64_t c = 0; c < curves; c++) {
        const float *values = (float *)(curve + limit[c]) + k - j;
        size_t size = (size_t)(last - k < LANES ? last - k : LANES) * sizeof *out;
        find_highest(values, BLOCK, limit[c + 1] - limit[c], &found);
        if (between[c])
          refine(values, BLOCK, limit[c + 1] - limit[c], INFINITY, &found);
        memcpy(out + 2 * c * series + k, found.node, size);
        memcpy(out + (2 * c + 1) * series + k, between[c] ? found.value : found.top, size);
      }
  }
}

/* Finds the maxima of some curves of each series.

   counts   [all series, cells], rows `stride` apart
   row      which of all series, [series]; null for all
   table    [nodes of all curves, cells], at most MOST_NODES and MOST_CELLS
   limit    where the nodes of each curve begin and where the last ones end, [curves + 1]
   between  whether the maximum of a curve is also looked for between its nodes, at least five, [curves]
   out      the highest node and the value of the maximum, [curves, 2, series] */
void peaks(int threads, int64_t series, const float *counts, int64_t stride, const int64_t *row, const float *table,
           const int64_t *limit, const uint8_t *between, int64_t curves, int64_t cells, float *out) {
  IN_THREADS(threads, series,
             peaks_of(counts, stride, row, table, limit, between, curves, cells, out, series, first, last))
}
