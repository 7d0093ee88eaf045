/* Values counted in logarithmic cells. */

#include <string.h>

#include "lanes.h"

#define ROWS 256 /* of all series before the next ones, so that their pages of memory stay known */

/* Bins of neighbouring values: 0 for what is left out, else the cell and 1. */
INLINE void find_bins(const float *x, const float *middle, const float *factor, int shift, int32_t lowest,
                      int32_t highest, uint8_t *bin, int32_t *largest) {
  for (int l = 0; l < LANES; l++) {
    float value = x[l] == 0 ? middle[l] : x[l];
    int32_t leading = bits_of_size((value - middle[l]) * factor[l]) >> shift, size = bits_of_size(x[l]);
    int32_t cell = leading < lowest ? lowest : leading > highest ? highest : leading;
    bin[l] = (uint8_t)(cell - lowest + (leading > 0));
    largest[l] = largest[l] > size ? largest[l] : size;
  }
}

FOR_EACH_PROCESSOR
static void count_of(const float *x, int64_t rows, int64_t stride, const float *middle, const float *factor,
                     int32_t shift, int32_t lowest, int32_t bins, float *counts, uint8_t *index, uint8_t *finite,
                     int64_t first, int64_t last) {
  memset(counts + first * bins, 0, (size_t)((last - first) * bins) * sizeof *counts);
  memset(finite + first, 1, (size_t)(last - first));
  for (int64_t start = 0; start < rows; start += ROWS) {
    int64_t stop = rows - start < ROWS ? rows : start + ROWS;
    for (int64_t j = first; j < last; j += LANES) {
      int64_t width = last - j < LANES ? last - j : LANES;
      float row[LANES] = {0}, own_middle[LANES] = {0}, own_factor[LANES] = {0};
      int32_t largest[LANES] = {0};
      uint8_t bin[ROWS][LANES]; /* first all of them, then the counts: loads between so many stores would wait */
      memcpy(own_middle, middle + j, (size_t)width * sizeof *middle);
      memcpy(own_factor, factor + j, (size_t)width * sizeof *factor);
      for (int64_t i = start; i < stop; i++) {
        const float *values = x + i * stride + j;
        if (width < LANES) /* behind the last series lie no values */
          values = memcpy(row, values, (size_t)width * sizeof *values);
        find_bins(values, own_middle, own_factor, shift, lowest, lowest + bins - 2, bin[i - start], largest);
      }
      for (int64_t i = 0; i < stop - start; i++)
        for (int64_t l = 0; l < width; l++)
          counts[(j + l) * bins + bin[i][l]] += 1;
      for (int64_t l = 0; index && l < width; l++)
        for (int64_t i = start; i < stop; i++)
          index[(j + l) * rows + i] = bin[i - start][l];
      for (int64_t l = 0; l < width; l++)
        finite[j + l] &= largest[l] < 0x7f800000;
    }
  }
}

/* Counts the values of each series in cells of the exponent and the first bits of the mantissa of
   |x - middle| * factor. An exact zero is left out, wherever the middle is.

   x       values, row i of a series `stride` behind row i - 1
   shift   bits of the representation that are left out
   lowest  what is left of those of the lowest cell; all that is smaller falls into it
   bins    one for what is left out, and the cells
   counts  [series, bins]
   index   bin of each value, [series, rows], or null
   finite  whether all values of the series are, [series] */
void count(int threads, int64_t series, const float *x, int64_t rows, int64_t stride, const float *middle,
           const float *factor, int32_t shift, int32_t lowest, int32_t bins, float *counts, uint8_t *index,
           uint8_t *finite) {
  IN_THREADS(threads, series,
             count_of(x, rows, stride, middle, factor, shift, lowest, bins, counts, index, finite, first, last))
}
