/* Sums over the draws of gradients: one pass over memory for what takes three. */

#include "lanes.h"

/* Adds the differences of draws from the first one to their sum; their sum of squares. */
INLINE double add_chunk(const float *gradient, int64_t stride, int64_t draws, const float *first, float *sum,
                        int64_t size) {
  double squares = 0;
  for (int64_t draw = 0; draw < draws; draw++) {
    const float *own = gradient + draw * stride;
    float partial[4 * LANES] = {0};
    int64_t i = 0;
    for (; i + 4 * LANES <= size; i += 4 * LANES)
      for (int l = 0; l < 4 * LANES; l++) {
        float difference = own[i + l] - first[i + l];
        sum[i + l] += difference;
        partial[l] += difference * difference;
      }
    for (; i < size; i++) {
      float difference = own[i] - first[i];
      sum[i] += difference;
      partial[0] += difference * difference;
    }
    for (int l = 0; l < 4 * LANES; l++)
      squares += partial[l];
  }
  return squares;
}

INLINE int64_t chunks_of(int64_t size, int64_t chunk) {
  return (size + chunk - 1) / chunk;
}

FOR_EACH_PROCESSOR
static void add_draws_of(int64_t chunk, const float *const *gradient, const int64_t *stride, int64_t draws,
                         const float *const *first_draw, float *const *sum, const int64_t *size, double *squares,
                         int64_t first, int64_t last) {
  int64_t place = 0;
  for (int64_t p = 0; place < last; p++)
    for (int64_t i = 0; i < size[p] && place < last; i += chunk, place++)
      if (place >= first)
        squares[place] = add_chunk(gradient[p] + i, stride[p], draws, first_draw[p] + i, sum[p] + i,
                                   size[p] - i < chunk ? size[p] - i : chunk);
}

/* Adds draws to the sums of each parameter.

   chunks      of all parameters
   chunk       coordinates in one, whose sum of squares is one number: how threads share them changes no rounding
   gradient    of each parameter, [draws, size], rows `stride` apart
   first_draw  what is subtracted, [size]
   sum         of the differences, [size]
   square      sum of their squares, one number
   size        numbers of coordinates
   squares     memory for a number of each chunk */
void add_draws(int threads, int64_t chunks, int64_t chunk, int64_t parameters, const float *const *gradient,
               const int64_t *stride, int64_t draws, const float *const *first_draw, float *const *sum,
               float *const *square, const int64_t *size, double *squares) {
  IN_THREADS(threads, chunks, add_draws_of(chunk, gradient, stride, draws, first_draw, sum, size, squares, first, last))
  for (int64_t p = 0; p < parameters; p++) {
    double total = 0;
    for (int64_t i = 0; i < chunks_of(size[p], chunk); i++)
      total += *squares++;
    *square[p] += (float)total;
  }
}
