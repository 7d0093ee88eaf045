/* The fit of each series by itself: its profile likelihood over the tail index, from the sums to the interval. */

#include "curves.h"
#include "sums.h"

#define MOST_NODES 80

/* log(x) to single precision, for 0 < x < infinity: of the mantissa, between the roots of 1/2 and 2, by the series of
   artanh. */
INLINE lanes logarithm(lanes x) {
  for (int l = 0; l < LANES; l++) {
    union bits u = {.value = x[l]};
    int32_t exponent = (u.bits - 0x3f3504f3) >> 23;
    u.bits -= exponent * (1 << 23);
    float y = (u.value - 1) / (u.value + 1), z = y * y;
    x[l] = (float)exponent * 0.693147181f +
           2 * y * (1 + z * (1.f / 3 + z * (1.f / 5 + z * (1.f / 7 + z * (1.f / 9)))));
  }
  return x;
}

/* Profile likelihood, logarithm of the scale and share of the outermost scales at all nodes, for a block of series. */
struct block {
  pair profile[MOST_NODES], scale[MOST_NODES], edge[MOST_NODES];
};

INLINE void profile(const pair *counts, const float *table, int64_t scales, int64_t nodes, int64_t cells,
                    float smallest, const float *step, const float *median, struct block *out) {
  pair value[MOST_SCALES], sum[6];
  for (int64_t node = 0; node < nodes; node++) {
    multiply_rows(counts, table + node * cells, nodes * cells, scales, cells, value);
    for (int k = 0; k < 2; k++) {
      sum_up(value, k, scales, smallest, sum);
      lanes mass = sum[1][k], squares = sum[4][k];
      out->profile[node][k] = sum[0][k] + logarithm(squares / mass) + 0.5f * 0.693147181f;
      out->scale[node][k] = (2 * sum[5][k] / squares - sum[2][k] / mass) * step[node] - median[node];
      out->edge[node][k] = sum[3][k] / mass;
    }
  }
}

FOR_EACH_PROCESSOR
static void fit_of(const float *counts, int64_t stride, const int64_t *row, const float *table, int64_t scales, int64_t nodes,
                   int64_t cells, float smallest, const float *step, const float *median, const float *threshold,
                   float pole, float pole_over_threshold, float before, float *out, int64_t series, int64_t first, int64_t last) {
  pair own[MOST_CELLS];
  struct block at;
  struct peak found;
  for (int64_t j = first; j < last; j += BLOCK) {
    gather(counts, stride, cells, row, j, last, own);
    profile(own, table, scales, nodes, cells, smallest, step, median, &at);
    for (int64_t k = j; k < last && k < j + BLOCK; k += LANES) {
      const float *curve = (float *)at.profile + k - j, *scale = (float *)at.scale + k - j;
      find_highest(curve, BLOCK, nodes, &found);
      refine(curve, BLOCK, nodes, pole, &found);
      for (int64_t l = 0; l < LANES && k + l < last; l++) {
        float place = found.place[l], low, high, own_pole = pole_over_threshold * threshold[k + l];
        find_interval(curve + l, BLOCK, nodes, place, found.value[l], threshold[k + l], own_pole, before, &low, &high);
        int64_t node = (int64_t)place < nodes - 2 ? (int64_t)place : nodes - 2;
        float below = scale[node * BLOCK + l], above = scale[(node + 1) * BLOCK + l];
        float fields[] = {place,
                          low,
                          high,
                          below + (place - (float)node) * (above - below),
                          found.value[l],
                          ((float *)at.edge)[(int64_t)found.node[l] * BLOCK + k - j + l],
                          curve[l],
                          curve[(nodes - 1) * BLOCK + l]};
        for (int field = 0; field < 8; field++)
          out[field * series + k + l] = fields[field];
      }
    }
  }
}

/* Fits each series.

   counts     [all series, cells], rows `stride` apart
   row        which of all series, [series]; null for all
   table      log-probabilities, [scales, nodes, cells], at most MOST_SCALES, MOST_NODES, MOST_CELLS
   smallest   logarithm that those of the likelihood over its maximum are raised to
   step       distance of the log-scales, [nodes]
   median     logarithm of the median of |X| at scale 1, [nodes]
   threshold  of twice the fall of the profile, up to which an interval goes, [series]
   pole       fall to the last node by which a pole is known; infinity where there is none
   pole_over_threshold  the same for intervals, over their threshold
   before     how far before a pole an interval ends
   out        place of the maximum, of both ends of its interval, logarithm of the scale, value of the maximum, share of
              the outermost scales at the highest node, value at the first and the last node, [8, series] */
void fit(int threads, int64_t series, const float *counts, int64_t stride, const int64_t *row, const float *table, int64_t scales,
         int64_t nodes, int64_t cells, float smallest, const float *step, const float *median, const float *threshold,
         float pole, float pole_over_threshold, float before, float *out) {
  IN_THREADS(threads, series,
             fit_of(counts, stride, row, table, scales, nodes, cells, smallest, step, median, threshold, pole, pole_over_threshold, before, out,
                    series, first, last))
}
