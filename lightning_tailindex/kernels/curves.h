/* Maxima and intervals of log-likelihood curves, sampled at evenly spaced nodes; _curves.py says what is computed.

   Curves lie side by side, their values at the next node `stride` further on. `pole` is how much a curve falls to the
   last node where it has a pole there; infinity where it cannot have one. */

#ifndef CURVES_H
#define CURVES_H

#include <math.h>

#include "lanes.h"

#define NEWTON_STEPS 3

INLINE float least(float a, float b) {
  return a < b ? a : b;
}

INLINE float clamp(float x, float low, float high) {
  return x < low ? low : x > high ? high : x;
}

/* Place and value of the maximum of a quartic through values at -2 to 2, near x: between low and high. */
INLINE void climb(float a, float b, float c, float d, float e, float x, float low, float high, float *place,
                  float *value) {
  float near = d - b, far = e - a, inner = b + d - 2 * c, outer = a + e - 2 * c;
  float s0 = near * (2.f / 3) - far / 12, s1 = inner * (4.f / 3) - outer / 12; /* the derivative's coefficients */
  float s2 = far / 4 - near / 2, s3 = outer / 6 - inner * (2.f / 3);
  for (int step = 0; step < NEWTON_STEPS; step++) {
    float slope = s0 + x * (s1 + x * (s2 + x * s3)), bend = s1 + x * (2 * s2 + x * (3 * s3));
    x = clamp(bend < 0 ? x - slope / bend : x, low, high);
  }
  *place = x;
  *value = c + x * (s0 + x * (s1 / 2 + x * (s2 / 3 + x * (s3 / 4))));
}

/* What is told of the maxima of neighbouring curves: the highest node, the last of several, the value there, the place of
   the maximum and its value. */
struct peak {
  float node[LANES], top[LANES], place[LANES], value[LANES];
};

INLINE void find_highest(const float *curve, int64_t stride, int64_t nodes, struct peak *out) {
  for (int l = 0; l < LANES; l++)
    out->node[l] = 0, out->top[l] = curve[l];
  for (int64_t k = 1; k < nodes; k++)
    for (int l = 0; l < LANES; l++) {
      int is_higher = curve[k * stride + l] >= out->top[l];
      out->node[l] = is_higher ? (float)k : out->node[l];
      out->top[l] = is_higher ? curve[k * stride + l] : out->top[l];
    }
}

/* The maxima of quartics around the highest nodes. */
INLINE void refine(const float *curve, int64_t stride, int64_t nodes, float pole, struct peak *out) {
  float around[5][LANES], middle[LANES], most[LANES], end = (float)(nodes - 1);
  for (int l = 0; l < LANES; l++) {
    float fall = curve[(nodes - 2) * stride + l] - curve[(nodes - 1) * stride + l] > pole;
    most[l] = end - fall;
    middle[l] = clamp(least(out->node[l], most[l] - 2), 2, end);
  }
  for (int l = 0; l < LANES; l++)
    for (int k = 0; k < 5; k++)
      around[k][l] = curve[((int64_t)middle[l] + k - 2) * stride + l] - out->top[l];
  for (int l = 0; l < LANES; l++) {
    float node = out->node[l], x = node - middle[l], found, gain;
    climb(around[0][l], around[1][l], around[2][l], around[3][l], around[4][l], x, x - 1,
          least(x + 1, most[l] - middle[l]), &found, &gain);
    int inside = (node > 0) & (node < end) & (gain > 0);
    out->place[l] = inside ? middle[l] + found : node;
    out->value[l] = out->top[l] + (inside ? gain : 0);
  }
}

/* Root of twice the fall from the maximum. */
INLINE float root(float top, float value) {
  float fall = 2 * (top - value);
  return fall > 0 ? sqrtf(fall) : 0;
}

/* Where the root passes a level, from a node outside to the next one inside, or to the maximum before it. */
INLINE float crossing(const float *curve, int64_t series, int64_t outside, int64_t inside, float place, float top,
                      float level) {
  int is_nearer = ((float)inside - place) * ((float)outside - place) < 0;
  float start = is_nearer ? place : (float)inside, y0 = is_nearer ? 0 : root(top, curve[inside * series]);
  return start + ((float)outside - start) * ((level - y0) / (root(top, curve[outside * series]) - y0));
}

/* Places up to which 2 (top - curve) <= threshold, within the nodes; `before` a pole. */
INLINE void find_interval(const float *curve, int64_t stride, int64_t nodes, float place, float top, float threshold,
                          float pole, float before, float *low, float *high) {
  int64_t end = nodes - 1, below = (int64_t)ceilf(place) - 1, above = (int64_t)floorf(place) + 1;
  int fall = curve[(end - 1) * stride] - curve[end * stride] > pole;
  float level = sqrtf(threshold);
  while (below >= 0 && 2 * (top - curve[below * stride]) <= threshold)
    below--;
  while (above <= end - fall && 2 * (top - curve[above * stride]) <= threshold)
    above++;
  *low = below < 0 ? 0 : crossing(curve, stride, below, below + 1, place, top, level);
  *high = above > end - fall ? (float)end - (float)fall * before
                             : crossing(curve, stride, above, above - 1, place, top, level);
}

#endif
