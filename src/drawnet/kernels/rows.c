/* What autograd does between kernels, row by row, so that a replayed sequence needs no other threads.

     add_rows, copy_rows, zero_rows   replay.py   ROWWISE

   Rows of `width` floats lie so many floats apart as is said beside each matrix. */

#include "common.h"

EXPORT void add_rows(long from, long to, long width, const float *a, long a_lead, const float *b,
                     long b_lead, float *out, long lead) {
  ROWS(r)
    for (long k = 0; k < width; k++) out[r * lead + k] = a[r * a_lead + k] + b[r * b_lead + k];
}
EXPORT void copy_rows(long from, long to, long width, const float *a, long a_lead, float *out,
                      long lead) {
  ROWS(r)
    for (long k = 0; k < width; k++) out[r * lead + k] = a[r * a_lead + k];
}
EXPORT void zero_rows(long from, long to, long width, float *out, long lead) {
  ROWS(r) memset(out + r * lead, 0, sizeof(float) * (size_t)width);
}
