/* Sums of the likelihood over the scales. */

#ifndef SUMS_H
#define SUMS_H

#include "products.h"

#define MOST_SCALES 704

/* exp(x) to single precision, at least exp(smallest), for x <= 0: 2 to the integer part by its exponent, 2 to the rest,
   at most 1/2, by its Taylor series. */
INLINE lanes exponential(lanes x, float smallest) {
  for (int l = 0; l < LANES; l++) {
    float y = (x[l] < smallest ? smallest : x[l]) * 1.44269504f;
    float whole = (y + 12582912.f) - 12582912.f, rest = y - whole; /* so large that its last bit is 1 */
    float sum = 1.5403530e-4f;
    sum = sum * rest + 1.3333558e-3f;
    sum = sum * rest + 9.6181291e-3f;
    sum = sum * rest + 5.5504109e-2f;
    sum = sum * rest + 2.4022651e-1f;
    sum = sum * rest + 6.9314718e-1f;
    sum = sum * rest + 1;
    union bits power = {.bits = ((int32_t)whole + 127) << 23};
    x[l] = sum * power.value;
  }
  return x;
}

/* The maximum over the scales, then sums of the likelihood over it: of 1, of the place from the middle, of the two
   outermost; and the first two of its square. */
INLINE void sum_up(const pair *value, int k, int64_t scales, float smallest, pair *out) {
  lanes largest = value[0][k], sums[5] = {{0}};
  for (int64_t s = 1; s < scales; s++)
    largest = choose(value[s][k] > largest, value[s][k], largest);
  for (int64_t s = 0; s < scales; s++) {
    lanes relative = exponential(value[s][k] - largest, smallest), square = relative * relative;
    float place = (float)(s - scales / 2);
    sums[0] += relative;
    sums[1] += place * relative;
    sums[2] += (float)(s == 0 || s == scales - 1) * relative;
    sums[3] += square;
    sums[4] += place * square;
  }
  out[0][k] = largest;
  for (int field = 0; field < 5; field++)
    out[field + 1][k] = sums[field];
}

#endif
