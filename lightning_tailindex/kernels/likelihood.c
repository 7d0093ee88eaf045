/* The likelihood of counts, summed up over the scales without being stored. */

#include "sums.h"

FOR_EACH_PROCESSOR
static void likelihood_of(const float *counts, int64_t stride, const int64_t *row, const float *table, int64_t scales, int64_t nodes,
                          int64_t cells, float smallest, float *out, int64_t series, int64_t first, int64_t last) {
  pair own[MOST_CELLS], value[MOST_SCALES];
  for (int64_t j = first; j < last; j += BLOCK) {
    int64_t width = last - j < BLOCK ? last - j : BLOCK;
    gather(counts, stride, cells, row, j, last, own);
    for (int64_t node = 0; node < nodes; node++) {
      multiply_rows(own, table + node * cells, nodes * cells, scales, cells, value);
      pair found[6];
      sum_up(value, 0, scales, smallest, found);
      sum_up(value, 1, scales, smallest, found);
      for (int field = 0; field < 6; field++)
        memcpy(out + (field * nodes + node) * series + j, found[field], (size_t)width * sizeof *out);
    }
  }
}

/* Sums of the likelihood of each series.

   counts    [all series, cells], rows `stride` apart
   row       which of all series, [series]; null for all
   table     log-probabilities, [scales, nodes, cells], at most MOST_SCALES and MOST_CELLS
   smallest  logarithm of the smallest likelihood relative to the largest that is told from 0
   out       what sum_up tells, [6, nodes, series] */
void likelihood_sums(int threads, int64_t series, const float *counts, int64_t stride, const int64_t *row, const float *table,
                     int64_t scales, int64_t nodes, int64_t cells, float smallest, float *out) {
  IN_THREADS(threads, series,
             likelihood_of(counts, stride, row, table, scales, nodes, cells, smallest, out, series, first, last))
}
